//! A tool call, parsed and checked. What is checked here does not have to be checked again.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    ToolName,
    arguments::{
        AgentArguments, BackupArguments, ClearArguments, ContextualArguments, EnvironmentArguments,
        InstallArguments, ListArguments, MigrateArguments, NoArguments, RestoreArguments, SessionArguments,
        StatelessArguments,
    },
    catalogue,
    numbers::read_as_written,
    schema,
};
use crate::{
    engine::{MAX_ARGUMENT_BYTES, is_id},
    error::{Error, Reason, Result},
    pb::Json,
    text::{bounded, quoted},
};

/// A tool call whose arguments were checked.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each arm is its tool
pub enum Call {
    ListAvailableAgents(ListArguments),
    GetAgentInfo(AgentArguments),
    ValidateConductorSystem,
    ExecuteAgentStateless(StatelessArguments),
    ExecuteAgentContextual(ContextualArguments),
    StartInteractiveSession(SessionArguments),
    InstallAgentTemplates(InstallArguments),
    BackupAgents(BackupArguments),
    RestoreAgents(RestoreArguments),
    MigrateStorage(MigrateArguments),
    SetEnvironment(EnvironmentArguments),
    GetSystemConfig,
    ClearAgentHistory(ClearArguments),
}

/// The deserializer's message is cut to this many bytes, because it may quote what was sent.
const MAX_SENTENCE_BYTES: usize = 300;

fn read<T: DeserializeOwned>(arguments: &Value) -> Result<T> {
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." || path.contains('?') {
            "arguments".to_owned()
        } else {
            format!("arguments.{}", bounded(&path, MAX_SENTENCE_BYTES))
        };
        Error::invalid(field, bounded(&unquoted(&error.into_inner().to_string()), MAX_SENTENCE_BYTES))
    })
}

/// Returns the deserializer's message without the value that it quotes, which may be a secret.
fn unquoted(sentence: &str) -> String {
    let expected = sentence.rsplit_once(", expected ").filter(|_| sentence.starts_with("invalid "));
    expected.map_or_else(
        || sentence.to_owned(),
        |(_, expected)| format!("is of another type; expected {expected}"),
    )
}

fn check_agent_id(agent_id: &str) -> Result<()> {
    check_id("arguments.agent_id", agent_id)
}

fn check_conversation(conversation_id: Option<&str>) -> Result<()> {
    conversation_id.map_or(Ok(()), |id| check_id("arguments.conversation_id", id))
}

fn check_id(field: &str, id: &str) -> Result<()> {
    if is_id(id) {
        return Ok(());
    }
    let message =
        "must begin with a letter or digit and hold only letters, digits, `_` and `-`, at most 128 of them";
    Err(Error::invalid(field, message))
}

