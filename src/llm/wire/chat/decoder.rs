//! Decodes responses: chunks, each with a delta. A value of an unexpected type is an error only if it has content.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    super::{
        AnswerEnd, Decoder, EventPart, FinishReason, ModelFailure, ToolCall, Usage,
        calls::{Assembly, Fragment},
        finish,
        json::{count, documents, is_done, says_nothing, text, unreadable},
        tokens,
    },
    delta::only_text,
    request::of,
};
use crate::llm::{SelectedModel, reported, surrogates::SurrogateJoiner};

/// The maximum number of pieces of reasoning that are sent back.
const MAX_DETAILS: usize = 256;
/// Members of a delta that are not part of the answer.
const IGNORED: &[&str] =
    &["role", "name", "tool_call_id", "id", "annotations", "citations", "logprobs", "channel", "index"];

pub(super) struct ChatDecoder {
    selected: Arc<SelectedModel>,
    calls: Assembly,
    finish: Option<FinishReason>,
    is_done: bool,
    refusal: String,
    usage: Usage,
    /// What is sent back unchanged: the reasoning, in the members in which the server sent it.
    reasoning: String,
    reasoning_member: &'static str,
    reasoning_details: Vec<Value>,
}

impl ChatDecoder {
    pub(super) fn new(selected: Arc<SelectedModel>) -> Self {
        Self {
            selected,
            calls: Assembly::default(),
            finish: None,
            is_done: false,
            refusal: String::new(),
            usage: Usage::default(),
            reasoning: String::new(),
            reasoning_member: "reasoning_content",
            reasoning_details: Vec::new(),
        }
    }

    fn chunk(&mut self, name: &str, chunk: &Value, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        if let Some(error) = reported::in_document(name, chunk) {
            return Err(reported::failure(error, None, &self.selected));
        }
        self.read_usage(chunk);
        let choices: Vec<&Value> = match chunk.get("choices") {
            None if chunk.get("message").or_else(|| chunk.get("delta")).is_some() => vec![chunk],
            Some(Value::Array(choices)) => choices.iter().collect(),
            Some(choice @ Value::Object(members)) => {
                if members.contains_key("delta") || members.contains_key("message") {
                    vec![choice]
                } else {
                    members.values().collect()
                }
            }
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(unreadable(&other.to_string(), &self.selected)),
        };
        // Only one answer was requested; additional choices are not part of it.
        for choice in choices.into_iter().filter(|choice| count(choice.get("index")).unwrap_or(0) == 0) {
            self.choice(choice, parts)?;
        }
        Ok(())
    }

    fn choice(&mut self, choice: &Value, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        if let Some(error) = reported::in_document("", choice) {
            return Err(reported::failure(error, None, &self.selected));
        }
        let delta = choice.get("delta").filter(|delta| !delta.is_null()).or_else(|| choice.get("message"));
        match delta {
            Some(Value::Object(delta)) => self.delta(delta, parts)?,
            Some(Value::String(content)) if !content.is_empty() => {
                parts.push(EventPart::Text(content.clone()))
            }
            Some(other) if !says_nothing(other) => {
                return Err(unreadable(&other.to_string(), &self.selected));
            }
            _ => {
                if let Some(content) = choice.as_str().or_else(|| text(choice, "text")) {
                    parts.push(EventPart::Text(content.to_owned()));
                }
            }
        }
        if let Some(reason) = text(choice, "finish_reason").and_then(finish::read) {
            self.finish = Some(match self.finish.take() {
                Some(earlier) => earlier.or_worse(reason),
                None => reason,
            });
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Map<String, Value>, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        let mut has_reasoning = false;
        for member in ["reasoning_content", "reasoning", "thinking"] {
            let said = delta.get(member).filter(|said| !says_nothing(said));
            // Some servers send the same text in two members.
            let Some(said) = said.filter(|_| !has_reasoning) else { continue };
            let words = reasoning_words(said).ok_or_else(|| unreadable(&said.to_string(), &self.selected))?;
            has_reasoning = true;
            self.reasoning.push_str(&words);
            self.reasoning_member = member;
            parts.push(EventPart::Reasoning(words));
        }
        if let Some(Value::Array(details)) = delta.get("reasoning_details") {
            for detail in details {
                if let Some(words) = text(detail, "text").or_else(|| text(detail, "summary"))
                    && !has_reasoning
                {
                    parts.push(EventPart::Reasoning(words.to_owned()));
                }
                self.keep_detail(detail);
            }
        }
        if let Some(refusal) = delta.get("refusal").and_then(Value::as_str) {
            self.refusal.push_str(refusal);
        }
        if let Some(content) = delta.get("content") {
            self.content(content, parts)?;
        }
        match delta.get("tool_calls") {
            Some(Value::Array(calls)) => {
                for call in calls {
                    if !call.is_object() && !says_nothing(call) {
                        return Err(unreadable(&call.to_string(), &self.selected));
                    }
                    self.calls.push(&Fragment::read(call));
                }
            }
            Some(call @ Value::Object(_)) => self.calls.push(&Fragment::read(call)),
            Some(other) if !says_nothing(other) => {
                return Err(unreadable(&other.to_string(), &self.selected));
            }
            _ => {}
        }
        match delta.get("function_call") {
            Some(call @ Value::Object(_)) => self.calls.push(&Fragment::read(call)),
            Some(other) if !says_nothing(other) => {
                return Err(unreadable(&other.to_string(), &self.selected));
            }
            _ => {}
        }
        if !delta.contains_key("content")
            && let Some(words) = delta.get("text").and_then(Value::as_str)
        {
            self.content(&Value::from(words), parts)?;
        }
        let known = [
            "reasoning_content", "reasoning", "thinking", "reasoning_details", "refusal", "content",
            "tool_calls", "function_call",
        ];
        for (name, value) in delta {
            let is_known = known.contains(&name.as_str()) || IGNORED.contains(&name.as_str());
            if !is_known && !says_nothing(value) {
                tracing::debug!(member = %reported::shown(name, &self.selected), "a model's server sent a member that nobody here knows");
            }
        }
        Ok(())
    }

    /// Reads text, or a list of parts: strings, objects with text, reasoning.
    fn content(&mut self, content: &Value, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        match content {
            _ if says_nothing(content) => {}
            Value::String(words) => parts.push(EventPart::Text(words.clone())),
            Value::Array(items) => items.iter().try_for_each(|item| self.content(item, parts))?,
            Value::Object(_) => {
                let kind = text(content, "type").unwrap_or("text");
                match kind {
                    "thinking" | "reasoning" => {
                        let inner = ["thinking", "reasoning", "text", "content"].iter();
                        let words = inner.filter_map(|member| reasoning_words(content.get(*member)?)).next();
                        parts.extend(words.map(EventPart::Reasoning));
                    }
                    "refusal" => self.refusal.push_str(text(content, "refusal").unwrap_or_default()),
                    _ => match text(content, "text").or_else(|| text(content, "content")) {
                        Some(words) => parts.push(EventPart::Text(words.to_owned())),
                        // A type alone is not content.
                        None if content.as_object().is_some_and(|members| {
                            members.iter().all(|(name, value)| name == "type" || says_nothing(value))
                        }) => {}
                        None => {
                            return Err(unreadable(
                                &format!("content of the type {kind}: {content}"),
                                &self.selected,
                            ));
                        }
                    },
                }
            }
            other => return Err(unreadable(&other.to_string(), &self.selected)),
        }
        Ok(())
    }

    fn read_usage(&mut self, chunk: &Value) {
        let groq = chunk.get("x_groq").and_then(|groq| groq.get("usage"));
        let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()).or(groq) else { return };
        // Each report covers the whole answer so far.
        self.usage.update(&tokens::read(usage));
    }

