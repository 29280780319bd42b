//! Decodes responses: candidates with parts. A call arrives whole in one part, or with its arguments in later parts.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    super::{
        AnswerEnd, Decoder, EventPart, FinishReason, ModelFailure, RawCall, ToolCall, Usage,
        calls::arguments,
        finish,
        json::{count, documents, identifier, is_done, says_nothing, text, unreadable},
    },
    request::call,
};
use crate::llm::{SelectedModel, reported, surrogates::SurrogateJoiner};

/// A part, in the form in which it is sent back.
#[derive(Debug)]
enum SignedPart {
    /// A text, with its signature if it was signed.
    Text { words: String, signature: Option<Value> },
    /// The position of the call among the calls, and its signature.
    Call(usize, Option<Value>),
}

#[derive(Debug)]
struct GeminiCall {
    id: Option<String>,
    name: String,
    arguments: Map<String, Value>,
}

pub(super) struct GeminiDecoder {
    selected: Arc<SelectedModel>,
    kept: Vec<SignedPart>,
    calls: Vec<GeminiCall>,
    finish: Option<FinishReason>,
    is_over: bool,
    usage: Usage,
}

impl GeminiDecoder {
    pub(super) fn new(selected: Arc<SelectedModel>) -> Self {
        Self {
            selected,
            kept: Vec::new(),
            calls: Vec::new(),
            finish: None,
            is_over: false,
            usage: Usage::default(),
        }
    }

    fn document(
        &mut self,
        name: &str,
        document: &Value,
        parts: &mut Vec<EventPart>,
    ) -> Result<(), ModelFailure> {
        if let Some(error) = reported::in_document(name, document) {
            return Err(reported::failure(error, None, &self.selected));
        }
        self.read_usage(document.get("usageMetadata"));
        if let Some(reason) =
            document.get("promptFeedback").and_then(|feedback| text(feedback, "blockReason"))
        {
            self.finish = Some(FinishReason::Filtered(reason.to_owned()));
        }
        let candidates: Vec<&Value> = match document.get("candidates") {
            Some(Value::Array(candidates)) => candidates.iter().collect(),
            Some(candidate @ Value::Object(_)) => vec![candidate],
            _ => Vec::new(),
        };
        for candidate in candidates.into_iter().filter(|one| count(one.get("index")).unwrap_or(0) == 0) {
            let content = candidate.get("content").unwrap_or(&Value::Null);
            match content.get("parts") {
                None if content.is_string() => self.part(content, parts)?,
                Some(words @ Value::String(_)) => self.part(words, parts)?,
                Some(Value::Array(pieces)) => pieces.iter().try_for_each(|piece| self.part(piece, parts))?,
                Some(piece @ Value::Object(_)) => self.part(piece, parts)?,
                _ => {}
            }
            if let Some(reason) = text(candidate, "finishReason").and_then(finish::read) {
                let words = text(candidate, "finishMessage");
                let reason = match (reason, words) {
                    (FinishReason::Unusable(reason), Some(words)) => {
                        FinishReason::Unusable(format!("{reason}: {words}"))
                    }
                    (FinishReason::Other(reason), Some(words)) => {
                        FinishReason::Other(format!("{reason}: {words}"))
                    }
                    (FinishReason::Filtered(reason), Some(words)) => {
                        FinishReason::Filtered(format!("{reason}: {words}"))
                    }
                    (reason, _) => reason,
                };
                self.finish = Some(match self.finish.take() {
                    Some(earlier) => earlier.or_worse(reason),
                    None => reason,
                });
            }
        }
        Ok(())
    }

    fn part(&mut self, part: &Value, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        if let Some(words) = part.as_str() {
            return self.part(&json!({ "text": words }), parts);
        }
        let signature = part.get("thoughtSignature").filter(|signature| !says_nothing(signature)).cloned();
        if let Some(call) = part.get("functionCall").filter(|call| call.is_object()) {
            return self.call(call, signature);
        }
        if let Some(words) = part.get("text").and_then(Value::as_str) {
            if part.get("thought").and_then(Value::as_bool) == Some(true) {
                // Thoughts are only a summary, which is not sent back.
                if !words.is_empty() {
                    parts.push(EventPart::Reasoning(words.to_owned()));
                }
                return Ok(());
            }
            match self.kept.last_mut() {
                Some(SignedPart::Text { words: before, signature: None }) if signature.is_none() => {
                    before.push_str(words);
                }
                _ => self.kept.push(SignedPart::Text { words: words.to_owned(), signature }),
            }
            if !words.is_empty() {
                parts.push(EventPart::Text(words.to_owned()));
            }
            return Ok(());
        }
        if let Some(signature) =
            signature.filter(|_| part.as_object().is_some_and(|members| members.len() == 1))
        {
            self.kept.push(SignedPart::Text { words: String::new(), signature: Some(signature) });
            return Ok(());
        }
        let ignored = ["thought", "thoughtSignature"];
        let says =
            |(name, value): (&String, &Value)| !ignored.contains(&name.as_str()) && !says_nothing(value);
        match part.as_object() {
            Some(members) if members.iter().any(says) => {
                Err(unreadable(&format!("a part of the answer: {part}"), &self.selected))
            }
            None if !says_nothing(part) => Err(unreadable(&part.to_string(), &self.selected)),
            _ => Ok(()),
        }
    }

