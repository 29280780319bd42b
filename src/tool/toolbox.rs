//! The one function that every tool call goes through: policy, confirmation, dispatch, audit line.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Call, Question, agents, backup, direct_read_cache::DirectReadCache, engine_listing::EngineListing,
    execute, history, install, migrate, runs::Runs, session, settings,
};
use crate::{
    conversation::ConversationStore,
    engine::{Chunk, Code, Engine, Exit, Kind, Supervisor, workspace::Workspace},
    error::{Error, Reason, Result},
    files::Pool,
    principal::{Policy, Principal},
    secret::Secret,
};

/// The time limit for reading and writing a few files.
const FILE_TIME: Duration = Duration::from_secs(10);

/// The conversation of calls that name none; each caller has one of their own.
pub const DEFAULT_CONVERSATION: &str = "default";

/// What the toolbox is created with.
#[derive(Clone, Debug)]
pub struct ToolboxConfig {
    /// The engine.
    pub engine: Engine,
    /// Where the gateway keeps its own files.
    pub data_directory: PathBuf,
    /// The mark on this gateway's processes, by which its successor, and only that, ends those that it left behind.
    pub home: String,
    /// Limits of the engine's runs.
    pub conductor: crate::engine::Config,
    /// Environment variables that only runs of agents get, beside the engine's: what they need to reach their model.
    pub agent_environment: std::collections::BTreeMap<String, Secret>,
    /// Who may call which tool.
    pub policy: Arc<dyn Policy>,
}

/// The tools, ready to be called. Clones share everything.
#[derive(Clone, Debug)]
pub struct Toolbox {
    pub(super) inner: Arc<Inner>,
}

/// Locks by root and agent. The map holds weak references, so that a lock is gone when nobody holds or awaits it.
type AgentLocks = HashMap<(PathBuf, String), Weak<tokio::sync::Mutex<()>>>;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: Arc<ToolboxConfig>,
    pub(super) supervisor: Supervisor,
    pub(super) recent: DirectReadCache,
    pub(super) asked: EngineListing,
    /// The bounded pool of threads for files that others can write.
    pool: Pool,
    /// The directories of stateless runs.
    pub(super) runs: Arc<Runs>,
    /// The copies of a real engine's code that its runs use; `None` for the bundled engine.
    pub(super) code: Option<Arc<Code>>,
    /// Read-locked by runs, write-locked while the agents are replaced. Nobody ever waits for the write lock.
    pub(super) workspace_use: Arc<tokio::sync::RwLock<()>>,
    /// Counts changes of the agents.
    changes: watch::Sender<u64>,
    pub(super) conversations: ConversationStore,
    agent_locks: Mutex<AgentLocks>,
}

/// Who makes a call, for which job and within which limits.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The caller.
    pub caller: Principal,
    /// The job's id, with which its processes are marked; empty for a call without a job.
    pub job_id: String,
    /// The conversation's id; `default` where the caller named none.
    pub conversation_id: String,
    /// Cancels the call and ends its process tree.
    pub cancel: CancellationToken,
    /// The deadline of the call's engine run and questions.
    pub deadline: Instant,
    /// Receives output and questions as they come. The receiver may be dropped.
    pub progress: mpsc::Sender<Progress>,
    /// Whether to ask before a destructive call. One that a caller named needs no question; one that a model thought of
    /// does.
    pub asks_first: bool,
}

impl CallContext {
    /// Returns the conversation that a call refers to: the one that it names, else the job's.
    pub(super) fn conversation(&self, named: Option<&str>) -> String {
        named.unwrap_or(&self.conversation_id).to_owned()
    }
}

