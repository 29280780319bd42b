//! The description that a gateway gives of itself.

/// The version, configuration and load of this gateway.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The gateway's version.
    pub version: &'static str,
    /// "direct" or "model".
    pub planner: &'static str,
    /// The model's provider; empty without a model.
    pub provider: String,
    /// The model; empty without one.
    pub model: String,
    /// Why this model was chosen, or why none was.
    pub why: String,
    /// Model servers found on this machine: masked address, provider, models.
    pub detected: Vec<(String, &'static str, Vec<String>)>,
    /// "bundled" or "conductor".
    pub engine: &'static str,
    /// Names of the features that it supports.
    pub capabilities: &'static [&'static str],
    /// Jobs that have started and not ended.
    pub running: usize,
    /// Jobs in the queue.
    pub queued: usize,
    /// Live tasks of the async runtime, including those of connections, jobs and readers.
    pub live_tasks: usize,
    /// The longest command that is accepted, in bytes.
    pub max_command_bytes: u32,
    /// The longest input of an agent that is accepted, in bytes.
    pub max_input_bytes: u32,
    /// The longest arguments of a tool call that are accepted, as compact JSON, in bytes.
    pub max_arguments_bytes: u32,
    /// The most of an engine's answer that is kept, in bytes.
    pub max_output_bytes: u32,
}

/// The features that every gateway of this version supports.
pub(super) const CAPABILITIES: &[&str] = &[
    "cancel", "contextual_runs", "conversations", "idempotency", "input", "interactive_sessions", "mcp",
    "queue", "resume", "tool_calls",
];