/// Checks text that is given to the engine as one argument: not empty, without NUL, at most [`MAX_ARGUMENT_BYTES`]
/// long.
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
        let text = arguments.map(|json| json.text.trim()).filter(|text| !matches!(*text, "" | "null"));
        let mut arguments = crate::text::read_json(text.unwrap_or("{}"))
            .map_err(|error| Error::invalid("arguments", format!("are not one JSON value: {error}")))?;
        if !arguments.is_object() {
            return Err(Error::invalid("arguments", "must be a JSON object"));
        }
        if let Some(spec) = catalogue().iter().find(|spec| spec.name == name) {
            read_as_written(&mut arguments, &spec.input_schema);
        }
        let arguments = &arguments;
        let none = || read::<NoArguments>(arguments);
        let call = match name {
            ToolName::ListAvailableAgents => Self::ListAvailableAgents(read(arguments)?),
            ToolName::ValidateConductorSystem => none().map(|_| Self::ValidateConductorSystem)?,
            ToolName::GetSystemConfig => none().map(|_| Self::GetSystemConfig)?,
            ToolName::GetAgentInfo => Self::GetAgentInfo(read(arguments)?),
            ToolName::ExecuteAgentStateless => Self::ExecuteAgentStateless(read(arguments)?),
            ToolName::ExecuteAgentContextual => Self::ExecuteAgentContextual(read(arguments)?),
            ToolName::StartInteractiveSession => Self::StartInteractiveSession(read(arguments)?),
            ToolName::InstallAgentTemplates => Self::InstallAgentTemplates(read(arguments)?),
            ToolName::BackupAgents => Self::BackupAgents(read(arguments)?),
            ToolName::RestoreAgents => Self::RestoreAgents(read(arguments)?),
            ToolName::MigrateStorage => Self::MigrateStorage(read(arguments)?),
            ToolName::SetEnvironment => Self::SetEnvironment(read(arguments)?),
            ToolName::ClearAgentHistory => Self::ClearAgentHistory(read(arguments)?),
        };
        call.check()?;
        schema::check(name, arguments)?;
        Ok(call)
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::GetAgentInfo(arguments) => check_agent_id(&arguments.agent_id),
            Self::ClearAgentHistory(arguments) => {
                check_agent_id(&arguments.agent_id)?;
                check_conversation(arguments.conversation_id.as_deref())
            }
            Self::ListAvailableAgents(ListArguments { limit: Some(0 | 501..), .. }) => {
                Err(Error::invalid("arguments.limit", "must be 1 to 500"))
            }
            Self::StartInteractiveSession(arguments) => {
                check_agent_id(&arguments.agent_id)?;
                check_timeout(arguments.timeout)?;
                check_conversation(arguments.conversation_id.as_deref())?;
                arguments
                    .initial_input
                    .as_deref()
                    .map_or(Ok(()), |input| check_input("arguments.initial_input", input))
            }
            Self::ExecuteAgentStateless(arguments) => {
                check_agent_id(&arguments.agent_id)?;
                check_timeout(arguments.timeout)?;
                check_input("arguments.input_text", &arguments.input_text)
            }
            Self::ExecuteAgentContextual(arguments) => {
                check_agent_id(&arguments.agent_id)?;
                check_conversation(arguments.conversation_id.as_deref())?;
                check_timeout(arguments.timeout)?;
                check_input("arguments.input_text", &arguments.input_text)
            }
            Self::InstallAgentTemplates(InstallArguments { template_name: Some(name) }) => {
                check_id("arguments.template_name", name)
            }
            Self::SetEnvironment(arguments) => {
                check_id("arguments.environment", &arguments.environment)?;
                arguments
                    .project
                    .as_deref()
                    .filter(|project| !project.is_empty())
                    .map_or(Ok(()), |project| check_id("arguments.project", project))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether it only reads files: no process is started and nothing is changed.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::ListAvailableAgents(_) | Self::GetAgentInfo(_) | Self::GetSystemConfig)
    }

    /// Returns whether it may change which agents there are, or what they are.
    pub fn changes_agents(&self) -> bool {
        match self {
            Self::InstallAgentTemplates(arguments) => arguments.template_name.is_some(),
            Self::RestoreAgents(arguments) => !arguments.dry_run,
            Self::MigrateStorage(arguments) => !arguments.dry_run,
            _ => false,
        }
    }

    /// Returns the tool that it calls.
    pub fn tool(&self) -> ToolName {
        match self {
            Self::ListAvailableAgents(_) => ToolName::ListAvailableAgents,
            Self::GetAgentInfo(_) => ToolName::GetAgentInfo,
            Self::ValidateConductorSystem => ToolName::ValidateConductorSystem,
            Self::ExecuteAgentStateless(_) => ToolName::ExecuteAgentStateless,
            Self::ExecuteAgentContextual(_) => ToolName::ExecuteAgentContextual,
            Self::StartInteractiveSession(_) => ToolName::StartInteractiveSession,
            Self::InstallAgentTemplates(_) => ToolName::InstallAgentTemplates,
            Self::BackupAgents(_) => ToolName::BackupAgents,
            Self::RestoreAgents(_) => ToolName::RestoreAgents,
            Self::MigrateStorage(_) => ToolName::MigrateStorage,
            Self::SetEnvironment(_) => ToolName::SetEnvironment,
            Self::GetSystemConfig => ToolName::GetSystemConfig,
            Self::ClearAgentHistory(_) => ToolName::ClearAgentHistory,
        }
    }

    /// Returns the conversation that the call itself names.
    pub fn conversation_id(&self) -> Option<&str> {
        match self {
            Self::ExecuteAgentContextual(arguments) => arguments.conversation_id.as_deref(),
            Self::StartInteractiveSession(arguments) => arguments.conversation_id.as_deref(),
            Self::ClearAgentHistory(arguments) => arguments.conversation_id.as_deref(),
            _ => None,
        }
    }

    /// Returns what has to be confirmed before this call is made; `None` for most tools and for a dry run.
    pub fn confirmation(&self) -> Option<Confirmation<'_>> {
        let (target, given, what) = match self {
            Self::ClearAgentHistory(arguments) => {
                (arguments.agent_id.as_str(), &arguments.confirm, "forget the conversation with")
            }
            Self::RestoreAgents(arguments) if !arguments.dry_run => {
                let target = arguments.backup_path.as_deref().filter(|path| !path.is_empty());
                (target.unwrap_or("newest"), &arguments.confirm, "replace the agents by those of the backup")
            }
            Self::MigrateStorage(arguments) if !arguments.dry_run => {
                (arguments.path.as_deref()?, &arguments.confirm, "move the agents' storage to")
            }
            _ => return None,
        };
        Some(Confirmation { target, given: given.as_deref(), what })
    }
}

/// The confirmation that a destructive call needs.
#[derive(Clone, Copy, Debug)]
pub struct Confirmation<'a> {
    /// The target of the call, which `confirm` has to name.
    pub target: &'a str,
    /// The value of `confirm`.
    pub given: Option<&'a str>,
    what: &'a str,
}

impl Confirmation<'_> {
    /// Returns whether the confirmation was given.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] when `confirm` names something else.
    pub fn is_given(&self) -> Result<bool> {
        match self.given {
            None => Ok(false),
            Some(given) if given == self.target => Ok(true),
            Some(_) => Err(Error::invalid(
                "arguments.confirm",
                format!("must name what the call is about: `{}`", quoted(self.target)),
            )),
        }
    }

    /// Returns the question for a person.
    pub fn question(&self) -> String {
        format!("Really {} `{}`?", self.what, quoted(self.target))
    }

    /// Returns the error for when the person who was asked did not agree.
    pub fn declined(&self) -> Error {
        let message =
            format!("the user did not agree to {} `{}`; nothing was done", self.what, quoted(self.target));
        Error::new(Reason::Declined, message)
    }

    /// Returns the error for when nobody can be asked.
    pub fn missing(&self) -> Error {
        let message = format!(
            "this would {} `{}`; if that is wanted, call again with `confirm` set to `{}`",
            self.what,
            quoted(self.target),
            quoted(self.target)
        );
        Error::new(Reason::ConfirmationRequired, message).at("arguments.confirm")
    }
}
