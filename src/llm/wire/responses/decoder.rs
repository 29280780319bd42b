//! Decodes responses: items, each added, filled and done. Servers that imitate OpenAI omit some of these events; what an item
//! holds at its end, or the whole answer at its end, replaces what was not sent before.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    super::{
        AnswerEnd, Decoder, EventPart, FinishReason, ModelFailure, RawCall, ToolCall, Usage, finish,
        json::{count, documents, identifier, is_done, says_nothing, text, unreadable},
        tokens,
    },
    request::{call, said},
};
use crate::llm::{SelectedModel, reported, surrogates::SurrogateJoiner};

/// Items of tools that the server runs itself; their results are in the text.
const SERVERS_OWN: [&str; 7] = [
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call",
    "mcp_list_tools", "mcp_call", "compaction",
];

/// An item of the answer, as far as it has arrived.
#[derive(Debug, Default)]
struct ResponseItem {
    /// The server's id for it.
    id: Option<String>,
    /// Its type at the time it was added.
    kind: Option<String>,
    /// The complete item, as the server sent it at its end.
    whole: Option<Value>,
    /// The text that has arrived, by part.
    said: BTreeMap<u64, String>,
    /// Whether some of its reasoning has arrived.
    reasoned: bool,
    call: Option<RawCall>,
}

impl ResponseItem {
    fn kind(&self) -> &str {
        match (&self.whole, &self.kind) {
            (Some(whole), _) => text(whole, "type").unwrap_or("message"),
            (None, Some(kind)) => kind,
            _ if self.call.is_some() => "function_call",
            _ if self.reasoned => "reasoning",
            _ => "message",
        }
    }
}

pub(super) struct ResponsesDecoder {
    selected: Arc<SelectedModel>,
    items: BTreeMap<u64, ResponseItem>,
    refusal: String,
    finish: Option<FinishReason>,
    usage: Usage,
}

impl ResponsesDecoder {
    pub(super) fn new(selected: Arc<SelectedModel>) -> Self {
        Self {
            selected,
            items: BTreeMap::new(),
            refusal: String::new(),
            finish: None,
            usage: Usage::default(),
        }
    }

    /// Returns the position of the item that an event is about: the stated one, else by its id, else the latest.
    fn place(&self, document: &Value) -> u64 {
        let id = item_id(document);
        let named =
            || self.items.iter().find(|(_, item)| id.is_some() && item.id == id).map(|(place, _)| *place);
        let last = self.items.keys().next_back().copied();
        let latest = || match (last, &id) {
            // An unknown id begins a new item.
            (Some(last), Some(_)) => last + 1,
            (last, _) => last.unwrap_or(0),
        };
        count(document.get("output_index")).or_else(named).unwrap_or_else(latest)
    }

    fn item(&mut self, document: &Value) -> &mut ResponseItem {
        let (place, id) = (self.place(document), item_id(document));
        let item = self.items.entry(place).or_default();
        item.id = item.id.take().or(id);
        item
    }

