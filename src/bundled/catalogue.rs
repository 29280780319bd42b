//! `--list` and `--info`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::output::{CommandFailure, Printer};
use crate::engine::workspace::{Agent, Definition, Workspace};

fn document(agent_id: &str, definition: &Definition) -> Value {
    json!({
        "agent_id": agent_id,
        "name": definition.name,
        "version": definition.version,
        "description": definition.description,
        "author": definition.author,
        "tags": definition.tags,
        "capabilities": definition.capabilities,
    })
}

pub(super) fn list(workspace: &Workspace, printer: &Printer) -> Result<(), CommandFailure> {
    let agents = workspace.agents().map_err(CommandFailure::failed)?;
    let mut documents = Vec::new();
    let mut text = String::new();
    for Agent { agent_id, definition } in &agents {
        match definition {
            Ok(definition) => {
                documents.push(document(agent_id, definition));
                text += &format!(
                    "{agent_id}\n    {}\n    tags: {}\n",
                    definition.description,
                    definition.tags.join(", ")
                );
            }
            Err(problem) => printer.remark(&format!("{agent_id} is left out: {problem}")),
        }
    }
    text += &match documents.len() {
        0 => "No agents are installed; --install list shows the templates.\n".to_owned(),
        1 => "1 agent\n".to_owned(),
        count => format!("{count} agents\n"),
    };
    printer.either(&json!({"agents": documents}), &text)
}

pub(super) fn find(workspace: &Workspace, agent_id: &str) -> Result<Arc<Definition>, CommandFailure> {
    match workspace.agent(agent_id) {
        Some(agent) => {
            agent.definition.map_err(|problem| CommandFailure::failed(format_args!("{agent_id}: {problem}")))
        }
        None => {
            let installed = workspace.agents().unwrap_or_default();
            let similar = installed.iter().map(|agent| agent.agent_id.as_str()).max_by(|a, b| {
                strsim::jaro_winkler(a, agent_id).total_cmp(&strsim::jaro_winkler(b, agent_id))
            });
            let hint = similar.map_or_else(
                || "none is installed; --install list shows the templates".to_owned(),
                |similar| format!("the nearest is `{similar}`; --list shows them all"),
            );
            Err(CommandFailure::failed(format_args!("there is no agent `{agent_id}`: {hint}")))
        }
    }
}

pub(super) fn info(workspace: &Workspace, agent_id: &str, printer: &Printer) -> Result<(), CommandFailure> {
    let definition = find(workspace, agent_id)?;
    let interactions = workspace.history_len(agent_id);
    let mut document = document(agent_id, &definition);
    document["interactions"] = json!(interactions);
    let text = format!(
        "{agent_id}\n    {}\n    version {} by {}\n    tags: {}\n    capabilities: {}\n    interactions remembered: {interactions}\n",
        definition.description,
        definition.version,
        definition.author,
        definition.tags.join(", "),
        definition.capabilities.join(", "),
    );
    printer.either(&document, &text)
}
