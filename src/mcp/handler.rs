//! The MCP handler: one for outside clients, whose calls become jobs, and one for the gateway's own agent, whose calls
//! already belong to a job.

#![expect(deprecated, reason = "clients of older versions still subscribe and set a log level")]

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams,
        CompleteResult, CustomRequest, CustomResult, GetPromptRequestParams, GetPromptResponse,
        Implementation, InitializeRequestParams, InitializeResult, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
        ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
        SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    outcome::{in_words, to_mcp, to_protocol_error},
    prompts,
    resources::watchable,
    server::McpHandler,
    spec::{CATALOGUE_TOOLS, INSTRUCTIONS, OUTSIDE_TOOLS, SEND_SESSION_INPUT},
};
use crate::{
    error::{Error, Reason, Result},
    pb::Json,
    principal::Principal,
    telemetry::TraceContext,
    time_limit::TimeLimit,
    tool::{Call, CallContext, DEFAULT_CONVERSATION},
};

/// The time limit for a call that only reads files.
const DIRECT_TIME: Duration = Duration::from_secs(30);
/// The most bytes that a client may send about itself when it opens a session: its names, its icons, its capabilities.
const MAX_CLIENT_BYTES: usize = 16 * 1024;
/// How long clients may keep lists, in milliseconds.
const LIST_TTL_MS: u64 = 60_000;

impl McpHandler {
    fn tools(&self) -> &'static [Tool] {
        if self.runner.is_some() { &OUTSIDE_TOOLS } else { &CATALOGUE_TOOLS }
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !self.tools().iter().any(|tool| tool.name == request.name) {
            let error = crate::tool::ToolName::find(&request.name).err();
            let message = error.map_or_else(
                || format!("there is no tool `{}`", crate::text::quoted(&request.name)),
                |error| in_words(&error),
            );
            return Err(ErrorData::invalid_params(message, None));
        }
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let Some(runner) = self.runner.clone() else {
            let Some(job) = context.extensions.get::<CallContext>() else {
                return Err(ErrorData::internal_error("a call of the agent came without its job", None));
            };
            return Ok(match Call::read(&request.name, Some(&Json::from_value(&arguments))) {
                Ok(call) => to_mcp(&self.toolbox.call(&call, job).await, "").into(),
                Err(error) => refused(&error).into(),
            });
        };
        let caller = self.caller(&context)?;
        if request.name == SEND_SESSION_INPUT {
            return Ok(self.send_session_input(runner.as_ref(), &caller, &arguments, &context).await);
        }
        match Call::read(&request.name, Some(&Json::from_value(&arguments))) {
            Err(error) => Ok(refused(&error).into()),
            Ok(call) if call.only_reads() => Ok(self.answer(caller, &call, &context).await.into()),
            Ok(call) => self.run_as_job(runner.as_ref(), caller, call, request, context).await,
        }
    }

    /// Returns the caller that the request's door named; on standard input and output, the one that the handler was
    /// created with.
    pub(super) fn caller(&self, context: &RequestContext<RoleServer>) -> Result<Principal, ErrorData> {
        let parts = context.extensions.get::<http::request::Parts>();
        let named = match parts {
            Some(parts) => parts.extensions.get::<Principal>().cloned(),
            None => self.own_caller.clone(),
        };
        named.ok_or_else(|| ErrorData::internal_error("a request came without its caller", None))
    }

    /// Runs a call that only reads: at once, with its audit line, without a job.
    async fn answer(
        &self,
        caller: Principal,
        call: &Call,
        context: &RequestContext<RoleServer>,
    ) -> CallToolResult {
        let (progress, _nobody_listens) = mpsc::channel(1);
        let context = CallContext {
            caller,
            job_id: String::new(),
            trace: trace(context).unwrap_or_else(TraceContext::new_trace),
            conversation_id: DEFAULT_CONVERSATION.to_owned(),
            cancel: context.ct.clone(),
            limit: TimeLimit::new(DIRECT_TIME),
            progress,
            asks_first: false,
        };
        match tokio::time::timeout(DIRECT_TIME, self.toolbox.call(call, &context)).await {
            Ok(completed) => to_mcp(&completed, ""),
            Err(_) => {
                refused(&Error::new(Reason::TimedOut, "the files were not read in time; try again later"))
            }
        }
    }
}

/// Returns the trace that a request belongs to: the one that its metadata names, else the one of the HTTP request that carried it.
pub(super) fn trace(context: &RequestContext<RoleServer>) -> Option<TraceContext> {
    let named = context.meta.get("traceparent").and_then(Value::as_str).and_then(TraceContext::parse);
    let parts = context.extensions.get::<http::request::Parts>();
    named.or_else(|| parts?.extensions.get().copied())
}

/// Waits for an answer, and returns an internal error where computing it panics.
async fn answered<T>(answering: impl Future<Output = Result<T, ErrorData>>) -> Result<T, ErrorData> {
    let failed = |_| {
        let error = Error::new(Reason::Internal, "the gateway failed at this request; its log says why");
        Err(ErrorData::internal_error(in_words(&error), None))
    };
    AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(failed)
}

/// Returns an error as a tool's result, for the caller to read.
pub(super) fn refused(error: &Error) -> CallToolResult {
    let completed =
        crate::tool::CompletedCall { result: Err(error.clone()), exit: None, duration: Duration::ZERO };
    to_mcp(&completed, error.job_id().unwrap_or_default())
}

impl ServerHandler for McpHandler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_logging()
            .build();
        let mut implementation = Implementation::new("conductor-gateway", env!("CARGO_PKG_VERSION"));
        implementation.title = Some("Conductor Gateway".to_owned());
        ServerConfig::new(capabilities).with_server_info(implementation).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = ListToolsResult::with_all_items(self.tools().to_vec());
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools().iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // A panic would leave the request without an answer, because the library's task for it would just be gone.
        answered(Box::pin(self.call(request, context))).await
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        // The request is kept for as long as the session, so its size is bounded.
        let size = serde_json::to_vec(&request).map_or(usize::MAX, |written| written.len());
        if size > MAX_CLIENT_BYTES {
            let message =
                format!("what a client says of itself takes {size} bytes; it may take {MAX_CLIENT_BYTES}");
            return Err(ErrorData::invalid_params(message, None));
        }
        context.peer.set_peer_info(request.clone());
        self.negotiate_initialize(&request)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let caller = self.caller(&context)?;
        let list =
            answered(async { self.resources(&caller).await.map_err(|error| to_protocol_error(&error)) });
        let list = list.await?;
        Ok(ListResourcesResult::with_all_items(list).with_ttl_ms(0).with_cache_scope(CacheScope::Private))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let list = ListResourceTemplatesResult::with_all_items(Self::resource_templates());
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = self.caller(&context)?;
        answered(self.resource(&request.uri, &caller)).await.map(Into::into)
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let list = ListPromptsResult::with_all_items(prompts::all());
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request).map(Into::into)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.set_log_level(request.level, &context)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = self.caller(&context)?;
        answered(self.subscribe_to_resource(&request.uri, &caller, &context)).await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.unsubscribe_from_resource(&request.uri, &context);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = requested.supported_by(&self.get_info().capabilities);
        accepted.resource_subscriptions = accepted.resource_subscriptions.map(watchable);
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.listen_to_changes(context).await;
        Ok(())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        answered(Box::pin(self.explain_misread(request, context))).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        answered(self.complete_agent_id(&request)).await
    }
}
