//! What runs an agent: a driver for each kind of engine. A driver takes a typed request, and gives a stream of typed events and one outcome; nobody
//! outside this directory asks which engine it is.
//!
//! *Lives here:* [`Driver`], the bundled engine's and the real one's, and what they share: the command line of a run, its root, the end of a
//! run, a session's prompts. *May import:* the rest of `engine`, rank 0. *May not:* start processes but through the supervisor.

mod bundled;
mod command_line;
mod conductor;
mod contract;
mod dialogue;
mod failure;
mod listing;
mod report;
mod root;
mod run_directories;
mod session;
mod shared;

use std::sync::Arc;

pub(crate) use self::{
    contract::{
        AgentDetails, AgentRequest, Agents, Capabilities, Driver, DriverConfig, Ended, EngineRun, Findings,
        MAX_LINE_CHARACTERS, Memory, RunContext, RunOutcome, RunUpdate,
    },
    shared::find_agent,
};
use super::EngineKind;
use crate::error::Result;

/// Creates the driver of a configured engine.
///
/// # Errors
/// [`Reason::StoreUnavailable`](crate::error::Reason::StoreUnavailable) when the data directory cannot be written.
pub(crate) fn driver(config: DriverConfig) -> Result<Arc<dyn Driver>> {
    Ok(match config.engine.kind {
        EngineKind::Bundled => Arc::new(bundled::BundledDriver::new(config)),
        EngineKind::Conductor => Arc::new(conductor::ConductorDriver::new(config)?),
    })
}