/// What a call reports while it runs.
#[derive(Debug)]
pub enum Progress {
    /// The engine printed something.
    Output(Chunk),
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

impl Toolbox {
    /// Creates the toolbox.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] when the data directory cannot be written.
    pub fn new(
        config: ToolboxConfig,
        conversations: ConversationStore,
        pool: Pool,
        supervisor: Supervisor,
    ) -> Result<Self> {
        let runs = Runs::open(&config.data_directory).map_err(|error| {
            let message = format!("the directory for runs cannot be made: {error}; check storage.path");
            Error::new(Reason::StoreUnavailable, message)
        })?;
        let code = (config.engine.kind == Kind::Conductor).then(|| {
            let apart = [
                Workspace::of(&config.engine.root).ok().map(|workspace| workspace.directory),
                Some(config.data_directory.clone()),
            ];
            let copies = config.data_directory.join("code");
            Arc::new(Code::new(config.engine.root.clone(), copies, apart.into_iter().flatten().collect()))
        });
        let inner = Inner {
            config: Arc::new(config),
            supervisor,
            pool,
            runs: Arc::new(runs),
            code,
            workspace_use: Arc::default(),
            changes: watch::Sender::new(0),
            conversations,
            agent_locks: Mutex::default(),
            recent: DirectReadCache::default(),
            asked: EngineListing::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the engine that the tools drive.
    pub fn engine(&self) -> &Engine {
        &self.inner.config.engine
    }

    /// Returns the store of what callers have said and set.
    pub fn conversations(&self) -> &ConversationStore {
        &self.inner.conversations
    }

    /// Deletes a conversation and everything that was said in it.
    ///
    /// # Errors
    /// As [`ConversationStore::delete`].
    pub async fn delete_conversation(&self, caller: &Principal, conversation_id: &str) -> Result<()> {
        let deleted = self.inner.conversations.delete(caller, conversation_id).await;
        // Results that were read from it a moment ago no longer hold.
        self.inner.recent.forget();
        deleted
    }

    /// Returns the length of the longest answer, in bytes.
    pub fn max_answer_bytes(&self) -> u32 {
        self.inner.config.conductor.max_answer_bytes()
    }

    /// Returns a receiver that is notified whenever the agents have been changed through this gateway.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Returns the name of the agent that a call has to itself while it runs, or `None`; names are equal where agent
    /// and conversation (or none) are. A job does not begin before its agent is free; a call that an agent makes waits
    /// within its job.
    pub fn agent_needed(&self, caller: &Principal, conversation_id: &str, call: &Call) -> Option<String> {
        let (conversation_id, agent_id) = match call {
            Call::ExecuteAgentStateless(arguments) => (None, &arguments.agent_id),
            Call::ExecuteAgentContextual(arguments) => {
                (Some(arguments.conversation_id.as_deref().unwrap_or(conversation_id)), &arguments.agent_id)
            }
            Call::StartInteractiveSession(arguments) => {
                (Some(arguments.conversation_id.as_deref().unwrap_or(conversation_id)), &arguments.agent_id)
            }
            _ => return None,
        };
        if !self.inner.config.has_turns(conversation_id) {
            return None;
        }
        let root = self.inner.run_root(caller, conversation_id, agent_id);
        Some(format!("{}\n{agent_id}", root.display()))
    }

    /// Calls a tool. An engine run ends at the context's deadline or when it is cancelled, its process tree first; work
    /// on files has time limits of its own.
    pub async fn call(&self, call: &Call, context: &CallContext) -> CompletedCall {
        let started = Instant::now();
        let mut exit = None;
        // Engine runs watch deadline and cancellation themselves, so that their processes are gone before the call
        // returns. Work on files is bounded by its pool.
        let tool = call.tool().as_str();
        let allowed = match self.inner.config.policy.may_call(&context.caller, tool) {
            Ok(()) => self.confirmed(call, context).await,
            Err(error) => Err(error),
        };
        let result = match allowed {
            Ok(()) => self.inner.answer(call, context, &mut exit).await,
            Err(error) => Err(error),
        };
        if result.is_ok() && call.changes_agents() {
            self.inner.agents_changed();
        }
        let duration = started.elapsed();
        let (outcome, cause) = match &result {
            Ok(_) => ("ok", None),
            Err(error) => (error.reason().name(), error.cause()),
        };
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
        let timeout = Duration::from_secs(self.inner.config.conductor.session_input_timeout_seconds.into());
        let answer = context.ask(confirmation.question(), Question::yes_or_no(), Value::Bool(false), timeout);
        if answer.await? == Value::Bool(true) { Ok(()) } else { Err(confirmation.declined()) }
    }

    /// Returns the installed agents, for a door's own listing.
    ///
    /// # Errors
    /// As `list_available_agents`.
    pub async fn agents(&self) -> Result<Vec<crate::pb::Agent>> {
        agents::list_for_doors(&self.inner).await
    }

    /// Returns all that is known of one agent, as `get_agent_info` does, with the caller's default conversation.
    ///
    /// # Errors
    /// [`Reason::AgentNotFound`].
    pub async fn agent_info(&self, caller: &Principal, agent_id: &str) -> Result<Value> {
        Ok(agents::info(&self.inner, caller, DEFAULT_CONVERSATION, agent_id).await?.value)
    }
}

impl Inner {
    async fn answer(
        &self,
        call: &Call,
        context: &CallContext,
        exit: &mut Option<Exit>,
    ) -> Result<ToolResult> {
        let place = self.recent.place(call, context);
        if let Some(done) = place.as_ref().and_then(|place| self.recent.find(place)) {
            return Ok(done);
        }
        let result = self.dispatch(call, context, exit).await;
        if !call.only_reads() {
            self.recent.forget();
        }
        if let (Some(place), Ok(done)) = (place, &result) {
            self.recent.keep(place, done);
        }
        result
    }

    async fn dispatch(
        &self,
        call: &Call,
        context: &CallContext,
        exit: &mut Option<Exit>,
    ) -> Result<ToolResult> {
        match call {
            Call::ListAvailableAgents(arguments) => agents::list(self, arguments).await,
            Call::GetAgentInfo(arguments) => {
                agents::info(self, &context.caller, &context.conversation_id, &arguments.agent_id).await
            }
            Call::ValidateConductorSystem => agents::validate(self, context, exit).await,
            Call::ExecuteAgentStateless(arguments) => {
                execute::stateless(self, context, arguments, exit).await
            }
            Call::ExecuteAgentContextual(arguments) => {
                execute::contextual(self, context, arguments, exit).await
            }
            Call::StartInteractiveSession(arguments) => session::run(self, context, arguments, exit).await,
            Call::InstallAgentTemplates(arguments) => install::install(self, context, arguments, exit).await,
            Call::BackupAgents(arguments) => backup::backup(self, arguments).await,
            Call::RestoreAgents(arguments) => backup::restore(self, arguments).await,
            Call::MigrateStorage(arguments) => migrate::migrate(self, arguments).await,
            Call::SetEnvironment(arguments) => settings::set_environment(self, context, arguments).await,
            Call::GetSystemConfig => settings::system_config(self, context).await,
            Call::ClearAgentHistory(arguments) => history::clear(self, context, arguments).await,
        }
    }

    /// Notifies subscribers that the agents have changed, and drops recent results.
    pub(super) fn agents_changed(&self) {
        self.recent.forget();
        self.changes.send_modify(|count| *count += 1);
    }

    /// Runs work on files on a thread of the pool, for at most 10 seconds.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ToolboxConfig) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.blocking_for(FILE_TIME, work).await
    }

    /// Runs work on files on a thread of the pool, for at most `deadline`.
    pub(super) async fn blocking_for<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&ToolboxConfig) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let config = self.config.clone();
        self.pool.run_fallible(deadline, move || work(&config)).await
    }

    /// Returns the lock that serialises the runs of one agent in one root.
    pub(super) fn agent_lock(&self, root: PathBuf, agent_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.agent_locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let key = (root, agent_id.to_owned());
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}

impl ToolboxConfig {
    /// Returns the engine's shared workspace.
    pub(super) fn workspace(&self) -> Result<Workspace> {
        Workspace::of(&self.engine.root).map_err(|error| match error.kind() {
            std::io::ErrorKind::Unsupported => Error::new(Reason::Unsupported, error.to_string()),
            _ => Error::new(Reason::ToolFailed, format!("the engine's workspace cannot be read: {error}")),
        })
    }
}
