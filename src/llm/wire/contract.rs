//! What a wire is: a protocol that turns a request into a body, and a decoder that turns events into parts and an end.

use std::sync::Arc;

use serde_json::Value;

use super::{calls::RawCall, finish::FinishReason};
use crate::llm::{FailureKind, ModelFailure, ModelRequest, SelectedModel, ToolCall, Usage};

/// What an event adds to the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EventPart {
    Text(String),
    Reasoning(String),
}

/// What is known at the end of an answer, besides its parts.
#[derive(Debug, Default)]
pub(super) struct AnswerEnd {
    pub(super) calls: Vec<RawCall>,
    /// Why the answer ended; `None` if the stream broke off first, which makes the answer a failure.
    pub(super) finish: Option<FinishReason>,
    /// The model's words if it refused; otherwise empty.
    pub(super) refusal: String,
}

/// Decodes the events of one answer.
pub(super) trait Decoder: Send {
    /// Processes one event; not called once [`Decoder::is_over`] returns true. Appends to `parts`, also before it fails.
    ///
    /// # Errors
    /// When the server reports an error, or content cannot be read.
    fn event(&mut self, name: &str, data: &str, parts: &mut Vec<EventPart>) -> Result<(), ModelFailure>;

    /// Returns whether the server has said that nothing more follows.
    fn is_over(&self) -> bool;

    /// Returns whether it is known how the answer ends; what follows, such as its usage, may still be missing.
    fn is_complete(&self) -> bool;

    /// Returns how many calls have begun.
    fn calls(&self) -> usize;

    /// Returns the usage so far, as far as the server has reported it.
    fn usage(&self) -> Usage;

    /// Returns the calls, the finish reason and the refusal when the stream has ended. Called once, but [`Decoder::native`] and
    /// [`Decoder::usage`] are still called after it.
    fn answer(&mut self) -> AnswerEnd;

    /// Returns the message in the form that the server expects back, with this text and these calls.
    fn native(&self, text: &str, calls: &[ToolCall]) -> Value;
}

/// The protocol of a provider.
pub(super) trait Protocol: Send + Sync + std::fmt::Debug {
    /// Returns the body of a request.
    fn body(&self, request: &ModelRequest, selected: &SelectedModel) -> Value;
    /// Returns a decoder for its response.
    fn decoder(&self, selected: &Arc<SelectedModel>) -> Box<dyn Decoder>;
}

/// Returns the failure for a body that ended before its answer did.
pub(super) fn closed() -> ModelFailure {
    ModelFailure::new(
        FailureKind::Unreachable,
        "the model's server closed the connection in the middle of its answer",
    )
}