    /// Reads a call, or a continuation of the previous one: a part without a name, or with the same id and name.
    fn call(&mut self, call: &Value, signature: Option<Value>) -> Result<(), ModelFailure> {
        let name = text(call, "name").unwrap_or_default();
        let id = identifier(call.get("id"));
        let arguments = match call.get("args") {
            None | Some(Value::Null) => Map::new(),
            Some(args) => {
                let text = args.as_str().map_or_else(|| args.to_string(), str::to_owned);
                arguments(&text).map_err(|raw| unreadable(&format!("arguments: {raw}"), &self.selected))?
            }
        };
        let known = ["id", "name", "args", "willContinue"];
        let says_more =
            |(member, value): (&String, &Value)| !known.contains(&member.as_str()) && !says_nothing(value);
        if call.as_object().is_some_and(|members| members.iter().any(says_more)) {
            return Err(unreadable(&format!("a call: {call}"), &self.selected));
        }
        let goes_on = self.calls.last_mut().filter(|last| match name.is_empty() {
            true => id.is_none() || last.id.is_none() || last.id == id,
            false => id.is_some() && last.id == id && last.name == name,
        });
        if let Some(last) = goes_on {
            last.arguments.extend(arguments);
            if let Some(SignedPart::Call(_, kept)) = self.kept.last_mut() {
                *kept = kept.take().or(signature);
            }
            return Ok(());
        }
        self.calls.push(GeminiCall { id, name: name.to_owned(), arguments });
        self.kept.push(SignedPart::Call(self.calls.len() - 1, signature));
        Ok(())
    }

    fn read_usage(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        let read = |name: &str| count(usage.get(name));
        let written = [read("candidatesTokenCount"), read("thoughtsTokenCount")];
        let is_told = written.iter().any(Option::is_some);
        self.usage.input = read("promptTokenCount").or(self.usage.input);
        if is_told {
            self.usage.output =
                Some(written.iter().flatten().fold(0, |sum: u64, count| sum.saturating_add(*count)));
        }
        self.usage.total = read("totalTokenCount").or(self.usage.total);
        self.usage.cached_input = read("cachedContentTokenCount").or(self.usage.cached_input);
        self.usage.reasoning = read("thoughtsTokenCount").or(self.usage.reasoning);
    }
}

impl Decoder for GeminiDecoder {
    fn event(&mut self, name: &str, data: &str, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure> {
        if is_done(data) {
            self.is_over = true;
            return Ok(());
        }
        if data.trim().is_empty() {
            return Ok(());
        }
        for document in documents(data, &self.selected)? {
            self.document(name, &document, parts)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.is_over
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
        let calls = self.calls.iter().map(|call| RawCall {
            id: call.id.clone(),
            name: call.name.clone(),
            arguments: Value::Object(call.arguments.clone()).to_string(),
        });
        AnswerEnd {
            calls: calls.collect(),
            finish: self.finish.take().or(self.is_over.then_some(FinishReason::Natural)),
            refusal: String::new(),
        }
    }

    /// Returns the parts as they were received, because they are signed.
    fn native(&self, _: &str, calls: &[ToolCall]) -> Value {
        let parts = self.kept.iter().filter_map(|kept| {
            let (mut part, signature) = match kept {
                SignedPart::Text { words, signature: None } if words.is_empty() => return None,
                SignedPart::Text { words, signature } => {
                    (json!({"text": SurrogateJoiner::whole(words.clone())}), signature)
                }
                SignedPart::Call(position, signature) => (call(calls.get(*position)?), signature),
            };
            if let Some(signature) = signature {
                part["thoughtSignature"] = signature.clone();
            }
            Some(part)
        });
        json!({"role": "model", "parts": parts.collect::<Vec<_>>()})
    }
}
