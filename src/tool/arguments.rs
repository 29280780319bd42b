//! The arguments of each tool, typed. What is checked here never has to be checked again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ToolName;
use crate::{
    engine::{MAX_ARGUMENT_BYTES, is_id},
    error::{Error, Reason, Result},
    pb::Json,
};

/// No arguments.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoArguments {}

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
    pub backup_path: Option<String>,
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
    pub path: Option<String>,
    /// Whether the engine's configuration is left pointing to the old place.
    #[serde(default)]
    pub no_config_update: bool,
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
    /// The environment's name, such as `production`; at most 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub environment: String,
    /// The project's name; at most 128 characters. Left out, the project stays as it is; empty removes it.
    #[schemars(length(max = 128))]
    pub project: Option<String>,
}

/// A tool call whose arguments were checked.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each arm is its tool
pub enum Call {
    ListAvailableAgents,
    GetAgentInfo(AgentArguments),
    ValidateConductorSystem,
    ExecuteAgentStateless(StatelessArguments),
    ExecuteAgentContextual(ContextualArguments),
    InstallAgentTemplates(InstallArguments),
    BackupAgents(BackupArguments),
    RestoreAgents(BackupArguments),
    MigrateStorage(MigrateArguments),
    SetEnvironment(EnvironmentArguments),
    GetSystemConfig,
    ClearAgentHistory(AgentArguments),
}

fn read<T: DeserializeOwned>(arguments: &str) -> Result<T> {
    if !arguments.trim_start().starts_with('{') {
        return Err(Error::invalid("arguments", "must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(arguments);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." || path.contains('?') {
            "arguments".to_owned()
        } else {
            format!("arguments.{path}")
        };
        let inner = error.into_inner().to_string();
        // The place in the text says nothing to who wrote a value.
        let message = inner.split(" at line ").next().unwrap_or_default().to_owned();
        Error::invalid(field, message)
    })
}

fn check_agent_id(agent_id: &str) -> Result<()> {
    check_id("arguments.agent_id", agent_id)
}

fn check_id(field: &str, id: &str) -> Result<()> {
    if is_id(id) {
        return Ok(());
    }
    let message =
        "must begin with a letter or digit and hold only letters, digits, `_` and `-`, at most 128 of them";
    Err(Error::invalid(field, message))
}

/// Text that is given to the engine as one argument.
pub(crate) fn check_input(field: &str, input: &str) -> Result<()> {
    if input.trim().is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    if input.contains('\0') {
        return Err(Error::invalid(
            field,
            "must not contain a NUL character; the engine cannot be given one",
        ));
    }
    if input.len() > MAX_ARGUMENT_BYTES {
        let message = format!(
            "is {} bytes long; the engine takes at most {MAX_ARGUMENT_BYTES}: shorten it, or put it into a file that the agent reads",
            input.len()
        );
        return Err(Error::new(Reason::TooLarge, message).at(field));
    }
    Ok(())
}

fn check_name(field: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control) {
        return Err(Error::invalid(field, "must be 1 to 128 characters without control characters"));
    }
    Ok(())
}

fn check_timeout(timeout: Option<u32>) -> Result<()> {
    match timeout {
        Some(0) | Some(86_401..) => Err(Error::invalid("arguments.timeout", "must be 1 to 86400 seconds")),
        _ => Ok(()),
    }
}

impl Call {
    /// Reads and checks a call.
    ///
    /// # Errors
    /// [`Reason::UnknownTool`] with the nearest name, [`Reason::InvalidArgument`] with the argument's path,
    /// [`Reason::TooLarge`].
    pub fn read(tool: &str, arguments: Option<&Json>) -> Result<Self> {
        let name = ToolName::find(tool)?;
        let arguments = arguments.map(|json| json.text.trim()).filter(|text| !matches!(*text, "" | "null"));
        let arguments = arguments.unwrap_or("{}");
        let none = || read::<NoArguments>(arguments);
        let call = match name {
            ToolName::ListAvailableAgents => none().map(|_| Self::ListAvailableAgents)?,
            ToolName::ValidateConductorSystem => none().map(|_| Self::ValidateConductorSystem)?,
            ToolName::GetSystemConfig => none().map(|_| Self::GetSystemConfig)?,
            ToolName::GetAgentInfo => Self::GetAgentInfo(read(arguments)?),
            ToolName::ExecuteAgentStateless => Self::ExecuteAgentStateless(read(arguments)?),
            ToolName::ExecuteAgentContextual => Self::ExecuteAgentContextual(read(arguments)?),
            ToolName::InstallAgentTemplates => Self::InstallAgentTemplates(read(arguments)?),
            ToolName::BackupAgents => Self::BackupAgents(read(arguments)?),
            ToolName::RestoreAgents => Self::RestoreAgents(read(arguments)?),
            ToolName::MigrateStorage => Self::MigrateStorage(read(arguments)?),
            ToolName::SetEnvironment => Self::SetEnvironment(read(arguments)?),
            ToolName::ClearAgentHistory => Self::ClearAgentHistory(read(arguments)?),
        };
        call.check()?;
        Ok(call)
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::GetAgentInfo(arguments) | Self::ClearAgentHistory(arguments) => {
                check_agent_id(&arguments.agent_id)
            }
            Self::ExecuteAgentStateless(arguments) => {
                check_agent_id(&arguments.agent_id)?;
                check_timeout(arguments.timeout)?;
                check_input("arguments.input_text", &arguments.input_text)
            }
            Self::ExecuteAgentContextual(arguments) => {
                check_agent_id(&arguments.agent_id)?;
                check_timeout(arguments.timeout)?;
                check_input("arguments.input_text", &arguments.input_text)
            }
            Self::InstallAgentTemplates(InstallArguments { template_name: Some(name) }) => {
                check_id("arguments.template_name", name)
            }
            Self::SetEnvironment(arguments) => {
                check_name("arguments.environment", &arguments.environment)?;
                arguments
                    .project
                    .as_deref()
                    .filter(|project| !project.is_empty())
                    .map_or(Ok(()), |project| check_name("arguments.project", project))
            }
            _ => Ok(()),
        }
    }

    /// Which tool it calls.
    pub fn tool(&self) -> ToolName {
        match self {
            Self::ListAvailableAgents => ToolName::ListAvailableAgents,
            Self::GetAgentInfo(_) => ToolName::GetAgentInfo,
            Self::ValidateConductorSystem => ToolName::ValidateConductorSystem,
            Self::ExecuteAgentStateless(_) => ToolName::ExecuteAgentStateless,
            Self::ExecuteAgentContextual(_) => ToolName::ExecuteAgentContextual,
            Self::InstallAgentTemplates(_) => ToolName::InstallAgentTemplates,
            Self::BackupAgents(_) => ToolName::BackupAgents,
            Self::RestoreAgents(_) => ToolName::RestoreAgents,
            Self::MigrateStorage(_) => ToolName::MigrateStorage,
            Self::SetEnvironment(_) => ToolName::SetEnvironment,
            Self::GetSystemConfig => ToolName::GetSystemConfig,
            Self::ClearAgentHistory(_) => ToolName::ClearAgentHistory,
        }
    }
}
