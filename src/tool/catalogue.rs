//! The catalogue: each tool's name, description, hints and schemas.

use std::sync::OnceLock;

use schemars::{
    JsonSchema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::Value;

use super::{arguments, result};
use crate::error::{Error, Reason, Result};

/// One tool as clients see it.
#[derive(Clone, Debug)]
pub struct ToolSpec {
    /// The tool's name.
    pub name: ToolName,
    /// A title for people.
    pub title: &'static str,
    /// When to use it, and when not.
    pub description: &'static str,
    /// Whether it changes nothing.
    pub is_read_only: bool,
    /// Whether it may remove or overwrite something.
    pub is_destructive: bool,
    /// Whether a second call with the same arguments changes nothing more.
    pub is_idempotent: bool,
    /// Whether it reaches beyond the workspace.
    pub is_open_world: bool,
    /// The JSON Schema of its arguments.
    pub input_schema: Value,
    /// The JSON Schema of its result.
    pub output_schema: Value,
}

/// Returns the schema of what is read, or of what is written: a field that is left out when it is empty is not required
/// in a result.
fn schema<T: JsonSchema>(contract: Contract) -> Value {
    let is_read = contract == Contract::Deserialize;
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.contract = contract;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    simplify(&mut schema, is_read);
    schema
}

/// Reduces a schema to what clients understand. Rust's number formats, which JSON Schema does not know and clients warn
/// about, become bounds. An optional argument gets its plain type, because clients make forms of it, and send text
/// where there are two types; null is still accepted for it: see `numbers.rs`.
fn simplify(schema: &mut Value, is_read: bool) {
    match schema {
        Value::Object(members) => {
            let format = members.get("format").and_then(Value::as_str);
            let most = match format {
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("int32") => i32::MAX.try_into().ok(),
                _ => None,
            };
            if format.is_some_and(|format| format.contains("int") || matches!(format, "double" | "float")) {
                members.remove("format");
                if let Some(most) = most {
                    members.entry("maximum").or_insert_with(|| most.into());
                }
            }
            if is_read && let Some(kind) = members.get_mut("type") {
                let plain = kind.as_array().map(|kinds| kinds.iter().filter(|kind| *kind != "null").cloned());
                if let Some([plain]) = plain.map(Iterator::collect::<Vec<_>>).as_deref() {
                    *kind = plain.clone();
                }
            }
            members.values_mut().for_each(|member| simplify(member, is_read));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| simplify(item, is_read)),
        _ => {}
    }
}

macro_rules! tools {
    ($($tool:ident: $name:literal, $title:literal, [$($hint:ident)*], $input:ty => $output:ty, $description:literal;)*) => {
        /// The tools' names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // each is described by its spec
        pub enum ToolName { $($tool,)* }

        impl ToolName {
            /// Every tool.
            pub const ALL: &[Self] = &[$(Self::$tool,)*];

            /// Returns the name that clients call it by.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$tool => $name,)* }
            }
        }

        fn specs() -> Vec<ToolSpec> {
            vec![$({
                let hints: &[&str] = &[$(stringify!($hint)),*];
                ToolSpec {
                    name: ToolName::$tool,
                    title: $title,
                    description: $description,
                    is_read_only: hints.contains(&"read_only"),
                    is_destructive: hints.contains(&"destructive"),
                    is_idempotent: hints.contains(&"idempotent"),
                    is_open_world: hints.contains(&"open_world"),
                    input_schema: schema::<$input>(Contract::Deserialize),
                    output_schema: schema::<$output>(Contract::Serialize),
                }
            },)*]
        }
    };
}

