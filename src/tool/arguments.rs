//! The typed arguments of each tool. Clients see their schemas, with the doc comments as descriptions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// No arguments.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoArguments {}

/// Which agents are listed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListArguments {
    /// Only agents that carry this tag.
    #[schemars(length(min = 1, max = 128))]
    pub tag: Option<String>,
    /// The most agents to answer with; left out, all of them.
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u32>,
    /// Where the list goes on: the `next_cursor` of the answer before.
    #[schemars(length(min = 1, max = 128))]
    pub cursor: Option<String>,
}

/// One agent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentArguments {
    /// The agent's id, as list_available_agents gives it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub agent_id: String,
}

/// In which form an agent's answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// The answer as text, streamed as it comes where the engine can.
    #[default]
    Text,
    /// The engine's JSON document as well.
    Json,
}

/// One stateless run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatelessArguments {
    /// The agent's id, as list_available_agents gives it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub agent_id: String,
    /// What the agent is told; at most 131,000 bytes.
    #[schemars(length(min = 1, max = 131000))]
    pub input_text: String,
    /// The longest time the run may take, in seconds; the configured limit where it is left out.
    #[schemars(range(min = 1, max = 86400))]
    pub timeout: Option<u32>,
    /// In which form the answer is wanted.
    #[serde(default)]
    pub output_format: OutputFormat,
    /// The directory to work in. This engine works in its own root and takes no other.
    #[schemars(length(max = 4096))]
    pub cwd: Option<String>,
}

/// One contextual run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextualArguments {
    /// The agent's id, as list_available_agents gives it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub agent_id: String,
    /// What the agent is told; at most 131,000 bytes.
    #[schemars(length(min = 1, max = 131000))]
    pub input_text: String,
    /// The longest time the run may take, in seconds; the configured limit where it is left out.
    #[schemars(range(min = 1, max = 86400))]
    pub timeout: Option<u32>,
    /// Whether the conversation is forgotten first.
    #[serde(default)]
    pub clear_history: bool,
    /// The conversation to remember it in, private to you; left out, your own one with this agent.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub conversation_id: Option<String>,
}

/// One session.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionArguments {
    /// The agent's id, as list_available_agents gives it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub agent_id: String,
    /// What the agent is told first; at most 131,000 bytes.
    #[schemars(length(min = 1, max = 131000))]
    pub initial_input: Option<String>,
    /// The longest time the session may be open, in seconds; the configured limit where it is left out.
    #[schemars(range(min = 1, max = 86400))]
    pub timeout: Option<u32>,
    /// The conversation to remember it in, private to you; left out, your own one with this agent.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub conversation_id: Option<String>,
}

/// Whose memory is cleared.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearArguments {
    /// The agent's id, as list_available_agents gives it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub agent_id: String,
    /// The conversation that is forgotten; left out, your own one with this agent.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub conversation_id: Option<String>,
    /// Your confirmation: the agent's id once more. Needed where nobody can be asked.
    #[schemars(length(max = 4096))]
    pub confirm: Option<String>,
}

/// A template, a category, or nothing.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallArguments {
    /// The template or category to install; left out, the templates are listed.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub template_name: Option<String>,
}

/// Where a backup is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupArguments {
    /// A directory under one of the configured backup roots: absolute, or relative to the first root. A backup makes
    /// a new directory in it; a restore takes it, or the newest backup in it. Left out, the first root.
    #[schemars(length(max = 4096))]
    pub backup_path: Option<String>,
}

/// Which backup is restored.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreArguments {
    /// A backup, or a directory whose newest backup is meant, under one of the configured backup roots: absolute, or
    /// relative to the first root. Left out, the newest backup of the first root.
    #[schemars(length(max = 4096))]
    pub backup_path: Option<String>,
    /// Your confirmation: backup_path once more, or `newest` where it is left out. Needed where nobody can be asked.
    #[schemars(length(max = 4096))]
    pub confirm: Option<String>,
    /// Whether it is only said what would be restored.
    #[serde(default)]
    pub dry_run: bool,
}

/// From where to where the agents go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateArguments {
    /// What keeps the agents now.
    pub from_type: StorageType,
    /// What shall keep them.
    pub to_type: StorageType,
    /// The directory to copy them to, under one of the configured backup roots: absolute, or relative to the first.
    #[schemars(length(max = 4096))]
    pub path: Option<String>,
    /// Whether the engine's configuration is left pointing to the old place.
    #[serde(default)]
    pub no_config_update: bool,
    /// Your confirmation: path once more. Needed where nobody can be asked.
    #[schemars(length(max = 4096))]
    pub confirm: Option<String>,
    /// Whether it is only said what would be copied.
    #[serde(default)]
    pub dry_run: bool,
}

/// What can keep agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// Files.
    Filesystem,
    /// MongoDB; the gateway cannot copy to or from it.
    Mongodb,
}

/// What later runs are about.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentArguments {
    /// The environment's name, such as `production`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"))]
    pub environment: String,
    /// The project's name. Left out, the project stays as it is; empty removes it.
    #[schemars(regex(pattern = r"^([A-Za-z0-9][A-Za-z0-9_-]{0,127})?$"))]
    pub project: Option<String>,
}
