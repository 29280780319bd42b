//! MCP servers of others, over streamable HTTP or the standard streams of a process. They are connected in the
//! background, and again when they are lost, so that a server that hangs holds up nobody.

mod transport;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rmcp::{
    ClientHandler, RoleClient,
    model::{CallToolRequest, CallToolRequestParams, ClientRequest, JsonObject, RequestMetaObject},
    service::{NotificationContext, Peer, PeerRequestOptions, RunningService},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    external_call::{ExternalTool, await_answer, read_answer},
    offered_tools::{self, OfferedSchema, ToolListing},
};
use crate::{
    engine::Supervisor,
    error::{Error, Reason, Result},
    secret::{Secret, masked_url},
    sync::back_off,
    task::Group,
    telemetry::{Activity, Span},
    tool::{CallContext, CompletedCall},
};

/// The time limit for connecting to a server, and for listing its tools; connecting is tried again later.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// How long a job waits for servers that are being connected for the first time.
const FIRST_CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A list of tools that could not be refreshed is requested again after this time.
const LIST_AGAIN: Duration = Duration::from_secs(30);
/// The first and the longest pause between two attempts to connect; it doubles in between.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A server whose standard output has a longer line is disconnected.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// Providers accept tool names of at most this length.
const MAX_NAME_BYTES: usize = 64;

/// An outside MCP server: a URL, or a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExternalServer {
    /// Its address, for a server over streamable HTTP.
    pub url: Option<String>,
    /// Headers of every request to it. Their values are secrets.
    pub headers: BTreeMap<String, Secret>,
    /// Program and arguments, for a server over its standard streams.
    pub command: Vec<String>,
    /// Environment variables of that process beside the usual ones. Their values are secrets.
    pub environment: BTreeMap<String, Secret>,
    /// The longest time that one call may take, in seconds; 0 means 300.
    pub timeout_seconds: u32,
    /// The names of the tools that are offered; empty means all.
    pub tools: Vec<String>,
}

impl ExternalServer {
    fn timeout(&self) -> Duration {
        Duration::from_secs(if self.timeout_seconds == 0 { 300 } else { self.timeout_seconds.into() })
    }

    /// Returns what is wrong with the configuration, in a sentence.
    pub fn mistake(&self) -> Option<String> {
        match (&self.url, self.command.is_empty()) {
            (Some(_), false) => Some("give either url or command, not both".to_owned()),
            (None, true) => Some("give url, or command".to_owned()),
            (Some(url), true) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Some(format!("`{}` must begin with http:// or https://", masked_url(url)))
            }
            _ => None,
        }
    }
}

#[derive(Clone, Default)]
enum ExternalServerState {
    /// The first attempt has not ended yet.
    #[default]
    Connecting,
    Connected(Peer<RoleClient>, Arc<[ExternalTool]>),
    Lost,
}

struct ExternalServerHandle {
    config: ExternalServer,
    state: watch::Receiver<ExternalServerState>,
}

/// The outside servers, by name.
pub struct ExternalServers {
    servers: BTreeMap<Arc<str>, ExternalServerHandle>,
    tasks: Group,
}

/// Is notified when a server's tools have changed.
#[derive(Clone, Default)]
struct Listener(Arc<Notify>);

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.notify_one();
    }
}

impl ExternalServers {
    /// Begins to connect to each server, and returns at once.
    pub fn connect(
        configs: &BTreeMap<String, ExternalServer>,
        supervisor: &Supervisor,
        (home, directory): (&str, &std::path::Path),
    ) -> Self {
        let tasks = Group::new("outside MCP servers");
        let servers = configs.iter().map(|(name, config)| {
            let name: Arc<str> = name.as_str().into();
            let (sender, state) = watch::channel(ExternalServerState::default());
            let connection = ExternalServerConnection {
                name: name.clone(),
                config: config.clone(),
                supervisor: supervisor.clone(),
                home: home.to_owned(),
                directory: directory.to_owned(),
                tasks: tasks.clone(),
                state: sender,
            };
            tasks.spawn("outside_server", connection.keep());
            (name, ExternalServerHandle { config: config.clone(), state })
        });
        Self { servers: servers.collect(), tasks }
    }

