//! The one function that every tool call goes through: policy, confirmation, dispatch, audit line.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    Call, CallContext, CompletedCall, DEFAULT_CONVERSATION, Question, ToolResult, agents, backup,
    direct_read_cache::DirectReadCache, execute, history, install, migrate, parts::Parts, session, settings,
};
use crate::{
    conversation::ConversationStore,
    engine::{self, Driver, Engine, Exit},
    error::Result,
    files::Pool,
    principal::{Policy, Principal},
    telemetry::{Activity, Span},
};

/// The tools, ready to be called. Clones share everything.
#[derive(Clone, Debug)]
pub struct Toolbox {
    parts: Arc<Parts>,
    cache: Arc<DirectReadCache>,
    policy: Arc<dyn Policy>,
}

impl Toolbox {
    /// Creates the toolbox over an engine with its driver. `limits` are those of the engine's runs, `pool` has the threads for files
    /// that others can write.
    pub fn new(
        (engine, driver): (Engine, Arc<dyn Driver>),
        limits: engine::EngineConfig,
        conversations: ConversationStore,
        pool: Pool,
        policy: Arc<dyn Policy>,
    ) -> Self {
        let parts = Parts::new(driver, engine, limits, conversations, pool);
        Self { parts: Arc::new(parts), cache: Arc::default(), policy }
    }

    /// What runs the engine.
    pub fn driver(&self) -> &dyn Driver {
        &*self.parts.driver
    }

    /// What callers have said and set.
    pub fn conversations(&self) -> &ConversationStore {
        &self.parts.conversations
    }

    /// Removes a conversation with everything that was said in it.
    ///
    /// # Errors
    /// As the conversations' own deletion: [`Reason::ConversationNotFound`](crate::error::Reason::ConversationNotFound),
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed).
    pub async fn delete_conversation(&self, caller: &Principal, conversation_id: &str) -> Result<()> {
        let deleted = self.parts.conversations.delete(caller, conversation_id).await;
        // What was read of it a moment ago does not hold any more.
        self.cache.forget();
        deleted
    }

    /// Returns the maximum size of an answer, in bytes.
    pub fn max_answer_bytes(&self) -> u32 {
        self.parts.limits.max_answer_bytes()
    }

    /// Returns a receiver that is notified whenever a call has changed the agents.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.parts.changes()
    }

    /// Returns the agent that a call has for itself while it runs, in its conversation or in none. Names are equal where agent and
    /// conversation are. A job that needs it does not begin before it is free; a call that an agent makes waits within its job.
    pub fn agent_needed(&self, caller: &Principal, conversation_id: &str, call: &Call) -> Option<String> {
        self.parts.agent_needed(caller, conversation_id, call)
    }

    /// Checks that the caller may make the call and has confirmed it where that is needed, then makes it or returns a cached
    /// result. Every failure is in [`CompletedCall::result`]. When the deadline of `context` passes or it is cancelled, an
    /// engine's process tree is ended before this returns; work on files has its own time limits.
    pub async fn call(&self, call: &Call, context: &CallContext) -> CompletedCall {
        let started = Instant::now();
        let mut exit = None;
        let span = Span::begin(Activity::ExecuteTool, call.tool().as_str(), context.trace, &context.job_id);
        let context = &CallContext { trace: span.context(), ..context.clone() };
        // Engine runs watch deadline and cancellation themselves, so that their processes are gone before the call
        // returns. Work on files is bounded by its pool, and what takes its time there is interrupted.
        let tool = call.tool().as_str();
        let allowed = match self.policy.may_call(&context.caller, tool) {
            Ok(()) => self.confirmed(call, context).await,
            Err(error) => Err(error),
        };
        let result = match allowed {
            Ok(()) => self.answer(call, context, &mut exit).await,
            Err(error) => Err(error),
        };
        if result.is_ok() && call.changes_agents() {
            self.parts.agents_changed();
        }
        let duration = started.elapsed();
        let (outcome, cause) = match &result {
            Ok(_) => ("ok", None),
            Err(error) => (error.reason().name(), error.cause()),
        };
        span.end(outcome);
        tracing::info!(
            target: "audit", caller = %context.caller, job_id = context.job_id, tool, outcome, cause,
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "tool call"
        );
        CompletedCall { result, exit, duration }
    }

    /// Makes sure that a destructive call is wanted. Where a person can be asked, only that person's answer counts,
    /// because a model could confirm its own idea.
    async fn confirmed(&self, call: &Call, context: &CallContext) -> Result<()> {
        let Some(confirmation) = call.confirmation() else { return Ok(()) };
        if !context.asks_first {
            confirmation.is_given()?;
            return Ok(());
        }
        let timeout = Duration::from_secs(self.parts.limits.session_input_timeout_seconds.into());
        let answer = context.ask(confirmation.question(), Question::yes_or_no(), Value::Bool(false), timeout);
        if answer.await? == Value::Bool(true) { Ok(()) } else { Err(confirmation.declined()) }
    }

    async fn answer(
        &self,
        call: &Call,
        context: &CallContext,
        exit: &mut Option<Exit>,
    ) -> Result<ToolResult> {
        let slot = self.cache.place(call, context);
        if let Some(known) = slot.as_ref().and_then(|slot| self.cache.find(slot)) {
            return Ok(known);
        }
        let result = dispatch(&self.parts, call, context, exit).await;
        if !call.only_reads() {
            self.cache.forget();
        }
        if let (Some(slot), Ok(result)) = (slot, &result) {
            self.cache.keep(slot, result);
        }
        result
    }

    /// Returns the installed agents, for the doors' own listing.
    ///
    /// # Errors
    /// As `list_available_agents`.
    pub async fn agents(&self) -> Result<Vec<crate::pb::Agent>> {
        agents::list_for_doors(&self.parts).await
    }

    /// Returns all that is known of one agent, as `get_agent_info` does, with the caller's default conversation.
    ///
    /// # Errors
    /// [`Reason::AgentNotFound`](crate::error::Reason::AgentNotFound).
    pub async fn agent_info(&self, caller: &Principal, agent_id: &str) -> Result<Value> {
        Ok(agents::info(&self.parts, caller, DEFAULT_CONVERSATION, agent_id).await?.value)
    }
}

/// The one registration of a tool: which function makes its calls.
async fn dispatch(
    parts: &Parts,
    call: &Call,
    context: &CallContext,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    match call {
        Call::ListAvailableAgents(arguments) => agents::list(parts, arguments).await,
        Call::GetAgentInfo(arguments) => {
            agents::info(parts, &context.caller, &context.conversation_id, &arguments.agent_id).await
        }
        Call::ValidateConductorSystem => agents::validate(parts, context, exit).await,
        Call::ExecuteAgentStateless(arguments) => execute::stateless(parts, context, arguments, exit).await,
        Call::ExecuteAgentContextual(arguments) => execute::contextual(parts, context, arguments, exit).await,
        Call::StartInteractiveSession(arguments) => session::run(parts, context, arguments, exit).await,
        Call::InstallAgentTemplates(arguments) => install::install(parts, context, arguments, exit).await,
        Call::BackupAgents(arguments) => backup::backup(parts, context, arguments).await,
        Call::RestoreAgents(arguments) => backup::restore(parts, context, arguments).await,
        Call::MigrateStorage(arguments) => migrate::migrate(parts, context, arguments).await,
        Call::SetEnvironment(arguments) => settings::set_environment(parts, context, arguments).await,
        Call::GetSystemConfig => settings::system_config(parts, context).await,
        Call::ClearAgentHistory(arguments) => history::clear(parts, context, arguments).await,
    }
}
