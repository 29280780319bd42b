//! What a driver promises: the request and the outcome of a run, what it says meanwhile, and the trait.

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Engine, EngineConfig, Exit, OutputChunk, Supervisor, workspace::Definition},
    error::Result,
    files::Pool,
    secret::Secret,
    telemetry::TraceContext,
};

/// The longest line that a session asks for, in characters. An answer has at most 64 KiB, which fit a pipe, so that writing a line does
/// not wait for the engine.
pub(crate) const MAX_LINE_CHARACTERS: u32 = 60_000;

/// What a driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Its output is the answer as it comes; otherwise the answer is known at the end, and output is a log.
    pub streams: bool,
    /// Runs of one agent that remember nothing take turns too. Runs within one conversation always do.
    pub serializes_stateless_runs: bool,
    /// Its exit status alone says whether a run succeeded.
    pub exit_is_truthful: bool,
    /// A run can be a dialogue.
    pub asks: bool,
    /// The largest input of a run, in bytes.
    pub max_input_bytes: usize,
}

/// For which job a run is, and what ends it.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// The job, by which its processes are marked; empty for none.
    pub job_id: String,
    /// The span within which it runs.
    pub trace: TraceContext,
    /// Ends the run, its process tree first.
    pub cancel: CancellationToken,
    /// The run ends at this time at the latest.
    pub deadline: Instant,
}

/// Makes the directory in which an agent remembers, and returns its path. Called on a thread that may block, after the agent was found.
pub(crate) type Memory = Box<dyn FnOnce() -> io::Result<PathBuf> + Send>;

/// A run of an agent.
pub struct AgentRequest {
    /// The agent.
    pub agent_id: String,
    /// Where it remembers; `None`: it remembers nothing.
    pub memory: Option<Memory>,
    /// What it is told first.
    pub input: Option<String>,
    /// Whether the caller wants the answer as a document. Ignored by sessions.
    pub wants_document: bool,
    /// Whether it forgets what it remembers before it begins.
    pub clears_history: bool,
    /// The environment that the run is about.
    pub environment: Option<String>,
    /// The project that the run is about.
    pub project: Option<String>,
    /// The longest time of the run, in seconds; the configured limit holds as well.
    pub timeout_seconds: Option<u32>,
    /// The job.
    pub context: RunContext,
}

/// What a run says while it goes on.
#[derive(Debug)]
pub enum RunUpdate {
    /// It has printed something.
    Output(OutputChunk),
    /// It waits for a line. Asked once; the next question comes after [`EngineRun::answer`].
    Question(String),
}

/// A run of the engine that has started. Dropping it ends its process tree.
#[async_trait]
pub trait EngineRun: Send {
    /// Returns the next output or question, or `None` when the run is over. After an error the run goes on until it is dropped.
    /// Dropping the future loses no output, but may lose an answer that is just being written.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed) when what the run left could not be read.
    async fn next(&mut self) -> Result<Option<RunUpdate>>;

    /// Sets the answer to the open question without waiting; [`next`](Self::next) writes it once the engine can take it. `None`
    /// closes the engine's input, which ends the session. A run that never asks ignores the call.
    fn answer(&mut self, line: Option<String>);

    /// Returns what became of the run, once [`next`](Self::next) has returned `None`.
    async fn finish(self: Box<Self>) -> Ended;
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// How its process ended.
    pub exit: Exit,
    /// Its outcome. Errors: [`Reason::TimedOut`](crate::error::Reason::TimedOut), [`Reason::Cancelled`](crate::error::Reason::Cancelled),
    /// [`Reason::EngineFailed`](crate::error::Reason::EngineFailed), [`Reason::SupervisorLost`](crate::error::Reason::SupervisorLost).
    pub outcome: Result<RunOutcome>,
}

