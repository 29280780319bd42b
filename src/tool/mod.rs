//! The catalogue of tools: schemas, annotations, typed arguments; each becomes an engine run or an action on the
//! workspace, and every call passes [`Toolbox::call`].
//!
//! *Lives here:* the catalogue, the calls, the reading of an engine's outcome into a typed result.
//! *May import:* `engine`, rank 0. *May not:* know models, jobs, doors.

mod agents;
mod arguments;
mod backup;
mod catalogue;
mod engine_run;
mod execute;
mod history;
mod install;
mod migrate;
mod paths;
mod result;
mod settings;
mod toolbox;

pub use arguments::Call;
pub use catalogue::{ToolName, ToolSpec, catalogue};
pub use toolbox::{CallContext, Completed, Done, Progress, Toolbox, ToolboxConfig};
