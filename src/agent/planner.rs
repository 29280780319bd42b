//! What plans and makes calls: the model, if there is one, and the tools.

use std::sync::{Arc, Mutex};

use super::AgentConfig;
use crate::{
    files::Pool,
    llm::{DetectedServer, Model, ModelIdentity},
    mcp::AgentTools,
    sync::lock,
};

/// The model and the tools, the same for every job.
pub struct Planner {
    /// The model; `None`: commands are planned directly.
    pub model: Option<Arc<dyn Model>>,
    /// Why this model was chosen, or why none was.
    pub why: String,
    /// The tools.
    pub tools: AgentTools,
    /// The configuration, with its limits.
    pub config: AgentConfig,
    /// The threads on which values are checked against outside servers' schemas.
    pub checks: Pool,
    /// The model servers that were found on this machine.
    pub detected: Mutex<Vec<DetectedServer>>,
}

impl Planner {
    /// Returns what plans a command: "model" or "direct".
    pub fn kind(&self) -> &'static str {
        if self.model.is_some() { "model" } else { "direct" }
    }

    /// Returns which model is used.
    pub fn identity(&self) -> Option<&ModelIdentity> {
        self.model.as_deref().map(Model::identity)
    }

    /// Stores the model servers that were found.
    pub fn set_detected(&self, found: Vec<DetectedServer>) {
        *lock(&self.detected) = found;
    }

    /// Returns the model servers that were found on this machine, with their addresses and models.
    pub fn detected(&self) -> Vec<DetectedServer> {
        lock(&self.detected).clone()
    }
}
