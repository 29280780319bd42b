//! What the agent thinks with: the model, if there is one, and the tools.

use std::sync::{Arc, Mutex, PoisonError};

use super::Config;
use crate::{
    files::Pool,
    llm::{Detected, Identity, Model},
    mcp::AgentTools,
};

/// The model and the tools, the same for every job.
pub struct Mind {
    /// The model; `None`: commands are planned directly.
    pub model: Option<Arc<dyn Model>>,
    /// Why this model, or why none.
    pub why: String,
    /// The tools.
    pub tools: AgentTools,
    /// The limits.
    pub config: Config,
    /// The threads on which values are checked against schemas of others.
    pub checks: Pool,
    /// Model servers of this machine that were found.
    pub detected: Mutex<Vec<Detected>>,
}

impl Mind {
    /// What plans a command: "model" or "direct".
    pub fn planner(&self) -> &'static str {
        if self.model.is_some() { "model" } else { "direct" }
    }

    /// Which model it is.
    pub fn identity(&self) -> Option<&Identity> {
        self.model.as_deref().map(Model::identity)
    }

    /// Notes the model servers that were found.
    pub fn set_detected(&self, found: Vec<Detected>) {
        *self.detected.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The model servers of this machine that were found: address and models.
    pub fn detected(&self) -> Vec<Detected> {
        self.detected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
