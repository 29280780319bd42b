//! What is asked.

use serde_json::{Value, json};

use crate::llm::{Message, Request, Selected, ToolCall};

/// The wire wants a limit always: the most that a model of a family writes, and a small one for those that nobody here knows.
fn default_max_tokens(model: &str) -> u32 {
    let families = [
        ("claude-3-5", 8_192),
        ("claude-3-7", 64_000),
        ("claude-3", 4_096),
        ("claude-opus-4-0", 32_000),
        ("claude-opus-4-1", 32_000),
        ("claude-opus-4-2", 32_000),
        ("claude-opus", 64_000),
        ("claude-sonnet", 64_000),
        ("claude-haiku", 64_000),
    ];
    families.iter().find(|(family, _)| model.starts_with(family)).map_or(4_096, |(_, most)| *most)
}

pub(super) fn body(request: &Request, selected: &Selected) -> Value {
    let messages: Vec<Value> = request.messages.iter().map(message).collect();
    let mut body = json!({
        "model": selected.model,
        "max_tokens": selected.max_tokens.unwrap_or_else(|| default_max_tokens(&selected.model)),
        "messages": messages,
        "stream": true,
    });
    if !request.system.is_empty() {
        body["system"] = json!(request.system);
    }
    if !request.tools.is_empty() {
        let tool = |tool: &crate::llm::ToolDefinition| json!({"name": tool.name, "description": tool.description, "input_schema": *tool.parameters});
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if let Some(temperature) = selected.temperature {
        body["temperature"] = json!(temperature);
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::User(text) => json!({"role": "user", "content": text}),
        Message::Assistant(message) => match message.native() {
            Some(native) => native.clone(),
            None => {
                let text = (!message.text.is_empty()).then(|| json!({"type": "text", "text": message.text}));
                let mut content: Vec<Value> =
                    text.into_iter().chain(message.calls.iter().map(call)).collect();
                if content.is_empty() {
                    // An empty message is refused.
                    content.push(json!({"type": "text", "text": "(nothing)"}));
                }
                json!({"role": "assistant", "content": content})
            }
        },
        Message::ToolOutcomes(outcomes) => {
            let outcome = |outcome: &crate::llm::ToolOutcome| {
                json!({
                    "type": "tool_result", "tool_use_id": outcome.call.id, "content": outcome.text,
                    "is_error": outcome.is_error,
                })
            };
            json!({"role": "user", "content": outcomes.iter().map(outcome).collect::<Vec<_>>()})
        }
    }
}

/// A call as a block of a message.
pub(super) fn call(call: &ToolCall) -> Value {
    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments.clone().unwrap_or_default()})
}
