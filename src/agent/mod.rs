//! The agent: it takes a task, decides on tool calls, and writes what happens as events.
//!
//! With a model a command is worked on in turns: the model is asked, its calls are made over MCP, it reads what came of
//! them. Without one it is planned directly: deterministic, and honest about it.
//!
//! *Lives here:* the turn loop, the direct planner, questions and answers, the one writer of a job's events. *May
//! import:* `tool`, `llm`, `journal`, rank 0. *May not:* start processes.

mod calls;
mod chain;
mod config;
mod cut;
mod inputs;
mod mind;
pub mod planner;
mod prompt;
mod run;
mod spent;
mod step;
mod turns;
mod writer;

pub use config::{Autodetect, Config, FewShot};
pub use inputs::Inputs;
pub use mind::Mind;
pub use run::{Agent, MAX_COMMAND_BYTES, Task};
pub use writer::{Appended, MAX_TEXT_BYTES, Outcome, Writer, masked};