    fn document(
        &mut self,
        name: &str,
        document: &Value,
        parts: &mut Vec<EventPart>,
    ) -> Result<(), ModelFailure> {
        let kind = text(document, "type").unwrap_or(name);
        let response = document.get("response").unwrap_or(&Value::Null);
        if let Some(error) =
            reported::in_document(name, document).or_else(|| reported::in_document("", response))
        {
            return Err(reported::failure(error, None, &self.selected));
        }
        let delta = text(document, "delta");
        match kind {
            "response.output_item.added" => self.added(document)?,
            "response.output_item.done" => {
                if let Some(whole) = document.get("item").filter(|item| item.is_object()) {
                    self.item(document);
                    self.done(self.place(document), whole, parts)?;
                }
            }
            "response.output_text.delta" => {
                if let Some(piece) = delta {
                    let part = count(document.get("content_index")).unwrap_or(0);
                    self.item(document).said.entry(part).or_default().push_str(piece);
                    parts.push(EventPart::Text(piece.to_owned()));
                }
            }
            "response.refusal.delta" => self.refusal.push_str(delta.unwrap_or_default()),
            "response.refusal.done" if self.refusal.is_empty() => {
                self.refusal.push_str(text(document, "refusal").unwrap_or_default());
            }
            "response.function_call_arguments.delta" => {
                if let Some(piece) = delta {
                    let item = self.item(document);
                    item.call.get_or_insert_default().arguments.push_str(piece);
                }
            }
            "response.function_call_arguments.done" => {
                if let Some(whole) = document.get("arguments") {
                    let (name, whole) = (text(document, "name").map(str::to_owned), arguments(whole));
                    let call = self.item(document).call.get_or_insert_default();
                    call.arguments = whole;
                    if call.name.is_empty() {
                        call.name = name.unwrap_or_default();
                    }
                }
            }
            "response.reasoning_summary_text.delta"
            | "response.reasoning_text.delta"
            | "response.reasoning.delta"
            | "response.reasoning_summary.delta" => {
                if let Some(piece) = delta {
                    self.item(document).reasoned = true;
                    parts.push(EventPart::Reasoning(piece.to_owned()));
                }
            }
            "response.reasoning_summary_part.added" if self.item(document).reasoned => {
                parts.push(EventPart::Reasoning("\n\n".to_owned()));
            }
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                self.end(kind, response, parts)?;
            }
            // Keep-alive events, ends of parts, tools that the server runs, and events of later versions need no action.
            _ => {}
        }
        Ok(())
    }

    fn added(&mut self, document: &Value) -> Result<(), ModelFailure> {
        let item = document.get("item").unwrap_or(&Value::Null);
        if text(item, "type") == Some("function_call") {
            let begun = raw_call(item);
            let known = self.item(document).call.get_or_insert_default();
            // The arguments of this event are dropped, because they may be sent once more in pieces.
            *known = RawCall { arguments: std::mem::take(&mut known.arguments), ..begun };
        }
        self.item(document).kind = text(item, "type").map(str::to_owned);
        Ok(())
    }

    /// Completes an item: what it holds and has not arrived before is added now.
    fn done(&mut self, place: u64, whole: &Value, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        let item = self.items.entry(place).or_default();
        if item.whole.is_some() {
            return Ok(());
        }
        match text(whole, "type").unwrap_or("message") {
            "message" => {
                let content = match whole.get("content") {
                    Some(Value::Array(content)) => content.clone(),
                    Some(Value::String(words)) => vec![json!({"type": "output_text", "text": words})],
                    _ => Vec::new(),
                };
                for (part, content) in (0..).zip(&content) {
                    let said = item.said.entry(part).or_default();
                    match text(content, "type").unwrap_or("output_text") {
                        "output_text" | "text" | "input_text" => {
                            let words = text(content, "text").unwrap_or_default();
                            // Adds what exceeds the text that has arrived; if the two differ, the one that was shown counts.
                            if let Some(rest) =
                                words.strip_prefix(said.as_str()).filter(|rest| !rest.is_empty())
                            {
                                parts.push(EventPart::Text(rest.to_owned()));
                                said.push_str(rest);
                            }
                        }
                        "refusal" if self.refusal.is_empty() => {
                            self.refusal.push_str(text(content, "refusal").unwrap_or("it gives no reason"));
                        }
                        "refusal" => {}
                        kind if !says_nothing(content) => {
                            return Err(unreadable(
                                &format!("a part of the type {kind}: {content}"),
                                &self.selected,
                            ));
                        }
                        _ => {}
                    }
                }
            }
            "function_call" => {
                let last = raw_call(whole);
                let call = item.call.get_or_insert_default();
                let given = if last.arguments.is_empty() {
                    std::mem::take(&mut call.arguments)
                } else {
                    last.arguments
                };
                let name = if last.name.is_empty() { std::mem::take(&mut call.name) } else { last.name };
                *call = RawCall { id: last.id.or(call.id.take()), name, arguments: given };
            }
            "reasoning" => {
                let words = ["summary", "content"]
                    .iter()
                    .filter_map(|member| whole.get(*member)?.as_array())
                    .flatten();
                if !item.reasoned {
                    for words in words.filter_map(|part| text(part, "text")) {
                        parts.push(EventPart::Reasoning(words.to_owned()));
                    }
                }
            }
            kind if SERVERS_OWN.contains(&kind) => {}
            kind => {
                return Err(unreadable(&format!("an item of the type {kind}: {whole}"), &self.selected));
            }
        }
        item.whole = Some(whole.clone());
        Ok(())
    }

    /// Ends the answer; this event repeats all of it.
    fn end(&mut self, kind: &str, response: &Value, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        let mut kinds = BTreeMap::new();
        for whole in response.get("output").and_then(Value::as_array).into_iter().flatten() {
            let kind = text(whole, "type").unwrap_or("message").to_owned();
            let nth = kinds.entry(kind.clone()).or_insert(0_usize);
            // Some servers assign new ids and positions here, so the first message is matched with the first message.
            let known = self.items.iter().filter(|(_, item)| item.kind() == kind).nth(*nth);
            let place = known.map(|(place, _)| *place);
            let next = || self.items.keys().next_back().map_or(0, |last| last + 1);
            *nth += 1;
            self.done(place.unwrap_or_else(next), whole, parts)?;
        }
        self.usage.update(&response.get("usage").map(tokens::read).unwrap_or_default());
        let reason = response.get("incomplete_details").and_then(|details| text(details, "reason"));
        let status = text(response, "status").unwrap_or(kind.trim_start_matches("response."));
        self.finish = Some(match (status, reason) {
            ("completed", _) => FinishReason::Natural,
            ("incomplete", Some(reason)) => {
                finish::read(reason).unwrap_or_else(|| FinishReason::Other(reason.to_owned()))
            }
            (status, reason) => FinishReason::Other(reason.unwrap_or(status).to_owned()),
        });
        Ok(())
    }
}

