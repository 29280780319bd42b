//! What a gateway tells about itself.

/// What the gateway is.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Its version.
    pub version: &'static str,
    /// "direct" or "model".
    pub planner: &'static str,
    /// The model's provider; empty without a model.
    pub provider: String,
    /// The model; empty without one.
    pub model: String,
    /// Why this model, or why none.
    pub why: String,
    /// Model servers of this machine that were found: address, provider, models.
    pub detected: Vec<(String, &'static str, Vec<String>)>,
    /// "bundled" or "conductor".
    pub engine: &'static str,
    /// What it can do.
    pub capabilities: &'static [&'static str],
    /// Jobs that run now.
    pub running: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// Tasks of the runtime that are alive: of rooms, connections, jobs and readers.
    pub live_tasks: usize,
    /// The longest command, in bytes.
    pub max_command_bytes: u32,
    /// The longest input of an agent, in bytes.
    pub max_input_bytes: u32,
    /// The longest arguments of a tool call, as compact JSON, in bytes.
    pub max_arguments_bytes: u32,
    /// What is kept of an engine's output, in bytes.
    pub max_output_bytes: u32,
}

/// What every gateway of this version can do.
pub(super) const CAPABILITIES: &[&str] = &[
    "cancel", "contextual_runs", "conversations", "idempotency", "input", "interactive_sessions", "mcp",
    "queue", "resume", "tool_calls",
];
