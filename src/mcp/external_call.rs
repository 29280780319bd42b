//! A tool of an outside server, and the answer to a call of it.

use std::{sync::Arc, time::Duration};

use rmcp::{
    RoleClient,
    model::ServerResult,
    service::{RequestHandle, ServiceError},
};
use serde_json::Value;
use tokio::{sync::oneshot::error::RecvError, time::Instant};

use super::outcome::from_mcp;
use crate::{
    engine::Exit,
    error::{Error, Reason, Result},
    tool::{CallContext, ToolResult},
};

/// How long to try to notify an outside server of a cancellation.
const TELL_TIME: Duration = Duration::from_secs(1);

/// A tool of an outside server, as the agent offers it to its model.
#[derive(Clone, Debug)]
pub struct ExternalTool {
    /// The server's name.
    pub server: Arc<str>,
    /// The tool's name at the server.
    pub tool: String,
    /// The name that the model calls it by: the server's and the tool's name, unique among the offered tools.
    pub name: String,
    /// When to use it, for the model.
    pub description: String,
    /// The JSON Schema of its arguments, for the model.
    pub input_schema: Value,
    /// The schema that arguments are checked against; `None` where only the server can check them.
    pub checked_schema: Option<Value>,
}

pub(super) fn read_answer(answer: Result<ServerResult, ServiceError>) -> (Result<ToolResult>, Option<Exit>) {
    match answer {
        Ok(ServerResult::CallToolResult(result)) => from_mcp(result),
        Ok(_) => {
            (Err(Error::new(Reason::ToolFailed, "the tool's server gave an answer of another kind")), None)
        }
        Err(ServiceError::McpError(error)) => {
            (Err(Error::new(Reason::ToolFailed, error.message.to_string()).because(error)), None)
        }
        // The library's own message is not used: it holds the server's address, and with it perhaps a key.
        Err(error) => {
            let what = match error {
                ServiceError::Timeout { .. } => "did not answer in time",
                ServiceError::Cancelled { .. } => "cancelled the call",
                ServiceError::TransportClosed => "was lost before it answered",
                _ => "cannot be reached, or answered with no proper message",
            };
            (Err(Error::new(Reason::ToolFailed, format!("the tool's server {what}; try again later"))), None)
        }
    }
}

/// Waits for an outside server's answer, at most for `limit`, until the deadline, or until a cancellation; in these
/// cases the server is notified.
pub(super) async fn await_answer(
    mut handle: RequestHandle<RoleClient>,
    context: &CallContext,
    limit: Duration,
) -> Result<Result<ServerResult, ServiceError>> {
    let deadline = context.limit.end().min(Instant::now() + limit);
    let (reason, error) = tokio::select! {
        // Cancel safe: every branch only waits.
        answer = &mut handle.rx => {
            return Ok(answer.unwrap_or_else(|_: RecvError| Err(ServiceError::TransportClosed)));
        }
        () = context.cancel.cancelled() => ("the job was cancelled", Error::cancelled()),
        () = tokio::time::sleep_until(deadline) => {
            let message = format!("the tool's server did not answer within {} seconds", limit.as_secs());
            ("the time is over", Error::new(Reason::TimedOut, message))
        }
    };
    // A server that no longer reads cannot be notified.
    let told = tokio::time::timeout(TELL_TIME, handle.cancel(Some(reason.to_owned()))).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::debug!("a tool's server could not be told of a cancellation");
    }
    Err(error)
}
