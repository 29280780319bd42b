//! The engine's processes: started, streamed, limited, stopped with their whole tree, and always reaped.
//!
//! The gateway never starts an engine itself. A second process, the *guardian*, does: it is the ancestor and
//! subreaper of every engine, so that nothing can leave its tree, and it ends them all when the gateway dies.
//!
//! *Lives here:* the guardian and its protocol, runs and their output, the environment, the reading of a real
//! engine's outcome, the workspace's layout, the drivers, one for each kind of engine. *May import:* rank 0. *May not:* know events or jobs.

mod code;
mod config;
mod documents;
mod driver;
mod environment;
mod exit;
pub(crate) mod guardian;
mod guardian_connection;
mod outcome;
mod output;
mod process;
mod protocol;
mod run;
mod run_root;
mod supervisor;
mod sweep;
mod tree;
pub(crate) mod workspace;

use code::Code;
pub(crate) use config::{Engine, EngineConfig, EngineKind};
pub(crate) use documents::read_yaml;
pub(crate) use driver::{
    AgentDetails, AgentRequest, Agents, Driver, DriverConfig, EngineRun, Findings, MAX_LINE_CHARACTERS,
    Memory, RunContext, RunOutcome, RunUpdate, driver, find_agent,
};
pub(crate) use environment::prepare as prepare_environment;
pub(crate) use exit::{Exit, Limits};
pub(crate) use outcome::{read_outcome, unreadable};
#[cfg(any(test, fuzzing))]
pub(crate) use output::Decoder;
pub(crate) use output::{OutputChunk, Stream};
pub(crate) use process::{OurPipes, Process};
pub(crate) use run::{Ending, Finished, ProcessRun};
use run_root::plain_root;
pub(crate) use supervisor::{ProcessCommand, Supervisor};
pub(crate) use sweep::{HOME_VARIABLE, sweep};
pub(crate) use tree::StdinState;
pub(crate) use workspace::{is_id, storage_kind};

/// The environment variable with the W3C trace context of a run, which instrumented programs go on with.
pub(crate) const TRACE_VARIABLE: &str = "TRACEPARENT";

/// The environment variable that contains the job's id in the job's processes.
pub(crate) const JOB_VARIABLE: &str = "CONDUCTOR_JOB_ID";

/// The maximum length of an argument, in bytes: Linux refuses one of 131,072 (`MAX_ARG_STRLEN`), and the flag's
/// own name takes up a part.
pub(crate) const MAX_ARGUMENT_BYTES: usize = 131_000;
