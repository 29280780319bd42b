//! Decodes responses: blocks, each of which is started, filled and stopped.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    super::{
        AnswerEnd, Decoder, EventPart, FinishReason, ModelFailure, RawCall, ToolCall, Usage, finish,
        json::{count, documents, identifier, is_done, says_nothing, text, unreadable},
    },
    request::call,
};
use crate::llm::{SelectedModel, reported, surrogates::SurrogateJoiner};

/// A block of the message, as far as it has arrived.
#[derive(Debug)]
enum MessageBlock {
    Text(String),
    Thinking {
        words: String,
        signature: String,
    },
    Redacted(Value),
    /// The position of the call among the calls.
    Call(usize),
    /// A block without content.
    Empty,
}

pub(super) struct MessagesDecoder {
    selected: Arc<SelectedModel>,
    /// In the order in which they began, each with the number that the server gave it.
    blocks: Vec<(Option<u64>, MessageBlock)>,
    /// Whether the call that began last arrived with its arguments.
    has_input: bool,
    calls: Vec<RawCall>,
    finish: Option<FinishReason>,
    is_over: bool,
    usage: Usage,
}

impl MessagesDecoder {
    pub(super) fn new(selected: Arc<SelectedModel>) -> Self {
        Self {
            selected,
            blocks: Vec::new(),
            has_input: false,
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
        match text(document, "type").unwrap_or(name) {
            "message_start" => {
                let message = document.get("message").unwrap_or(&Value::Null);
                self.read_usage(message.get("usage"));
                for block in message.get("content").and_then(Value::as_array).into_iter().flatten() {
                    self.begin(None, block, parts)?;
                }
            }
            "content_block_start" => {
                self.begin(
                    count(document.get("index")),
                    document.get("content_block").unwrap_or(&Value::Null),
                    parts,
                )?;
            }
            "content_block_delta" => {
                let told = count(document.get("index"));
                self.delta(told, document.get("delta").unwrap_or(&Value::Null), parts)?;
            }
            "message_delta" => {
                let delta = document.get("delta").unwrap_or(&Value::Null);
                if let Some(reason) = text(delta, "stop_reason").and_then(finish::read) {
                    self.finish = Some(match self.finish.take() {
                        Some(earlier) => earlier.or_worse(reason),
                        None => reason,
                    });
                }
                self.read_usage(document.get("usage"));
            }
            "message_stop" => self.is_over = true,
            // Keep-alive events, ends of blocks, and events of later versions need no action.
            _ => {}
        }
        Ok(())
    }

    /// Begins a block. `index` is the server's number for it; some servers number every block 0.
    fn begin(
        &mut self,
        index: Option<u64>,
        block: &Value,
        parts: &mut Vec<EventPart>,
    ) -> Result<(), ModelFailure> {
        let kind = text(block, "type").unwrap_or("text");
        let begun = match kind {
            "text" => MessageBlock::Text(String::new()),
            "thinking" => MessageBlock::Thinking {
                words: String::new(),
                signature: text(block, "signature").unwrap_or_default().to_owned(),
            },
            "redacted_thinking" => MessageBlock::Redacted(block.clone()),
            "tool_use" => {
                let input = block
                    .get("input")
                    .filter(|input| input.as_object().is_some_and(|members| !members.is_empty()));
                self.has_input = input.is_some();
                self.calls.push(RawCall {
                    id: identifier(block.get("id")),
                    name: text(block, "name").unwrap_or_default().to_owned(),
                    arguments: input.map(ToString::to_string).unwrap_or_default(),
                });
                MessageBlock::Call(self.calls.len() - 1)
            }
            _ => {
                let members = block.as_object();
                if members.is_none() && !says_nothing(block) {
                    return Err(unreadable(&block.to_string(), &self.selected));
                }
                if members.is_some_and(|members| {
                    members.iter().any(|(name, value)| name != "type" && !says_nothing(value))
                }) {
                    return Err(unreadable(&format!("a block of the type {kind}: {block}"), &self.selected));
                }
                MessageBlock::Empty
            }
        };
        self.blocks.push((index, begun));
        for (member, delta) in [("text", "text_delta"), ("thinking", "thinking_delta")] {
            if let Some(words) = text(block, member).filter(|_| kind == member) {
                self.delta(index, &json!({"type": delta, member: words}), parts)?;
            }
        }
        Ok(())
    }

    fn delta(
        &mut self,
        index: Option<u64>,
        delta: &Value,
        parts: &mut Vec<EventPart>,
    ) -> Result<(), ModelFailure> {
        if !delta.is_object() && !says_nothing(delta) {
            return Err(unreadable(&delta.to_string(), &self.selected));
        }
        let kind = text(delta, "type").unwrap_or_default();
        if kind == "citations_delta" {
            return Ok(());
        }
        // The latest block with that number; a piece without a number, or for a block that never began, belongs to the
        // latest block of all.
        let of_number = self.blocks.iter().rposition(|(number, _)| index.is_some() && *number == index);
        let position = of_number.or(self.blocks.len().checked_sub(1)).unwrap_or_else(|| {
            self.blocks.push((
                index,
                match kind {
                    "thinking_delta" | "signature_delta" => {
                        MessageBlock::Thinking { words: String::new(), signature: String::new() }
                    }
                    _ => MessageBlock::Text(String::new()),
                },
            ));
            0
        });
        let Some((_, block)) = self.blocks.get_mut(position) else { return Ok(()) };
        // The members decide, because some servers omit the type.
        if let Some(piece) = text(delta, "text")
            && let MessageBlock::Text(words) = block
        {
            words.push_str(piece);
            parts.push(EventPart::Text(piece.to_owned()));
        } else if let Some(piece) = text(delta, "thinking")
            && let MessageBlock::Thinking { words, .. } = block
        {
            words.push_str(piece);
            parts.push(EventPart::Reasoning(piece.to_owned()));
        } else if let Some(piece) = text(delta, "signature")
            && let MessageBlock::Thinking { signature, .. } = block
        {
            signature.push_str(piece);
        } else if let Some(piece) = text(delta, "partial_json")
            && let MessageBlock::Call(call) = block
            && let Some(call) = self.calls.get_mut(*call)
        {
            if std::mem::take(&mut self.has_input) {
                // All of the arguments are sent once more, in pieces.
                call.arguments.clear();
            }
            call.arguments.push_str(piece);
        } else if let Some(members) = delta.as_object()
            && members.iter().any(|(name, value)| name != "type" && !says_nothing(value))
        {
            return Err(unreadable(&format!("a piece of the type {kind}: {delta}"), &self.selected));
        }
        Ok(())
    }

    fn read_usage(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        let read = |name: &str| count(usage.get(name));
        // Tokens read from the cache or written to it are input too.
        self.usage.cached_input = self.usage.cached_input.max(read("cache_read_input_tokens"));
        self.usage.cache_write = self.usage.cache_write.max(read("cache_creation_input_tokens"));
        let cached = [read("cache_read_input_tokens"), read("cache_creation_input_tokens")];
        let cached = cached.iter().flatten().fold(0, |sum: u64, count| sum.saturating_add(*count));
        if let Some(input) = read("input_tokens").map(|input| input.saturating_add(cached)) {
            // A later report may omit the tokens of the cache.
            self.usage.input = Some(self.usage.input.unwrap_or(0).max(input)).filter(|input| *input > 0);
        }
        self.usage.output = read("output_tokens").or(self.usage.output);
    }
}

impl Decoder for MessagesDecoder {
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
        // Without a finish reason, a call without arguments may have been cut off.
        let is_whole = self.calls.iter().all(|call| !call.arguments.trim().is_empty());
        let done = (self.is_over && is_whole).then_some(FinishReason::Natural);
        AnswerEnd { calls: self.calls.clone(), finish: self.finish.take().or(done), refusal: String::new() }
    }

    /// Returns the blocks as they were received, because thinking is signed. Unsigned thinking cannot be sent back and
    /// is not text, so it is left out.
    fn native(&self, _: &str, calls: &[ToolCall]) -> Value {
        let content = self.blocks.iter().filter_map(|(_, block)| match block {
            MessageBlock::Text(words) if words.trim().is_empty() => None,
            MessageBlock::Text(words) => {
                Some(json!({"type": "text", "text": SurrogateJoiner::whole(words.clone())}))
            }
            MessageBlock::Thinking { signature, .. } if signature.is_empty() => None,
            MessageBlock::Thinking { words, signature } => {
                Some(json!({"type": "thinking", "thinking": words, "signature": signature}))
            }
            MessageBlock::Redacted(block) => Some(block.clone()),
            MessageBlock::Call(position) => calls.get(*position).map(call),
            MessageBlock::Empty => None,
        });
        json!({"role": "assistant", "content": content.collect::<Vec<_>>()})
    }
}
