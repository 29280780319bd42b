//! The typed results of the tools, which `structured` holds. Clients see their schemas, with the doc comments as
//! descriptions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// One agent of a listing.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct AgentSummary {
    /// The id to run it by.
    pub agent_id: String,
    /// Its name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its version.
    pub version: String,
    /// Who wrote it.
    pub author: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
}

/// An agent that cannot be used.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct BrokenAgent {
    /// Its id.
    pub agent_id: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The installed agents.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct AgentList {
    /// Sorted by id.
    pub agents: Vec<AgentSummary>,
    /// Those whose definition cannot be read.
    pub broken: Vec<BrokenAgent>,
    /// Where the list goes on; absent at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One file of an agent.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct AgentFile {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u32,
}

/// All that is known of one agent.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct AgentInfo {
    /// The id to run it by.
    pub agent_id: String,
    /// Its name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its version.
    pub version: String,
    /// Who wrote it.
    pub author: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// The tools it may use.
    pub allowed_tools: Vec<String>,
    /// Its persona, at most 16 KiB of it.
    pub persona: String,
    /// Its files.
    pub files: Vec<AgentFile>,
    /// How many of your interactions with it, in this conversation, it remembers.
    pub interactions: u32,
}

/// What a check of one agent found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct AgentCheck {
    /// The agent.
    pub agent_id: String,
    /// What is wrong with it; absent when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a check of the system found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Validation {
    /// Whether no error was found.
    pub is_valid: bool,
    /// How many agents there are.
    pub agents: u32,
    /// What is wrong.
    pub errors: Vec<String>,
    /// What may be wrong.
    pub warnings: Vec<String>,
    /// Each agent and whether it can be read.
    pub checks: Vec<AgentCheck>,
    /// What the engine printed.
    pub report: String,
}

/// An agent's answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct AgentAnswer {
    /// The agent.
    pub agent_id: String,
    /// What it answered.
    pub output: String,
    /// Whether the output was cut.
    pub is_truncated: bool,
    /// The conversation it remembers this in; absent for a stateless run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// Agents that this one has created; they can be run from now on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub created_agents: Vec<String>,
    /// What the caller should know beside the answer: that the engine had to be ended, or which created agents were not taken
    /// and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The engine's own document, where JSON was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<serde_json::Value>,
}

/// A session with an agent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct AgentSession {
    /// The session's id, which is its job's.
    pub session_id: String,
    /// The agent.
    pub agent_id: String,
    /// The conversation it remembers this in.
    pub conversation_id: String,
    /// Whether it waits for input.
    pub is_open: bool,
    /// What the agent printed: all of it when the session has ended, what is new while it is open.
    pub output: String,
    /// Whether the output was cut.
    pub is_truncated: bool,
    /// What the agent asks; absent when the session has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The id of that question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_id: Option<String>,
    /// How many answers it was given.
    pub inputs: u32,
}

/// One template.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct TemplateSummary {
    /// The agent it installs.
    pub agent_id: String,
    /// Its category.
    pub category: String,
    /// What it is for.
    pub description: String,
}

/// What an installation did, or could do.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct Installed {
    /// The agents that are new.
    pub installed: Vec<String>,
    /// The agents that were there already.
    pub skipped: Vec<String>,
    /// What can be installed, where no name was given.
    pub templates: Vec<TemplateSummary>,
}

/// A backup that was made.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct BackedUp {
    /// Its id, which restore_agents takes as its backup_path.
    pub backup_id: String,
    /// Where it is.
    pub backup_path: String,
    /// How many agents it holds.
    pub agents: u32,
    /// How many files.
    pub files: u32,
    /// Links and the like, which are not copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// A backup that was restored.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Restored {
    /// Where it came from.
    pub backup_path: String,
    /// The agents that were put in place.
    pub restored: Vec<String>,
    /// Where what was there before is kept; absent for a trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_backup_path: Option<String>,
    /// Links and the like, which are not copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Whether nothing was done and this is what would have been.
    pub is_dry_run: bool,
}

/// Agents that were copied to another place.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Migrated {
    /// Where they are now.
    pub path: String,
    /// The agents that were copied.
    pub agents: Vec<String>,
    /// Links and the like, which are not copied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Whether the engine uses the new place.
    pub is_config_updated: bool,
    /// Whether nothing was done and this is what would have been.
    pub is_dry_run: bool,
}

/// The caller's settings.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct EnvironmentSet {
    /// The environment that later runs are about.
    pub environment: Option<String>,
    /// The project that later runs are about.
    pub project: Option<String>,
}

/// The engine's configuration.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct SystemConfig {
    /// "bundled" or "conductor".
    pub engine: String,
    /// The engine's root.
    pub root: String,
    /// Where the agents are.
    pub workspace: String,
    /// What keeps them.
    pub storage_type: String,
    /// The longest time one run may take, in seconds.
    pub timeout_seconds: u32,
    /// The keys of the engine's own configuration that are no secret.
    pub config: BTreeMap<String, serde_json::Value>,
    /// Your environment.
    pub environment: Option<String>,
    /// Your project.
    pub project: Option<String>,
}

/// A history that was cleared.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct HistoryCleared {
    /// The agent.
    pub agent_id: String,
    /// The conversation.
    pub conversation_id: String,
    /// How many interactions were removed.
    pub removed: u32,
}
