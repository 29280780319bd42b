//! Builds the request body.

use serde_json::{Value, json};

use crate::llm::{Message, ModelRequest, SelectedModel, ToolCall};

pub(super) fn body(request: &ModelRequest, selected: &SelectedModel) -> Value {
    let contents: Vec<Value> = request.messages.iter().map(message).collect();
    let mut body = json!({ "contents": contents });
    if !request.system.is_empty() {
        body["systemInstruction"] = json!({"parts": [{"text": request.system}]});
    }
    if !request.tools.is_empty() {
        let tool = |tool: &crate::llm::ToolDefinition| json!({"name": tool.name, "description": tool.description, "parametersJsonSchema": *tool.parameters});
        let declarations: Vec<Value> = request.tools.iter().map(tool).collect();
        body["tools"] = json!([{"functionDeclarations": declarations}]);
    }
    if let Some(temperature) = selected.temperature {
        body["generationConfig"]["temperature"] = json!(temperature);
    }
    if let Some(max_tokens) = selected.max_tokens {
        body["generationConfig"]["maxOutputTokens"] = json!(max_tokens);
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::User(text) => json!({"role": "user", "parts": [{"text": text}]}),
        Message::Assistant(message) => match message.native() {
            Some(native) => native.clone(),
            None => {
                let text = (!message.text.is_empty()).then(|| json!({"text": message.text}));
                let mut parts: Vec<Value> = text.into_iter().chain(message.calls.iter().map(call)).collect();
                if parts.is_empty() {
                    // The provider rejects an empty message.
                    parts.push(json!({"text": "(nothing)"}));
                }
                json!({"role": "model", "parts": parts})
            }
        },
        Message::ToolOutcomes(outcomes) => {
            let outcome = |outcome: &crate::llm::ToolOutcome| {
                let member = if outcome.is_error { "error" } else { "output" };
                let mut response = json!({"name": outcome.call.name, "response": {member: outcome.text}});
                if outcome.call.has_own_id {
                    response["id"] = json!(outcome.call.id);
                }
                json!({ "functionResponse": response })
            };
            json!({"role": "user", "parts": outcomes.iter().map(outcome).collect::<Vec<_>>()})
        }
    }
}

/// Converts a call to a part of a message.
pub(super) fn call(call: &ToolCall) -> Value {
    let mut made = json!({"name": call.name, "args": call.arguments.clone().unwrap_or_default()});
    if call.has_own_id {
        made["id"] = json!(call.id);
    }
    json!({ "functionCall": made })
}
