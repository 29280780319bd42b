//! The agent: it takes a task, decides on tool calls, and writes what happens as events.
//!
//! With a model, a command is worked on in turns: the model is asked, its calls are made over MCP, and it reads their
//! results. Without a model, the direct planner handles the command: deterministically, and it declines what it is not
//! sure of.
//!
//! *Lives here:* the turn loop, the direct planner, questions and answers, the one writer of a job's events. *May
//! import:* `tool`, `mcp`, `conversation`, `llm`, `journal`, `engine`, rank 0. *May not:* start processes.

mod calls;
mod chain;
mod config;
pub(crate) mod direct_planner;
mod inputs;
mod planner;
mod prompt;
mod run;
mod step;
mod truncate;
mod turns;
mod usage_totals;
mod writer;

pub(crate) use config::{AgentConfig, Autodetect};
pub(crate) use inputs::QuestionSlot;
pub(crate) use planner::Planner;
pub(crate) use run::{MAX_COMMAND_BYTES, Task, TaskExecutor};
pub(crate) use writer::{JobOutcome, MAX_TEXT_BYTES, Writer, masked};
