//! What is said to a model and what it says.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

use super::usage::Usage;

/// One message of a conversation.
#[derive(Clone, Debug)]
pub enum Message {
    /// From the user.
    User(String),
    /// From the model.
    Assistant(AssistantMessage),
    /// What the tools answered, in the order of the calls.
    ToolOutcomes(Vec<ToolOutcome>),
}

/// What a model said in one turn.
#[derive(Clone, Default)]
pub struct AssistantMessage {
    /// The text.
    pub text: String,
    /// The calls it wants made.
    pub calls: Vec<ToolCall>,
    /// The message in the wire's own form, kept so that what a provider signed goes back to it as it came.
    native: Option<Arc<Value>>,
}

impl AssistantMessage {
    /// A message that no model has sent: of an earlier conversation, or an example.
    pub fn new(text: impl Into<String>, calls: Vec<ToolCall>) -> Self {
        Self { text: text.into(), calls, native: None }
    }

    pub(super) fn of_wire(text: &str, calls: Vec<ToolCall>, native: Value) -> Self {
        Self { text: text.to_owned(), calls, native: Some(Arc::new(native)) }
    }

    /// Puts what was said before a pause before the rest.
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

/// A call that a model wants made.
#[derive(Clone)]
pub struct ToolCall {
    /// The provider's id for it, or one of ours where it gave none.
    pub id: String,
    /// Whether the provider gave it, and gave it to no other call of the turn.
    pub has_own_id: bool,
    /// The tool's name, as the model wrote it.
    pub name: String,
    /// The arguments, or what the model wrote when that was no JSON object.
    pub arguments: Result<Map<String, Value>, String>,
}

impl ToolCall {
    /// A call that no model has made: an example.
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

/// What a tool answered.
#[derive(Clone, Debug)]
pub struct ToolOutcome {
    /// The call that it answers.
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
    /// When to use it.
    pub description: Arc<str>,
    /// The JSON Schema of its arguments, shared by all who offer the tool.
    pub parameters: Arc<Value>,
}

/// What a model is asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The system prompt.
    pub system: String,
    /// The conversation, the oldest message first.
    pub messages: Vec<Message>,
    /// The tools it may call.
    pub tools: Arc<[ToolDefinition]>,
}

/// A piece of an answer as it came.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Text of the answer.
    Text(String),
    /// Text of the model's reasoning.
    Reasoning(String),
    /// What was taken for an answer that has failed; the failure comes behind it.
    Used(Usage),
    /// The answer is complete.
    End(Turn),
}

/// The most tool calls of one answer.
pub const MAX_CALLS: usize = 64;
/// Why an answer stopped that began one call more: nothing of it is to be made.
pub const TOO_MANY_CALLS: &str = "too_many_calls";

/// A complete answer.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// What was said, to go into the conversation.
    pub message: AssistantMessage,
    /// Why it stopped: "stop", "tool_calls", "length", or [`TOO_MANY_CALLS`].
    pub finish_reason: &'static str,
    /// What it took.
    pub usage: Usage,
}
