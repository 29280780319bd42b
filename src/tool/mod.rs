//! The catalogue of tools: their schemas, annotations and typed arguments. Each call becomes an engine run or an action
//! on the workspace, and every call goes through [`Toolbox::call`].
//!
//! *Lives here:* the catalogue, the calls, the conversion of an engine's outcome into a typed result.
//! *May import:* `conversation`, `engine`, rank 0. *May not:* know models, jobs, doors.

mod agent_locks;
mod agent_turns;
mod agents;
mod arguments;
mod backup;
mod call;
mod catalogue;
mod context;
mod direct_read_cache;
mod engine_run;
mod execute;
mod history;
mod install;
mod migrate;
mod numbers;
mod parts;
mod paths;
mod question;
mod result;
mod schema;
mod session;
mod settings;
mod toolbox;

pub use call::{Call, Confirmation};
pub use catalogue::{ToolName, ToolSpec, catalogue};
pub use context::{CallContext, CompletedCall, DEFAULT_CONVERSATION, Progress, Question, ToolResult};
pub(crate) use numbers::read_as_written;
pub use toolbox::Toolbox;
