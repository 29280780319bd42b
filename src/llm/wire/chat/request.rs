//! Builds the request body.

use serde_json::{Map, Value, json};

use crate::llm::{AssistantMessage, Message, ModelRequest, Provider, SelectedModel, ToolCall};

pub(super) fn body(request: &ModelRequest, selected: &SelectedModel) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    for message in &request.messages {
        match message {
            Message::User(text) => messages.push(json!({"role": "user", "content": text})),
            Message::Assistant(message) => messages.push(assistant(message)),
            Message::ToolOutcomes(outcomes) => messages.extend(outcomes.iter().map(
                |outcome| json!({"role": "tool", "tool_call_id": outcome.call.id, "content": outcome.text}),
            )),
        }
    }
    let mut body = json!({
        "model": selected.model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if !request.tools.is_empty() {
        let tool = |tool: &crate::llm::ToolDefinition| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": *tool.parameters,
            }})
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if let Some(temperature) = selected.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(max_tokens) = selected.max_tokens {
        let is_official = selected.base_url == Provider::OpenAi.default_base_url();
        let name = if is_official { "max_completion_tokens" } else { "max_tokens" };
        body[name] = json!(max_tokens);
    }
    body
}

fn assistant(message: &AssistantMessage) -> Value {
    match message.native() {
        Some(native) => native.clone(),
        None => of(&message.text, &message.calls, Map::new()),
    }
}

/// Builds a message of the model, with the additional members that its server needs back.
pub(super) fn of(text: &str, calls: &[ToolCall], further: Map<String, Value>) -> Value {
    let mut message = json!({"role": "assistant"});
    message["content"] = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
    if !calls.is_empty() {
        let call = |call: &ToolCall| {
            // Arguments that are not an object would break the templates of some servers.
            let arguments = call.arguments.clone().unwrap_or_default();
            json!({"id": call.id, "type": "function", "function": {
                "name": call.name, "arguments": Value::Object(arguments).to_string(),
            }})
        };
        message["tool_calls"] = calls.iter().map(call).collect();
    }
    for (name, value) in further {
        message[name] = value;
    }
    message
}
