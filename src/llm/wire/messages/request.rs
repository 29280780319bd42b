//! Builds the request body.

use serde_json::{Value, json};

use crate::llm::{Message, ModelRequest, SelectedModel, ToolCall};

/// Returns the token limit, which the wire requires: the maximum of a model's family, and a small one for unknown models.
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

pub(super) fn body(request: &ModelRequest, selected: &SelectedModel) -> Value {
    let mut messages: Vec<Value> = request.messages.iter().map(message).collect();
    // Two cache marks: at the end of what every command begins with, and at the current end of this conversation.
    if selected.caches_prompts
        && let Some(last) = messages.last_mut()
    {
        mark_last_block(last);
    }
    let mut body = json!({
        "model": selected.model,
        "max_tokens": selected.max_tokens.unwrap_or_else(|| default_max_tokens(&selected.model)),
        "messages": messages,
        "stream": true,
    });
    if !request.system.is_empty() {
        body["system"] = match selected.caches_prompts && !request.system.trim().is_empty() {
            // The tools precede the system prompt, and are cached with it.
            true => json!([{"type": "text", "text": request.system, "cache_control": {"type": "ephemeral"}}]),
            false => json!(request.system),
        };
    }
    if !request.tools.is_empty() {
        let tool = |tool: &crate::llm::ToolDefinition| json!({"name": tool.name, "description": tool.description, "input_schema": *tool.parameters});
        body["tools"] = request.tools.iter().map(tool).collect();
        if selected.caches_prompts && request.system.trim().is_empty() {
            body["tools"][request.tools.len() - 1]["cache_control"] = json!({"type": "ephemeral"});
        }
    }
    if let Some(temperature) = selected.temperature {
        body["temperature"] = json!(temperature);
    }
    body
}

/// Marks the end of what can be read from the provider's cache next time. Empty texts and the model's own messages
/// cannot be marked.
fn mark_last_block(message: &mut Value) {
    if message["role"] != "user" {
        return;
    }
    if let Value::String(text) = &message["content"] {
        message["content"] = json!([{"type": "text", "text": text}]);
    }
    let last =
        message.get_mut("content").and_then(Value::as_array_mut).and_then(|content| content.last_mut());
    if let Some(Value::Object(block)) = last {
        let is_empty = |text: &Value| text.as_str().is_some_and(|text| text.trim().is_empty());
        if block.get("type") != Some(&json!("text")) || !block.get("text").is_some_and(is_empty) {
            block.insert("cache_control".to_owned(), json!({"type": "ephemeral"}));
        }
    }
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
                    // The provider rejects an empty message.
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

/// Converts a call to a block of a message.
pub(super) fn call(call: &ToolCall) -> Value {
    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments.clone().unwrap_or_default()})
}