    /// Returns the tools of the connected servers. Waits at most 5 seconds for those that are being connected for the
    /// first time.
    pub(super) async fn tools(&self) -> Vec<ExternalTool> {
        let until = Instant::now() + FIRST_CONNECT_WAIT;
        let mut tools: Vec<ExternalTool> = Vec::new();
        for server in self.servers.values() {
            let mut state = server.state.clone();
            let settled = state.wait_for(|state| !matches!(state, ExternalServerState::Connecting));
            if let Ok(Ok(state)) = tokio::time::timeout_at(until, settled).await
                && let ExternalServerState::Connected(_, offered) = &*state
            {
                for tool in &**offered {
                    if tools.iter().all(|known| known.name != tool.name) {
                        tools.push(tool.clone());
                    }
                }
            }
        }
        tools
    }

    pub(super) async fn call(
        &self,
        tool: &ExternalTool,
        arguments: JsonObject,
        context: CallContext,
        idempotency_key: &str,
    ) -> CompletedCall {
        let started = Instant::now();
        let span = Span::begin(Activity::ExecuteTool, "external", context.trace, &context.job_id);
        let context = CallContext { trace: span.context(), ..context };
        let answer = self.try_call(tool, arguments, &context, idempotency_key).await;
        let (result, exit) = match answer {
            Ok(answer) => read_answer(answer),
            Err(error) => (Err(error), None),
        };
        let duration = started.elapsed();
        let (outcome, cause) = match &result {
            Ok(_) => ("ok", None),
            Err(error) => (error.reason().name(), error.cause()),
        };
        span.end(outcome);
        tracing::info!(
            target: "audit", caller = %context.caller, job_id = context.job_id, server = &*tool.server,
            tool = tool.tool, outcome, cause,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "outside tool call"
        );
        CompletedCall { result, exit, duration }
    }

    async fn try_call(
        &self,
        tool: &ExternalTool,
        arguments: JsonObject,
        context: &CallContext,
        idempotency_key: &str,
    ) -> Result<Result<rmcp::model::ServerResult, rmcp::service::ServiceError>> {
        let server = self.servers.get(&tool.server).ok_or_else(|| Error::internal("an unknown server"))?;
        let ExternalServerState::Connected(peer, _) = server.state.borrow().clone() else {
            let message = format!("the MCP server `{}` is not connected now; try again later", tool.server);
            return Err(Error::new(Reason::ToolFailed, message));
        };
        let params = CallToolRequestParams::new(tool.tool.clone()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let mut meta = RequestMetaObject::default();
        meta.insert("idempotencyKey".to_owned(), Value::from(idempotency_key));
        meta.insert("traceparent".to_owned(), Value::from(context.trace.to_string()));
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let limit = server.config.timeout();
        let latest = context.limit.end().min(Instant::now() + limit);
        let sent = tokio::select! {
            // The cancellation first, because a call that was never sent needs no end. The others only wait.
            biased;
            () = context.cancel.cancelled() => return Err(Error::cancelled()),
            sent = peer.send_cancellable_request(request, options) => sent,
            () = tokio::time::sleep_until(latest) => {
                return Err(Error::new(Reason::TimedOut, "the tool's server takes no calls"));
            }
        };
        let handle = match sent {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error)),
        };
        await_answer(handle, context, limit).await
    }

    pub(super) fn close(&self) {
        self.tasks.stop();
    }
}

/// Maintains one connection.
struct ExternalServerConnection {
    name: Arc<str>,
    config: ExternalServer,
    supervisor: Supervisor,
    home: String,
    directory: std::path::PathBuf,
    tasks: Group,
    state: watch::Sender<ExternalServerState>,
}