/// The outcome of a run that succeeded.
#[derive(Clone, Debug, Default)]
pub struct RunOutcome {
    /// The answer, or the report that was printed.
    pub output: String,
    /// The answer as a document, where one was wanted.
    pub document: Option<Value>,
    /// Whether the answer was cut.
    pub is_truncated: bool,
    /// Agents that the run has created or installed, which are in the workspace now.
    pub created_agents: Vec<String>,
    /// Agents that an installation has found there already.
    pub present_agents: Vec<String>,
    /// What the caller should know beside the answer, such as what was not taken of the run.
    pub notes: Vec<String>,
    /// What a validation found.
    pub findings: Option<Findings>,
}

/// What a validation of the engine's system found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Whether no error was found.
    pub is_valid: bool,
    /// How many agents were checked.
    pub agents: u32,
    /// What is wrong.
    pub errors: Vec<String>,
    /// What may be wrong.
    pub warnings: Vec<String>,
}

/// The installed agents, sorted by id.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    /// Those that can be used.
    pub usable: Vec<(String, Arc<Definition>)>,
    /// Those whose definition cannot be read, and why.
    pub broken: Vec<(String, String)>,
}

/// One agent.
#[derive(Clone, Debug, Default)]
pub struct AgentDetails {
    /// Its definition.
    pub definition: Arc<Definition>,
    /// The beginning of its persona, at most 16 KiB.
    pub persona: String,
    /// Its files and their sizes in bytes.
    pub files: Vec<(String, u32)>,
}

/// Runs one kind of engine.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// The engine's name, as events and pages use it.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes ready what the engine needs, once, at the start.
    ///
    /// # Errors
    /// [`Reason::EngineNotStarted`](crate::error::Reason::EngineNotStarted).
    async fn prepare(&self) -> Result<()>;

    /// Starts a run that answers.
    ///
    /// # Errors
    /// [`Reason::AgentNotFound`](crate::error::Reason::AgentNotFound); [`Reason::ToolFailed`](crate::error::Reason::ToolFailed) for an agent that
    /// cannot be read or a root that cannot be made; [`Reason::EngineNotStarted`](crate::error::Reason::EngineNotStarted);
    /// [`Reason::Unsupported`](crate::error::Reason::Unsupported) for what the engine cannot do.
    async fn start(&self, request: AgentRequest) -> Result<Box<dyn EngineRun>>;

    /// Starts a run that is a dialogue.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    async fn start_session(&self, request: AgentRequest) -> Result<Box<dyn EngineRun>>;

    /// Starts a validation; its outcome has [`RunOutcome::findings`].
    ///
    /// # Errors
    /// As [`start`](Self::start).
    async fn validate(&self, context: RunContext) -> Result<Box<dyn EngineRun>>;

    /// Starts the listing of what can be installed; its outcome is the report, categories ending in a colon with lines `Name: description`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    async fn list_templates(&self, context: RunContext) -> Result<Box<dyn EngineRun>>;

    /// Starts the installation of a template or category.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    async fn install(&self, context: RunContext, name: &str) -> Result<Box<dyn EngineRun>>;

    /// The installed agents.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed) when they cannot be read.
    async fn agents(&self) -> Result<Agents>;

    /// One agent. `agent_id` has to be one that an agent can have.
    ///
    /// # Errors
    /// [`Reason::AgentNotFound`](crate::error::Reason::AgentNotFound); as [`agents`](Self::agents).
    async fn agent(&self, agent_id: &str) -> Result<AgentDetails>;

    /// Why the engine cannot run, as far as its files show it.
    async fn problem(&self) -> Option<String>;

    /// Why it cannot run, tried by starting it.
    async fn start_problem(&self) -> Option<String>;
}

/// What a driver is given.
#[derive(Clone, Debug)]
pub(crate) struct DriverConfig {
    /// The engine.
    pub engine: Engine,
    /// Limits of its runs.
    pub limits: EngineConfig,
    /// Where the gateway keeps its own files.
    pub data_directory: PathBuf,
    /// What the processes of this gateway are marked with, so that its successor, and only that, ends what it left.
    pub home: String,
    /// Variables through which the bundled engine's agents reach the gateway's model.
    pub model_environment: BTreeMap<String, Secret>,
    /// The threads for files that others can write.
    pub pool: Pool,
    /// What starts and ends processes.
    pub supervisor: Supervisor,
}
