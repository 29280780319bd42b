//! The wires: what is sent to a model's server and how its response is read, one folder for each protocol.
//!
//! A wire turns a request into bytes and events into parts; it never touches a socket. What all wires share is here: how an
//! answer is read, and what its end means. *Lives here:* protocols of model servers. *May import:* the rest of `llm`. *May not:*
//! open connections.

mod calls;
mod chat;
mod contract;
mod endpoint;
mod finish;
mod gemini;
mod json;
mod messages;
mod reading;
#[cfg(any(test, fuzzing))]
mod replay;
mod responses;
#[cfg(test)]
mod tests;
mod tokens;
mod turn;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue};

use self::{
    calls::RawCall,
    contract::{AnswerEnd, Decoder, EventPart, Protocol, closed},
    finish::FinishReason,
    reading::{AnswerBodyReader, AnswerReader},
    turn::to_turn,
};
use super::{
    AssistantMessage, FailureKind, Message, Model, ModelFailure, ModelIdentity, ModelRequest, ModelTurn,
    Piece, Pieces, SelectedModel, ToolCall, Usage,
    connection::ProviderConnection,
    message::{MAX_CALLS, TOO_MANY_CALLS},
    provider::Wire,
};
use crate::secret::masked_url;
#[cfg(any(test, fuzzing))]
pub(crate) use replay::replay;
pub(super) use turn::local_id;

/// How often a server that pauses its answer is asked to continue.
const MAX_PAUSES: usize = 8;

/// A model that is reached through a provider's wire.
#[derive(Debug)]
pub(super) struct WireModel {
    identity: ModelIdentity,
    selected: Arc<SelectedModel>,
    connection: ProviderConnection,
    protocol: Arc<dyn Protocol>,
    url: String,
    headers: HeaderMap,
}

/// Returns the protocol of a wire.
fn protocol(wire: Wire) -> Arc<dyn Protocol> {
    match wire {
        Wire::Messages => Arc::new(messages::Messages),
        Wire::GenerateContent => Arc::new(gemini::Gemini),
        Wire::ChatCompletions => Arc::new(chat::Chat),
        Wire::Responses => Arc::new(responses::Responses),
    }
}

impl WireModel {
    pub(super) fn new(selected: &SelectedModel) -> Result<Self, String> {
        let url: http::Uri = selected.base_url.parse().map_err(|error| {
            format!("agent.base_url: `{}` is no URL: {error}", masked_url(&selected.base_url))
        })?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(format!(
                "agent.base_url: `{}` must begin with http:// or https://",
                masked_url(&selected.base_url)
            ));
        }
        let connection = ProviderConnection::new(selected, &url)?;
        let wire = selected.wire()?;
        let url = endpoint::endpoint(wire, &url, &selected.model)?;
        let (key_header, key_prefix) = match wire {
            Wire::Messages => ("x-api-key", ""),
            Wire::GenerateContent => ("x-goog-api-key", ""),
            Wire::ChatCompletions | Wire::Responses => ("authorization", "Bearer "),
        };
        let mut headers = HeaderMap::new();
        let key = selected.api_key.expose();
        if !key.is_empty() {
            let mut value = HeaderValue::from_str(&format!("{key_prefix}{key}"))
                .map_err(|_| "agent.api_key: holds characters that no header may".to_owned())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(key_header), value);
        }
        if wire == Wire::Messages {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        // A configured header replaces the gateway's own.
        for name in selected.headers.keys() {
            headers.remove(name.as_str());
        }
        let identity = ModelIdentity { provider: selected.provider.name(), model: selected.model.clone() };
        let (selected, protocol) = (Arc::new(selected.clone()), protocol(wire));
        Ok(Self { identity, selected, connection, protocol, url, headers })
    }
}

impl Model for WireModel {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn ask(&self, mut request: ModelRequest) -> Pieces {
        let (selected, protocol) = (self.selected.clone(), self.protocol.clone());
        let (connection, url, headers) = (self.connection.clone(), self.url.clone(), self.headers.clone());
        let mut headers = headers;
        if let Some(trace) = request.trace.and_then(|trace| HeaderValue::from_str(&trace.to_string()).ok()) {
            headers.insert("traceparent", trace);
        }
        let pieces = async_stream::try_stream! {
            let mut answer = AnswerReader::new(protocol.decoder(&selected));
            for _ in 0..=MAX_PAUSES {
                let body = Bytes::from(protocol.body(&request, &selected).to_string());
                let mut reading = AnswerBodyReader::new(connection.open(&url, headers.clone(), body, &selected).await?);
                loop {
                    let read = reading.read(&mut answer, &selected).await;
                    // What arrived before an error is still delivered.
                    for piece in answer.pieces.drain(..) {
                        yield piece;
                    }
                    if read.is_err() {
                        yield Piece::Used(answer.used(&selected));
                    }
                    let has_more = read?;
                    if answer.calls() > MAX_CALLS {
                        // The answer is ended here: the rest is neither read nor kept.
                        let usage = answer.used(&selected);
                        let message = AssistantMessage::new(answer.text, Vec::new());
                        yield Piece::End(ModelTurn { message, finish_reason: TOO_MANY_CALLS, usage });
                        return;
                    }
                    if !has_more {
                        break;
                    }
                }
                if let Some(said) = answer.paused(&*protocol, &selected) {
                    request.messages.push(Message::Assistant(said));
                    continue;
                }
                let turn = answer.turn(&selected);
                for piece in answer.pieces.drain(..) {
                    yield piece;
                }
                if turn.is_err() {
                    yield Piece::Used(answer.used(&selected));
                }
                yield Piece::End(turn?);
                return;
            }
            yield Piece::Used(answer.used(&selected));
            Err(ModelFailure::new(FailureKind::Malformed, "the model paused its answer again and again and did not end it"))?;
        };
        pieces.boxed()
    }
}
