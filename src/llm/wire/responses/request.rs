//! Builds the request body. The server stores nothing: the whole conversation is sent with each request, the reasoning encrypted.

use serde_json::{Value, json};

use crate::llm::{Message, ModelRequest, SelectedModel, ToolCall, ToolDefinition};

/// Returns whether a model reasons, judging by its name: other models reject the parameters for reasoning.
fn reasons(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let is_series = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let is_chat = name.contains("-chat");
    is_series || ((name.starts_with("gpt-5") || name.starts_with("codex")) && !is_chat)
}

pub(super) fn body(request: &ModelRequest, selected: &SelectedModel) -> Value {
    let mut body = json!({
        "model": selected.model,
        "input": request.messages.iter().flat_map(items).collect::<Vec<_>>(),
        "stream": true,
        "store": false,
    });
    if !request.system.is_empty() {
        body["instructions"] = json!(request.system);
    }
    if !request.tools.is_empty() {
        let tool = |tool: &ToolDefinition| {
            json!({
                "type": "function", "name": tool.name, "description": tool.description,
                "parameters": *tool.parameters, "strict": false,
            })
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if reasons(&selected.model) {
        body["reasoning"] = json!({"summary": "auto"});
        body["include"] = json!(["reasoning.encrypted_content"]);
    }
    if let Some(temperature) = selected.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(max_tokens) = selected.max_tokens {
        body["max_output_tokens"] = json!(max_tokens);
    }
    body
}

/// Converts a message to items.
fn items(message: &Message) -> Vec<Value> {
    match message {
        Message::User(text) => vec![json!({"role": "user", "content": text})],
        Message::Assistant(message) => match message.native().and_then(|native| native["items"].as_array()) {
            Some(items) => items.clone(),
            None => {
                let text = (!message.text.is_empty()).then(|| said(&message.text));
                text.into_iter().chain(message.calls.iter().map(call)).collect()
            }
        },
        Message::ToolOutcomes(outcomes) => outcomes
            .iter()
            .map(|outcome| {
                json!({"type": "function_call_output", "call_id": outcome.call.id, "output": outcome.text})
            })
            .collect(),
    }
}

/// Converts a text of the model to an item.
pub(super) fn said(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// Converts a call to an item.
pub(super) fn call(call: &ToolCall) -> Value {
    let arguments = Value::Object(call.arguments.clone().unwrap_or_default()).to_string();
    json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_reason_are_known_by_their_names() {
        for model in
            ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.2-mini", "openai/gpt-5", "codex-mini"]
        {
            assert!(reasons(model), "{model}");
        }
        for model in ["gpt-4.1-mini", "gpt-4o", "gpt-5-chat-latest", "omni", "llama-o1", "m"] {
            assert!(!reasons(model), "{model}");
        }
    }
}
