//! The agent: it takes a task, decides on tool calls, and writes what happens as events.
//!
//! A command is planned by the direct planner: deterministic, without a model, and honest about it.
//!
//! *Lives here:* the planner, the run of a task, the one writer of a job's events. *May import:* `tool`,
//! `journal`, rank 0. *May not:* start processes.

mod cut;
pub mod planner;
mod run;
mod writer;

pub use run::{Agent, Task};
pub use writer::{Appended, Outcome, Writer};
