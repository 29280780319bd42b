//! The whole configuration: the rooms' sections composed, loaded, validated, explained.
//!
//! Defaults < file < environment < flags. Nothing is bound before all of it is valid.
//!
//! *Lives here:* loading and explaining. *May import:* the rooms whose sections it composes. *May not:* hold
//! behaviour.

mod load;
mod tree;
mod validate;

use serde::{Deserialize, Serialize};

pub use load::{Explained, Loaded, Mistakes, Sources, load};

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the gateway listens.
    pub server: crate::edge::Config,
    /// Who callers are.
    pub auth: crate::edge::AuthConfig,
    /// Which engine runs.
    pub conductor: crate::engine::Config,
    /// Which model plans commands, and within which limits.
    pub agent: crate::agent::Config,
    /// How long, and how many conversations are kept.
    pub conversations: crate::conversation::ConversationsConfig,
    /// How many jobs run, how long, and how long they are kept.
    pub jobs: crate::job::Config,
    /// Where jobs and events are kept.
    pub storage: crate::journal::Config,
    /// What is told about it all.
    pub telemetry: crate::telemetry::Config,
}
