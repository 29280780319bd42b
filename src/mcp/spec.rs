//! The catalogue's entries as MCP tools, created once.

use std::sync::{Arc, LazyLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::tool::{ToolSpec, catalogue};

/// The tool by which clients that cannot be asked answer a session's prompt.
pub(super) const SEND_SESSION_INPUT: &str = "send_session_input";

/// The server's description of itself, sent when a client connects; models read it.
pub(super) const INSTRUCTIONS: &str = "These tools drive a conductor engine of AI agents. Find an agent with \
list_available_agents, read about it with get_agent_info, then run it: execute_agent_stateless for one question, \
execute_agent_contextual for a dialogue in turns, start_interactive_session to talk with it while it works. A run is a \
job: it reports progress, can be cancelled, and may take minutes. A session that waits for input is answered by \
elicitation, or with send_session_input and its session_id. restore_agents, migrate_storage and clear_agent_history \
remove or overwrite something: they want a confirmation, by elicitation or by `confirm`. When something does not work, \
validate_conductor_system says why.";

fn object(value: &Value) -> Arc<JsonObject> {
    Arc::new(value.as_object().cloned().unwrap_or_default())
}

/// Returns a schema without the members that only name its draft and the Rust type.
fn plain(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("$schema");
        fields.remove("title");
    }
    schema
}

fn tool(spec: &ToolSpec) -> Tool {
    let mut tool = Tool::new(spec.name.as_str(), spec.description, object(&plain(&spec.input_schema)));
    tool.title = Some(spec.title.to_owned());
    tool.output_schema = Some(object(&plain(&spec.output_schema)));
    tool.annotations = Some(
        ToolAnnotations::with_title(spec.title)
            .read_only(spec.is_read_only)
            .destructive(spec.is_destructive)
            .idempotent(spec.is_idempotent)
            .open_world(spec.is_open_world),
    );
    tool
}

fn send_session_input() -> Tool {
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["session_id", "input"],
        "properties": {
            "session_id": {"type": "string", "description": "The session, as start_interactive_session gave it."},
            "input": {
                "type": ["string", "null"],
                "maxLength": 60000,
                "description": "One line for the agent; null ends the session.",
            },
        },
    });
    let mut tool = Tool::new(
        SEND_SESSION_INPUT,
        "Answers the prompt of an open session and waits for what the agent says next. Use it after \
         start_interactive_session, for clients that cannot be asked directly.",
        object(&schema),
    );
    tool.title = Some("Answer an agent".to_owned());
    let session = catalogue().iter().find(|spec| spec.name == crate::tool::ToolName::StartInteractiveSession);
    tool.output_schema = session.map(|spec| object(&plain(&spec.output_schema)));
    tool.annotations = Some(
        ToolAnnotations::with_title("Answer an agent")
            .read_only(false)
            .destructive(true)
            .idempotent(false)
            .open_world(true),
    );
    tool
}

/// The tools of the catalogue, sorted by name.
pub(super) static CATALOGUE_TOOLS: LazyLock<Vec<Tool>> =
    LazyLock::new(|| catalogue().iter().map(tool).collect());

/// The tools that outside clients see, sorted by name.
pub(super) static OUTSIDE_TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    let mut tools = CATALOGUE_TOOLS.clone();
    tools.push(send_session_input());
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    tools
});
