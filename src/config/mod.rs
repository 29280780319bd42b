//! The complete configuration: the rooms' sections combined, loaded, validated and explained.
//!
//! Precedence: defaults < file < environment < flags. No address is bound before all of it is valid.
//!
//! *Lives here:* loading and explaining. *May import:* the rooms whose sections it combines. *May not:* contain behaviour.

mod change;
mod data_root;
mod files;
mod load;
mod schema;
mod tree;
mod validate;
mod values;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use change::{can_change, contradictions, masked, with_values};
pub use load::{Explained, Loaded, Mistakes, Resolved, Sources, load, resolve};
pub use schema::schema;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the gateway listens.
    pub server: crate::edge::ServerConfig,
    /// How callers are identified.
    pub auth: crate::edge::AuthConfig,
    /// Which engine runs.
    pub conductor: crate::engine::EngineConfig,
    /// Which model plans commands, and within which limits.
    pub agent: crate::agent::AgentConfig,
    /// How long conversations are kept, and how many.
    pub conversations: crate::conversation::ConversationsConfig,
    /// How many jobs run, how long, and how long they are kept.
    pub jobs: crate::job::JobsConfig,
    /// Where jobs and events are kept.
    pub storage: crate::journal::StorageConfig,
    /// What is logged.
    pub telemetry: crate::logging::LoggingConfig,
}
