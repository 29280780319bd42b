//! What comes: blocks, each begun, filled and ended.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    super::{
        Answer, Decoder, Failure, Finish, Part, RawCall, ToolCall, Usage, finish,
        json::{count, documents, identifier, is_done, says_nothing, text, unreadable},
    },
    request::call,
};
use crate::llm::{Selected, halves::Joiner, reported};

/// A block of the message, as far as it came.
#[derive(Debug)]
enum Block {
    Text(String),
    Thinking {
        words: String,
        signature: String,
    },
    Redacted(Value),
    /// The position of the call among the calls.
    Call(usize),
    /// One that says nothing.
    Empty,
}

pub(super) struct MessagesDecoder {
    selected: Arc<Selected>,
    /// By their index, in the order in which they began.
    blocks: BTreeMap<u64, Block>,
    calls: Vec<RawCall>,
    finish: Option<Finish>,
    is_over: bool,
    usage: Usage,
}

impl MessagesDecoder {
    pub(super) fn new(selected: Arc<Selected>) -> Self {
        Self {
            selected,
            blocks: BTreeMap::new(),
            calls: Vec::new(),
            finish: None,
            is_over: false,
            usage: Usage::default(),
        }
    }

    fn document(&mut self, name: &str, document: &Value, parts: &mut Vec<Part>) -> Result<(), Failure> {
        if let Some(error) = reported::in_document(name, document) {
            return Err(reported::failure(error, None, &self.selected));
        }
        match text(document, "type").unwrap_or(name) {
            "message_start" => {
                let message = document.get("message").unwrap_or(&Value::Null);
                self.usage(message.get("usage"));
                for block in message.get("content").and_then(Value::as_array).into_iter().flatten() {
                    let index = self.next_index();
                    self.begin(index, block, parts)?;
                }
            }
            "content_block_start" => {
                let index = count(document.get("index")).unwrap_or_else(|| self.next_index());
                self.begin(index, document.get("content_block").unwrap_or(&Value::Null), parts)?;
            }
            "content_block_delta" => {
                let last = self.blocks.keys().next_back().copied().unwrap_or(0);
                let index = count(document.get("index")).unwrap_or(last);
                self.delta(index, document.get("delta").unwrap_or(&Value::Null), parts)?;
            }
            "message_delta" => {
                let delta = document.get("delta").unwrap_or(&Value::Null);
                if let Some(reason) = text(delta, "stop_reason").and_then(finish::read) {
                    self.finish = Some(reason);
                }
                self.usage(document.get("usage"));
            }
            "message_stop" => self.is_over = true,
            // Signs of life, ends of blocks, and events of a later version.
            _ => {}
        }
        Ok(())
    }

    fn next_index(&self) -> u64 {
        self.blocks.keys().next_back().map_or(0, |last| last + 1)
    }

    fn begin(&mut self, index: u64, block: &Value, parts: &mut Vec<Part>) -> Result<(), Failure> {
        let kind = text(block, "type").unwrap_or("text");
        let begun = match kind {
            "text" => Block::Text(String::new()),
            "thinking" => Block::Thinking {
                words: String::new(),
                signature: text(block, "signature").unwrap_or_default().to_owned(),
            },
            "redacted_thinking" => Block::Redacted(block.clone()),
            "tool_use" => {
                let input = block.get("input").filter(|input| !says_nothing(input));
                self.calls.push(RawCall {
                    id: identifier(block.get("id")),
                    name: text(block, "name").unwrap_or_default().to_owned(),
                    arguments: input.map(ToString::to_string).unwrap_or_default(),
                });
                Block::Call(self.calls.len() - 1)
            }
            _ => {
                let members = block.as_object();
                if members.is_some_and(|members| {
                    members.iter().any(|(name, value)| name != "type" && !says_nothing(value))
                }) {
                    return Err(unreadable(&format!("a block of the type {kind}: {block}"), &self.selected));
                }
                Block::Empty
            }
        };
        self.blocks.insert(index, begun);
        for (member, delta) in [("text", "text_delta"), ("thinking", "thinking_delta")] {
            if let Some(words) = text(block, member).filter(|_| kind == member) {
                self.delta(index, &json!({"type": delta, member: words}), parts)?;
            }
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: &Value, parts: &mut Vec<Part>) -> Result<(), Failure> {
        let kind = text(delta, "type").unwrap_or_default();
        if kind == "citations_delta" {
            return Ok(());
        }
        let block = self.blocks.entry(index).or_insert_with(|| match kind {
            "thinking_delta" | "signature_delta" => {
                Block::Thinking { words: String::new(), signature: String::new() }
            }
            _ => Block::Text(String::new()),
        });
        // By what it holds: some servers leave the type out.
        if let Some(piece) = text(delta, "text")
            && let Block::Text(words) = block
        {
            words.push_str(piece);
            parts.push(Part::Text(piece.to_owned()));
        } else if let Some(piece) = text(delta, "thinking")
            && let Block::Thinking { words, .. } = block
        {
            words.push_str(piece);
            parts.push(Part::Reasoning(piece.to_owned()));
        } else if let Some(piece) = text(delta, "signature")
            && let Block::Thinking { signature, .. } = block
        {
            signature.push_str(piece);
        } else if let Some(piece) = text(delta, "partial_json")
            && let Block::Call(call) = block
            && let Some(call) = self.calls.get_mut(*call)
        {
            call.arguments.push_str(piece);
        } else if let Some(members) = delta.as_object()
            && members.iter().any(|(name, value)| name != "type" && !says_nothing(value))
        {
            return Err(unreadable(&format!("a piece of the type {kind}: {delta}"), &self.selected));
        }
        Ok(())
    }

    fn usage(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        let read = |name: &str| count(usage.get(name));
        // What came from the cache, or went into it, was read too.
        let cached = [read("cache_read_input_tokens"), read("cache_creation_input_tokens")];
        let cached: u64 = cached.iter().flatten().sum();
        if let Some(input) = read("input_tokens").filter(|input| *input + cached > 0) {
            self.usage.input = Some(input + cached);
        }
        self.usage.output = read("output_tokens").or(self.usage.output);
    }
}

impl Decoder for MessagesDecoder {
    fn event(&mut self, name: &str, data: &str, parts: &mut Vec<Part>) -> Result<(), Failure> {
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

    fn answer(&mut self) -> Answer {
        let done = self.is_over.then_some(Finish::Natural);
        Answer {
            calls: self.calls.clone(),
            finish: self.finish.take().or(done),
            refusal: String::new(),
            usage: self.usage,
        }
    }

    /// As it came: thinking is signed. What was not signed cannot be sent back as thinking, and is no text.
    fn native(&self, _: &str, calls: &[ToolCall]) -> Value {
        let content = self.blocks.values().filter_map(|block| match block {
            Block::Text(words) if words.trim().is_empty() => None,
            Block::Text(words) => Some(json!({"type": "text", "text": Joiner::whole(words.clone())})),
            Block::Thinking { signature, .. } if signature.is_empty() => None,
            Block::Thinking { words, signature } => {
                Some(json!({"type": "thinking", "thinking": words, "signature": signature}))
            }
            Block::Redacted(block) => Some(block.clone()),
            Block::Call(position) => calls.get(*position).map(call),
            Block::Empty => None,
        });
        json!({"role": "assistant", "content": content.collect::<Vec<_>>()})
    }
}
