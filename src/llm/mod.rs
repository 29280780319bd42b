//! Language models behind one trait: a request with tools goes in, text and tool calls are streamed out.
//!
//! Each wire (OpenAI-compatible chat completions, OpenAI responses, Anthropic, Gemini) is a pure and lenient event decoder in
//! `wire/`; around it are deadlines, bounds, a clear failure for every incomplete answer, and error texts without keys.
//!
//! *Lives here:* the trait, the wires, the choice of a model, the detection of local servers. *May import:* rank 0. *May not:*
//! know tools or jobs.

mod config;
mod connection;
mod detect;
mod events;
mod failure;
mod message;
mod model;
mod provider;
mod reasoning;
mod repair;
mod reported;
mod select;
mod surrogates;
mod usage;
mod wire;

pub(crate) use config::{SelectedModel, Timeouts};
pub(crate) use detect::{DetectedServer, detect};
pub(crate) use failure::{FailureKind, ModelFailure};
pub(crate) use message::{
    AssistantMessage, MAX_CALLS, Message, ModelRequest, ModelTurn, Piece, TOO_MANY_CALLS, ToolCall,
    ToolDefinition, ToolOutcome,
};
pub(crate) use model::{Model, ModelIdentity, Pieces};
pub(crate) use provider::{Api, Provider};
pub(crate) use repair::repair;
pub(crate) use select::{ModelChoice, ModelPreferences, choose};
pub(crate) use usage::{Cost, Price, Usage, dollars};
#[cfg(any(test, fuzzing))]
pub(crate) use wire::replay;

use std::sync::Arc;

/// The environment variable that passes a [`SelectedModel`] model from the gateway to the bundled engine's agents, as JSON.
pub(crate) const MODEL_VARIABLE: &str = "CONDUCTOR_MODEL";

/// Creates the client of a chosen model. Nothing is sent before the first request.
///
/// # Errors
/// A sentence if the base URL, a header or the TLS configuration cannot be used.
pub(crate) fn connect(selected: &SelectedModel) -> Result<Arc<dyn Model>, String> {
    Ok(Arc::new(wire::WireModel::new(selected)?))
}
