//! Who makes a call and within which limits, what it reports, and what becomes of it.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Exit, OutputChunk},
    error::{Error, Reason, Result},
    principal::Principal,
    telemetry::TraceContext,
    time_limit::TimeLimit,
};

/// The conversation of calls that name none; each caller has one of their own.
pub const DEFAULT_CONVERSATION: &str = "default";

/// Who makes a call, for which job and within which limits.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The caller.
    pub caller: Principal,
    /// The job's id, with which its processes are marked; empty for a call without a job.
    pub job_id: String,
    /// The span within which the call is made.
    pub trace: TraceContext,
    /// The conversation's id; `default` where the caller named none.
    pub conversation_id: String,
    /// Cancels the call and ends its process tree.
    pub cancel: CancellationToken,
    /// The time limit of the call's engine run and questions.
    pub limit: TimeLimit,
    /// Receives output and questions as they come. The receiver may be dropped.
    pub progress: mpsc::Sender<Progress>,
    /// Whether to ask before a destructive call. One that a caller named needs no question; one that a model thought of
    /// does.
    pub asks_first: bool,
}

impl CallContext {
    /// Waits until the call is cancelled or its time is over, and returns the error for it. Cancel safe.
    pub(super) async fn stopped(&self) -> Error {
        tokio::select! {
            () = self.cancel.cancelled() => Error::cancelled(),
            () = self.limit.passed() => Error::new(Reason::TimedOut, "the job's time is over; give it more time"),
        }
    }

    /// Returns the conversation that a call refers to: the one that it names, else the job's.
    pub(super) fn conversation(&self, named: Option<&str>) -> String {
        named.unwrap_or(&self.conversation_id).to_owned()
    }
}

/// What a call reports while it runs.
#[derive(Debug)]
pub enum Progress {
    /// The engine printed something.
    Output(OutputChunk),
    /// Another run of this agent has to end first.
    WaitingForAgent(String),
    /// The other run of this agent has ended.
    AgentIsFree(String),
    /// The call asks a question.
    Question(Question),
}

/// The result of a call that succeeded.
#[derive(Clone, Debug)]
pub struct ToolResult {
    /// The result as text, for people.
    pub text: String,
    /// The typed result.
    pub value: Value,
    /// Whether part of it was cut.
    pub is_truncated: bool,
}

impl ToolResult {
    pub(super) fn new(text: impl Into<String>, result: &impl Serialize) -> Result<Self> {
        let value = serde_json::to_value(result).map_err(Error::internal)?;
        Ok(Self { text: text.into(), value, is_truncated: false })
    }
}

/// A call that is over.
#[derive(Clone, Debug)]
pub struct CompletedCall {
    /// The result, or why the call failed.
    pub result: Result<ToolResult>,
    /// How the engine's process ended, where one ran.
    pub exit: Option<Exit>,
    /// How long it took.
    pub duration: Duration,
}

/// A question of a running call.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub prompt: String,
    /// The JSON Schema that an answer has to fit.
    pub schema: Value,
    /// The answer that is used when nobody answers in time.
    pub default: Value,
    /// How long an answer is waited for; enforced by whoever receives the question.
    pub timeout: Duration,
    /// The channel on which the answer is sent.
    pub reply: oneshot::Sender<Value>,
}

impl Question {
    /// Returns the schema of a yes-or-no question.
    pub fn yes_or_no() -> Value {
        json!({"type": "boolean"})
    }
}
