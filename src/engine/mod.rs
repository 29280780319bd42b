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
pub mod guardian;
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
pub mod workspace;

use code::Code;
pub use config::{Config, Engine, Kind, RunEnvironment};
pub use documents::read_yaml;
pub use driver::{
    AgentDetails, AgentRequest, Agents, Capabilities, Driver, DriverConfig, Ended, EngineRun, Findings,
    MAX_LINE_CHARACTERS, Memory, RunContext, RunOutcome, RunUpdate, driver, find_agent,
};
pub use environment::prepare as prepare_environment;
pub use exit::{Exit, Limits};
pub use outcome::{EngineOutcome, read_outcome, unreadable};
#[cfg(any(test, fuzzing))]
pub(crate) use output::Decoder;
pub use output::{Chunk, Stream};
pub use process::{OurPipes, Process};
pub use run::{Ending, Finished, Run};
use run_root::plain_root;
pub use supervisor::{Command, Supervisor};
pub use sweep::{HOME_VARIABLE, sweep};
pub use tree::StdinState;
pub use workspace::{is_id, storage_kind};

/// The environment variable that contains the job's id in the job's processes.
pub const JOB_VARIABLE: &str = "CONDUCTOR_JOB_ID";

/// The maximum length of an argument, in bytes: Linux refuses one of 131,072 (`MAX_ARG_STRLEN`), and the flag's
/// own name takes up a part.
pub const MAX_ARGUMENT_BYTES: usize = 131_000;