    /// Joins the pieces of one detail, which share an index and a type; their texts are concatenated.
    fn keep_detail(&mut self, detail: &Value) {
        if self.reasoning_details.len() >= MAX_DETAILS {
            return;
        }
        let index = detail.get("index");
        let known = self.reasoning_details.iter_mut().rfind(|known| {
            index.is_some() && known.get("index") == index && known.get("type") == detail.get("type")
        });
        let (Some(known), Some(members)) = (known, detail.as_object()) else {
            self.reasoning_details.push(detail.clone());
            return;
        };
        for (name, value) in members {
            let is_piece = matches!(name.as_str(), "text" | "summary" | "data");
            match (known.get_mut(name), value) {
                (Some(Value::String(before)), Value::String(piece)) if is_piece => before.push_str(piece),
                (_, Value::Null) => {}
                _ => known[name.as_str()] = value.clone(),
            }
        }
    }
}

/// Returns the text of a member that holds reasoning.
fn reasoning_words(said: &Value) -> Option<String> {
    match said {
        Value::String(words) => Some(words.clone()),
        Value::Array(items) => items.iter().map(reasoning_words).collect(),
        Value::Object(_) => {
            ["text", "content", "thinking"].iter().find_map(|member| reasoning_words(said.get(*member)?))
        }
        _ => None,
    }
}

impl Decoder for ChatDecoder {
    fn event(&mut self, name: &str, data: &str, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        if let Some(text) = only_text(data) {
            if !text.is_empty() {
                parts.push(EventPart::Text(text.into_owned()));
            }
            return Ok(());
        }
        if is_done(data) {
            self.is_done = true;
            return Ok(());
        }
        if data.trim().is_empty() {
            return Ok(());
        }
        for document in documents(data, &self.selected)? {
            self.chunk(name, &document, parts)?;
        }
        self.is_done |= data.lines().any(is_done);
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.is_done
    }

    fn is_complete(&self) -> bool {
        self.finish.is_some()
    }

    fn calls(&self) -> usize {
        self.calls.len()
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn answer(&mut self) -> AnswerEnd {
        let calls = self.calls.take();
        // A proxy may have ended the stream, so a call without arguments may have been cut off.
        let is_whole = calls.iter().all(|call| !call.arguments.trim().is_empty());
        let done = (self.is_done && is_whole).then_some(FinishReason::Natural);
        AnswerEnd { calls, finish: self.finish.take().or(done), refusal: std::mem::take(&mut self.refusal) }
    }

    fn native(&self, text: &str, calls: &[ToolCall]) -> Value {
        let mut further = Map::new();
        // Servers that reason between calls need their reasoning back while the calls continue, in the member in which it came.
        if !calls.is_empty() {
            if !self.reasoning_details.is_empty() {
                further.insert("reasoning_details".to_owned(), json!(self.reasoning_details));
            } else if !self.reasoning.is_empty() && self.reasoning_member != "thinking" {
                let words = SurrogateJoiner::whole(self.reasoning.clone());
                further.insert(self.reasoning_member.to_owned(), json!(words));
            }
        }
        of(text, calls, further)
    }
}
