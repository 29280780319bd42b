//! The tools as the gateway's own agent sees them: the catalogue over an in-process channel, and outside servers.

use std::{sync::Arc, time::Duration};

use rmcp::{
    RoleClient, ServiceExt,
    model::{
        CallToolRequest, CallToolRequestParams, ClientRequest, JsonObject, ProtocolVersion, ServerResult,
    },
    service::{
        ClientLifecycleMode, ClientServiceExt, PeerRequestOptions, RequestHandle, RunningService,
        RxJsonRpcMessage, ServiceError, TxJsonRpcMessage,
    },
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot::error::RecvError},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;

use super::{McpHandler, external_servers::ExternalServers, outcome::from_mcp};
use crate::{
    error::{Error, Reason, Result},
    task::Group,
    tool::{CallContext, CompletedCall, ToolName},
};

/// The capacity of the channel in each direction, in messages.
const CHANNEL: usize = 64;
/// How long to try to notify an outside server of a cancellation.
const TELL_TIME: Duration = Duration::from_secs(1);

/// The client of the catalogue. Its messages are never serialised as JSON.
pub struct InProcessClient {
    client: RunningService<RoleClient, ()>,
}

impl InProcessClient {
    /// Connects to a handler within this process.
    ///
    /// # Errors
    /// [`Reason::Internal`].
    pub async fn connect(handler: McpHandler) -> Result<Self> {
        let (to_server, at_server) = mpsc::channel::<TxJsonRpcMessage<RoleClient>>(CHANNEL);
        let (to_client, at_client) = mpsc::channel::<RxJsonRpcMessage<RoleClient>>(CHANNEL);
        let server_side = (PollSender::new(to_client), ReceiverStream::new(at_server));
        let client_side = (PollSender::new(to_server), ReceiverStream::new(at_client));
        let lifecycle =
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
        // The server's side is set up only by the first call; it ends with the client's.
        Group::new("agent tools").spawn("agent_tools_server", async move {
            match Box::pin(Arc::new(handler).serve(server_side)).await {
                Ok(server) => {
                    let _how_it_ended = server.waiting().await;
                }
                Err(error) => tracing::debug!(%error, "the agent's tools were never called"),
            }
        });
        let client = ().serve_with_lifecycle(client_side, lifecycle).await.map_err(Error::internal)?;
        Ok(Self { client })
    }

    async fn call(&self, name: &str, arguments: JsonObject, context: CallContext) -> CompletedCall {
        let started = Instant::now();
        let params = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments);
        let mut request = CallToolRequest::new(params);
        request.extensions.insert(context);
        let request = ClientRequest::CallToolRequest(request);
        let answer = async {
            let handle = self
                .client
                .peer()
                .send_cancellable_request(request, PeerRequestOptions::no_options())
                .await?;
            // The call itself ends at its deadline and when it is cancelled, its processes first.
            handle.await_response().await
        };
        let (result, exit) = read_answer(answer.await);
        CompletedCall { result, exit, duration: started.elapsed() }
    }
}

pub(super) fn read_answer(
    answer: Result<ServerResult, ServiceError>,
) -> (Result<crate::tool::ToolResult>, Option<crate::engine::Exit>) {
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
    let deadline = context.deadline.min(Instant::now() + limit);
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

/// Every tool that the agent may call.
pub struct AgentTools {
    own: InProcessClient,
    outside: ExternalServers,
}

impl AgentTools {
    /// Combines the catalogue and the outside servers.
    pub fn new(own: InProcessClient, outside: ExternalServers) -> Self {
        Self { own, outside }
    }

    /// Returns the tools of the outside servers that are connected now.
    pub async fn outside(&self) -> Vec<ExternalTool> {
        self.outside.tools().await
    }

    /// Calls a tool of the catalogue.
    pub async fn call(&self, tool: ToolName, arguments: JsonObject, context: CallContext) -> CompletedCall {
        self.own.call(tool.as_str(), arguments, context).await
    }

    /// Calls a tool of an outside server. `idempotency_key` is sent along for servers that support it.
    pub async fn call_outside(
        &self,
        tool: &ExternalTool,
        arguments: JsonObject,
        context: CallContext,
        idempotency_key: &str,
    ) -> CompletedCall {
        self.outside.call(tool, arguments, context, idempotency_key).await
    }

    /// Ends the connections to outside servers, and their processes.
    pub fn close(&self) {
        self.outside.close();
    }
}