/// Returns the server's id for the item that an event is about.
fn item_id(document: &Value) -> Option<String> {
    identifier(document.get("item_id")).or_else(|| identifier(document.get("item")?.get("id")))
}

/// Returns arguments as text, whether they are text or the object itself.
fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn raw_call(item: &Value) -> RawCall {
    RawCall {
        id: identifier(item.get("call_id")).or_else(|| identifier(item.get("id"))),
        name: text(item, "name").unwrap_or_default().to_owned(),
        arguments: item.get("arguments").map(arguments).unwrap_or_default(),
    }
}

impl Decoder for ResponsesDecoder {
    fn event(&mut self, name: &str, data: &str, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        if is_done(data) || data.trim().is_empty() {
            return Ok(());
        }
        for document in documents(data, &self.selected)? {
            self.document(name, &document, parts)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.finish.is_some()
    }

    fn is_complete(&self) -> bool {
        self.finish.is_some()
    }

    fn calls(&self) -> usize {
        self.items.values().filter(|item| item.call.is_some()).count()
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn answer(&mut self) -> AnswerEnd {
        AnswerEnd {
            calls: self.items.values().filter_map(|item| item.call.clone()).collect(),
            finish: self.finish.take(),
            refusal: std::mem::take(&mut self.refusal),
        }
    }

    /// Returns the items as they were received: reasoning is encrypted, and precedes what follows from it.
    fn native(&self, _: &str, calls: &[ToolCall]) -> Value {
        let mut calls = calls.iter();
        let items = self.items.values().filter_map(|item| {
            if item.call.is_some() {
                return calls.next().map(call);
            }
            match &item.whole {
                Some(whole) if text(whole, "type") == Some("reasoning") => {
                    // A server that stores nothing cannot read reasoning without its encrypted part.
                    whole.get("encrypted_content").is_some_and(Value::is_string).then(|| whole.clone())
                }
                _ => {
                    let words: String = item.said.values().map(String::as_str).collect();
                    (!words.is_empty()).then(|| said(&SurrogateJoiner::whole(words)))
                }
            }
        });
        json!({"role": "assistant", "items": items.collect::<Vec<_>>()})
    }
}