tools! {
    BackupAgents: "backup_agents", "Back up the agents", [], arguments::BackupArguments => result::BackedUp,
        "Copies every agent into a new directory below backup_path. Use it before anything that changes agents. It never overwrites an earlier backup. Conversations are private and not part of it.";
    ClearAgentHistory: "clear_agent_history", "Clear an agent's history", [destructive idempotent], arguments::ClearArguments => result::HistoryCleared,
        "Makes an agent forget your conversation with it. Use it to start afresh; not for other callers' conversations, which it cannot reach. Called by an agent it wants a confirmation.";
    ExecuteAgentContextual: "execute_agent_contextual", "Run an agent in a conversation", [destructive open_world], arguments::ContextualArguments => result::AgentAnswer,
        "Runs one agent that remembers your earlier turns. Use it for a dialogue; use execute_agent_stateless for a single question. The agent may change files.";
    ExecuteAgentStateless: "execute_agent_stateless", "Run an agent once", [destructive open_world], arguments::StatelessArguments => result::AgentAnswer,
        "Runs one agent on one input, without memory. Use it when the task stands alone. The agent may change files.";
    GetAgentInfo: "get_agent_info", "Describe an agent", [read_only idempotent], arguments::AgentArguments => result::AgentInfo,
        "Shows all that is known of one agent: what it is for, tags, capabilities, files, how much it remembers. Use list_available_agents to find its id.";
    GetSystemConfig: "get_system_config", "Show the engine's configuration", [read_only idempotent], arguments::NoArguments => result::SystemConfig,
        "Shows the engine, its workspace, its limits and your settings. Secrets are never shown.";
    InstallAgentTemplates: "install_agent_templates", "Install agents", [idempotent], arguments::InstallArguments => result::Installed,
        "Installs a template or a category of them; without a name it lists what can be installed. Agents that are there already are left as they are.";
    ListAvailableAgents: "list_available_agents", "List the agents", [read_only idempotent], arguments::ListArguments => result::AgentList,
        "Lists the installed agents with what each is for, all of them or those of a tag. Use it first, to find an agent's id.";
    MigrateStorage: "migrate_storage", "Move the agents' storage", [destructive], arguments::MigrateArguments => result::Migrated,
        "Copies all agents to another directory and makes the engine use it. The old place is left as it is; conversations stay where they are. Called by an agent it wants a confirmation; dry_run shows what it would do.";
    RestoreAgents: "restore_agents", "Restore a backup", [destructive idempotent], arguments::RestoreArguments => result::Restored,
        "Puts the agents of a backup in place of those of the same names. What is there is backed up first. Refused while agents run. Called by an agent it wants a confirmation; dry_run shows what it would do.";
    SetEnvironment: "set_environment", "Set environment and project", [idempotent], arguments::EnvironmentArguments => result::EnvironmentSet,
        "Stores the environment and project that your later runs are about; an empty project removes it. It changes nothing for other callers.";
    StartInteractiveSession: "start_interactive_session", "Talk with an agent", [destructive open_world], arguments::SessionArguments => result::AgentSession,
        "Opens a dialogue with an agent whose process stays open: each of its prompts is a question to answer, by the job's input, by elicitation, or with send_session_input. Use execute_agent_contextual where each turn can stand alone. The agent may change files. An unanswered prompt ends the session.";
    ValidateConductorSystem: "validate_conductor_system", "Check the system", [read_only idempotent], arguments::NoArguments => result::Validation,
        "Checks the engine's configuration and every agent. Use it when something does not work as expected.";
}

/// Returns every tool, sorted by name.
pub fn catalogue() -> &'static [ToolSpec] {
    static CATALOGUE: OnceLock<Vec<ToolSpec>> = OnceLock::new();
    CATALOGUE.get_or_init(specs)
}

impl ToolName {
    /// Returns the tool of a name.
    ///
    /// # Errors
    /// [`Reason::UnknownTool`], with the most similar name where one is similar enough.
    pub fn find(name: &str) -> Result<Self> {
        if let Some(tool) = Self::ALL.iter().find(|tool| tool.as_str() == name) {
            return Ok(*tool);
        }
        let shown = crate::text::quoted(name);
        let nearest = Self::ALL
            .iter()
            .map(|tool| (strsim::sorensen_dice(tool.as_str(), &shown), tool.as_str()))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match nearest {
            Some((score, nearest)) if score > 0.5 => format!("did you mean `{nearest}`? "),
            _ => String::new(),
        };
        let message = format!(
            "there is no tool `{shown}`; {hint}ListTools, GET /api/v1/tools, tools/list and `conductor-gateway tools` name them all"
        );
        Err(Error::new(Reason::UnknownTool, message).at("tool"))
    }

    /// Returns its entry in the catalogue.
    pub fn spec(self) -> Option<&'static ToolSpec> {
        catalogue().iter().find(|spec| spec.name == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_objects_that_refuse_unknown_fields() {
        for spec in catalogue() {
            assert_eq!(spec.input_schema["type"], "object", "{}", spec.name.as_str());
            assert_eq!(spec.input_schema["additionalProperties"], false, "{}", spec.name.as_str());
            assert_eq!(spec.output_schema["type"], "object", "{}", spec.name.as_str());
            for (name, property) in spec.input_schema["properties"].as_object().into_iter().flatten() {
                assert!(
                    property["description"].is_string(),
                    "{}.{name} has no description",
                    spec.name.as_str()
                );
            }
        }
        assert!(catalogue().is_sorted_by_key(|spec| spec.name.as_str()));
    }

    #[test]
    fn schemas_say_what_clients_understand() {
        fn walk(schema: &Value, path: &str, is_read: bool) {
            if let Some(format) = schema.get("format").and_then(Value::as_str) {
                assert!(["date-time", "uri", "email"].contains(&format), "{path}: {format}");
            }
            assert!(!is_read || !schema.get("type").is_some_and(Value::is_array), "{path}: {schema}");
            for (name, member) in schema.as_object().into_iter().flatten() {
                walk(member, &format!("{path}.{name}"), is_read);
            }
        }
        for spec in catalogue() {
            walk(&spec.input_schema, spec.name.as_str(), true);
            walk(&spec.output_schema, spec.name.as_str(), false);
        }
        let list = ToolName::ListAvailableAgents.spec().unwrap();
        assert_eq!(list.input_schema["properties"]["limit"]["type"], "integer");
        assert_eq!(list.input_schema["properties"]["limit"]["maximum"], 500);
    }

    #[test]
    fn a_misspelt_tool_is_answered_with_the_nearest() {
        let error = ToolName::find("list_agents").unwrap_err();
        assert!(error.message().contains("list_available_agents"), "{error}");
    }
}
