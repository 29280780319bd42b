//! The catalogue of tools: schemas, annotations, typed arguments; each becomes an engine run or an action on the
//! workspace, and every call passes [`Toolbox::call`].
//!
//! *Lives here:* the catalogue, the calls, the reading of an engine's outcome into a typed result.
//! *May import:* `engine`, rank 0. *May not:* know models, jobs, doors.

mod agents;
mod arguments;
mod asked;
mod backup;
mod call;
mod catalogue;
mod checks;
mod conversation_index;
mod conversation_list;
mod conversations;
mod dialogue;
mod engine_run;
mod exchanges;
mod execute;
mod history;
mod install;
mod mcp;
mod migrate;
mod names;
mod numbers;
mod paths;
mod prepared;
mod question;
mod recent;
mod result;
mod runner;
mod runs;
mod schema;
mod session;
mod settings;
mod toolbox;
mod upgrade;

pub use call::{Call, Confirmation};
pub use catalogue::{ToolName, ToolSpec, catalogue};
pub use conversation_index::ConversationsConfig;
pub use conversation_list::ConversationPage;
pub use conversations::{Conversation, RememberLimits};
pub use exchanges::Exchange;
pub use mcp::{AgentTools, Lines, McpHandler, OutsideServer, OutsideServers, OutsideTool, Own};
pub use names::Names;
pub(crate) use numbers::read_as_written;
pub use question::Question;
pub use runner::{Asked, OutsideCall, ToolRunner, Watched};
pub use toolbox::{CallContext, Completed, DEFAULT_CONVERSATION, Done, Progress, Toolbox, ToolboxConfig};
pub use upgrade::upgrade;
