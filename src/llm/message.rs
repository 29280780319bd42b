//! What is sent to a model and what it returns.

use std::{fmt, sync::Arc};

use crate::telemetry::TraceContext;

use serde_json::{Map, Value};

use super::usage::Usage;

/// One message of a conversation.
#[derive(Clone, Debug)]
pub enum Message {
    /// From the user.
    User(String),
    /// From the model.
    Assistant(AssistantMessage),
    /// The results of the tools, in the order of the calls.
    ToolOutcomes(Vec<ToolOutcome>),
}

/// What a model returned in one turn.
#[derive(Clone, Default)]
pub struct AssistantMessage {
    /// The text.
    pub text: String,
    /// The tool calls that it requests.
    pub calls: Vec<ToolCall>,
    /// The message in the wire's own form, kept so that parts signed by the provider are sent back unchanged.
    native: Option<Arc<Value>>,
}

impl AssistantMessage {
    /// Creates a message that was not received from a model, such as one of an earlier conversation or an example.
    pub fn new(text: impl Into<String>, calls: Vec<ToolCall>) -> Self {
        Self { text: text.into(), calls, native: None }
    }

    pub(super) fn of_wire(text: &str, calls: Vec<ToolCall>, native: Value) -> Self {
        Self { text: text.to_owned(), calls, native: Some(Arc::new(native)) }
    }

    /// Prepends the content that was received before a pause.
    pub(super) fn prepend_to_native(&mut self, earlier: &[Value]) {
        let Some(native) = self.native.as_mut().map(Arc::make_mut) else { return };
        if let Some(content) = native.get_mut("content").and_then(Value::as_array_mut) {
            content.splice(0..0, earlier.iter().cloned());
        }
    }

    pub(super) fn native(&self) -> Option<&Value> {
        self.native.as_deref()
    }
}

impl fmt::Debug for AssistantMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssistantMessage").field("text", &self.text).field("calls", &self.calls).finish()
    }
}

/// A tool call that a model requests.
#[derive(Clone)]
pub struct ToolCall {
    /// The provider's id, or a generated one if the provider gave none.
    pub id: String,
    /// Whether the provider assigned the id, and to no other call of the turn.
    pub has_own_id: bool,
    /// The tool's name, as the model wrote it.
    pub name: String,
    /// The arguments, or the model's text if that is not a JSON object.
    pub arguments: Result<Map<String, Value>, String>,
}

impl ToolCall {
    /// Creates a call that was not received from a model, such as an example.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: Map<String, Value>) -> Self {
        Self { id: id.into(), has_own_id: true, name: name.into(), arguments: Ok(arguments) }
    }
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolCall")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("arguments", &self.arguments)
            .finish()
    }
}

/// The result of a tool call.
#[derive(Clone, Debug)]
pub struct ToolOutcome {
    /// The call that it belongs to.
    pub call: ToolCall,
    /// The text for the model.
    pub text: String,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// A tool that a model may call.
#[derive(Clone, Debug)]
pub struct ToolDefinition {
    /// The name to call it by.
    pub name: String,
    /// A description of when to use it.
    pub description: Arc<str>,
    /// The JSON Schema of its arguments, shared by all who offer the tool.
    pub parameters: Arc<Value>,
}

/// A request to a model.
#[derive(Clone, Debug, Default)]
pub struct ModelRequest {
    /// The system prompt.
    pub system: String,
    /// The conversation, the oldest message first.
    pub messages: Vec<Message>,
    /// The tools it may call.
    pub tools: Arc<[ToolDefinition]>,
    /// The span of the call, for the server's own traces.
    pub trace: Option<TraceContext>,
}

/// A piece of an answer as it arrives.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Text of the answer.
    Text(String),
    /// Text of the model's reasoning.
    Reasoning(String),
    /// The usage of an answer that has failed; the failure follows.
    Used(Usage),
    /// The answer is complete.
    End(ModelTurn),
}

/// The maximum number of tool calls in one answer.
pub(crate) const MAX_CALLS: usize = 64;
/// The finish reason of an answer that began more calls than [`MAX_CALLS`]; none of them may be made.
pub(crate) const TOO_MANY_CALLS: &str = "too_many_calls";

/// A complete answer.
#[derive(Clone, Debug, Default)]
pub struct ModelTurn {
    /// The model's message, to be appended to the conversation.
    pub message: AssistantMessage,
    /// Why it stopped: "stop", "tool_calls", "length", or [`TOO_MANY_CALLS`].
    pub finish_reason: &'static str,
    /// Its usage.
    pub usage: Usage,
}
