//! Several messages in one body, which versions up to 2025-03-26 allow (JSON-RPC 2.0, section 6). Each is handled as if it
//! had come alone, and the answers are returned as one list. Messages of the server other than answers are dropped.

use axum::body::Body;
use futures_util::future::join_all;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde_json::Value;

use super::{accept, refusals::refused};
use crate::json_rpc::{self, JsonRpcRefusal, MAX_BATCH, WITHOUT_BATCHES};

/// Handles a batch and returns the combined response; `handle` answers one message.
pub(super) async fn answer<A>(
    head: &Parts,
    messages: Vec<Value>,
    handle: impl Fn(Parts, Vec<u8>) -> A,
) -> Response<Body>
where
    A: Future<Output = Response<Body>>,
{
    let version = head.headers.get("mcp-protocol-version").and_then(|version| version.to_str().ok());
    let version = version.unwrap_or("2025-03-26");
    let opens = messages.iter().any(|message| message["method"] == "initialize");
    if opens || version >= WITHOUT_BATCHES || messages.len() > MAX_BATCH {
        return refused(&JsonRpcRefusal::no_batch(if opens { "" } else { version }));
    }
    let answers = messages.into_iter().map(|message| async {
        let message = match json_rpc::normalize_message(message) {
            Ok(message) => message,
            Err(refusal) => return Some(refusal.to_value()),
        };
        let is_request = message.get("id").is_some() && message.get("method").is_some();
        let id = message.get("id").cloned();
        let response = handle(head.clone(), message.to_string().into_bytes()).await;
        if !is_request {
            return None;
        }
        let document = match accept::is(&response, accept::STREAM) {
            true => accept::answer_of(response.into_body()).await,
            false => accept::collected(response.into_body()).await.map(Some),
        };
        // A failure of one message does not affect the answers to the others.
        let document = match document {
            Ok(Some(document)) => document,
            // A request that was cancelled has no answer.
            Ok(None) => return None,
            Err(error) => return Some(JsonRpcRefusal::in_words(id, error.message()).to_value()),
        };
        // The library reports some errors as plain text.
        let in_words = || JsonRpcRefusal::in_words(id, &String::from_utf8_lossy(&document)).to_value();
        Some(serde_json::from_slice(&document).unwrap_or_else(|_| in_words()))
    });
    let answers: Vec<Value> = join_all(answers).await.into_iter().flatten().collect();
    if answers.is_empty() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::ACCEPTED;
        return response;
    }
    let mut response = Response::new(Body::from(Value::Array(answers).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(accept::JSON));
    response
}