impl ExternalServerConnection {
    async fn keep(self) {
        let mut failures = 0;
        let mut last_error = String::new();
        while !self.tasks.stopping().is_cancelled() {
            let listener = Listener::default();
            let opening = tokio::time::timeout(CONNECT_TIME, self.open(listener.clone()));
            let opened = tokio::select! {
                // Dropping an attempt drops its connection or process.
                opened = opening => opened.unwrap_or_else(|_| Err("it does not answer".to_owned())),
                () = self.tasks.stopping().cancelled() => return,
            };
            match opened {
                Ok(service) => {
                    if self.serve(service, &listener.0).await {
                        failures = 0;
                    }
                    tracing::warn!(server = &*self.name, "an MCP server was lost");
                }
                // Logged once for each reason, because it is tried again for as long as the gateway runs.
                Err(error) if error == last_error => {
                    tracing::debug!(server = &*self.name, error, "an MCP server still cannot be used");
                }
                Err(error) => {
                    tracing::warn!(
                        server = &*self.name,
                        error,
                        "an MCP server cannot be used; it is tried again"
                    );
                    last_error = error;
                }
            }
            self.state.send_replace(ExternalServerState::Lost);
            failures += 1;
            tokio::select! {
                () = tokio::time::sleep(back_off(failures, FIRST_PAUSE, LONGEST_PAUSE)) => {}
                () = self.tasks.stopping().cancelled() => return,
            }
        }
    }

    /// Publishes the tools, again when they change, until the connection is lost. Returns whether the tools were ever
    /// listed.
    async fn serve(&self, service: RunningService<RoleClient, Listener>, changed: &Notify) -> bool {
        let mut has_tools = false;
        // Logged once for each connection.
        let mut is_said = false;
        loop {
            let mut is_current = false;
            match tokio::time::timeout(CONNECT_TIME, offered_tools::list(service.peer())).await {
                Ok(Ok(ToolListing { tools, cut })) => {
                    if let Some(why) = cut.filter(|_| !is_said) {
                        tracing::warn!(
                            server = &*self.name,
                            why,
                            taken = tools.len(),
                            "an MCP server's list is cut"
                        );
                    }
                    let offered: Vec<ExternalTool> =
                        tools.into_iter().filter_map(|tool| self.offer(tool, is_said)).collect();
                    is_said = true;
                    tracing::info!(server = &*self.name, tools = offered.len(), "an MCP server is connected");
                    self.state
                        .send_replace(ExternalServerState::Connected(service.peer().clone(), offered.into()));
                    (has_tools, is_current) = (true, true);
                }
                failed => {
                    let error = failed.err().map_or("it refused", |_| "no answer in time");
                    tracing::warn!(server = &*self.name, error, "an MCP server does not list its tools");
                    // A server that listed its tools before may only be busy, so calls to it continue.
                    if !has_tools {
                        return false;
                    }
                }
            }
            let again = Instant::now() + LIST_AGAIN;
            loop {
                tokio::select! {
                    // Cancel safe: every branch only waits.
                    () = changed.notified() => break,
                    () = tokio::time::sleep_until(again), if !is_current => break,
                    () = self.tasks.stopping().cancelled() => return has_tools,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {
                        if service.is_closed() || service.peer().is_transport_closed() {
                            return has_tools;
                        }
                    }
                }
            }
        }
    }

    fn offer(&self, tool: rmcp::model::Tool, is_said: bool) -> Option<ExternalTool> {
        if !self.config.tools.is_empty() && !self.config.tools.iter().any(|name| *name == tool.name) {
            return None;
        }
        let mut name: String = format!("{}_{}", self.name, tool.name)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' })
            .collect();
        name.truncate(MAX_NAME_BYTES);
        let OfferedSchema { for_model, for_check, note } = offered_tools::schema(&tool.input_schema);
        if let Some(why) = note.filter(|_| !is_said) {
            tracing::warn!(
                server = &*self.name,
                tool = name,
                why,
                "an outside tool is offered with another schema"
            );
        }
        Some(ExternalTool {
            server: self.name.clone(),
            tool: tool.name.into_owned(),
            name,
            description: offered_tools::description(&tool.description.unwrap_or_default()),
            input_schema: for_model,
            checked_schema: for_check,
        })
    }
}
