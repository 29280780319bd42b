//! The tools as the gateway's own agent sees them: the catalogue over an in-process channel, and outside servers.

use std::sync::Arc;

use rmcp::{
    RoleClient, ServiceExt,
    model::{CallToolRequest, CallToolRequestParams, ClientRequest, JsonObject, ProtocolVersion},
    service::{
        ClientLifecycleMode, ClientServiceExt, PeerRequestOptions, RunningService, RxJsonRpcMessage,
        TxJsonRpcMessage,
    },
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;

use super::{
    McpHandler,
    external_call::{ExternalTool, read_answer},
    external_servers::ExternalServers,
};
use crate::{
    error::{Error, Result},
    task::Group,
    tool::{CallContext, CompletedCall, ToolName},
};

/// The capacity of the channel in each direction, in messages.
const CHANNEL: usize = 64;

/// The client of the catalogue. Its messages are never serialised as JSON.
pub struct InProcessClient {
    client: RunningService<RoleClient, ()>,
}

impl InProcessClient {
    /// Connects to a handler within this process.
    ///
    /// # Errors
    /// [`Reason::Internal`](crate::error::Reason::Internal).
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
