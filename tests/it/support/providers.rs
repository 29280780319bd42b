//! The streams of Anthropic and Gemini, as their documentation shows them.

use serde_json::{Value, json};

use super::model::{Script, stream};

/// Anthropic's messages: `event:` lines and typed data.
pub mod anthropic {
    use super::*;

    pub fn event(kind: &str, mut data: Value) -> String {
        data["type"] = json!(kind);
        format!("event: {kind}\ndata: {data}\n\n")
    }

    pub fn start() -> String {
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 1},
        });
        event("message_start", json!({ "message": message })) + &event("ping", json!({}))
    }

    pub fn text_block(index: u32, words: &[&str]) -> String {
        let mut body = event(
            "content_block_start",
            json!({"index": index, "content_block": {"type": "text", "text": ""}}),
        );
        for word in words {
            let delta = json!({"type": "text_delta", "text": word});
            body += &event("content_block_delta", json!({"index": index, "delta": delta}));
        }
        body + &event("content_block_stop", json!({ "index": index }))
    }

    pub fn tool_block(index: u32, id: &str, name: &str, pieces: &[&str]) -> String {
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        let mut body = event("content_block_start", json!({"index": index, "content_block": block}));
        for piece in pieces {
            let delta = json!({"type": "input_json_delta", "partial_json": piece});
            body += &event("content_block_delta", json!({"index": index, "delta": delta}));
        }
        body + &event("content_block_stop", json!({ "index": index }))
    }

    pub fn thinking_block(index: u32, text: &str, signature: &str) -> String {
        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
        event("content_block_start", json!({"index": index, "content_block": block}))
            + &event(
                "content_block_delta",
                json!({"index": index, "delta": {"type": "thinking_delta", "thinking": text}}),
            )
            + &event(
                "content_block_delta",
                json!({"index": index, "delta": {"type": "signature_delta", "signature": signature}}),
            )
            + &event("content_block_stop", json!({ "index": index }))
    }

    pub fn end(reason: &str) -> String {
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        event("message_delta", json!({"delta": delta, "usage": {"output_tokens": 7}}))
            + &event("message_stop", json!({}))
    }

    pub fn turn(body: &str, reason: &str) -> Script {
        stream(start() + body + &end(reason))
    }
}

/// Gemini's `streamGenerateContent?alt=sse`.
pub mod gemini {
    use super::*;

    pub fn chunk(parts: Value, finish: Option<&str>) -> String {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = json!(finish);
        }
        let usage = json!({"promptTokenCount": 10, "candidatesTokenCount": 7, "totalTokenCount": 17});
        let data = json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r"});
        format!("data: {data}\n\n")
    }

    pub fn turn(chunks: &[String]) -> Script {
        stream(chunks.concat())
    }
}
