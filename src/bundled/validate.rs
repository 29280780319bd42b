//! `--validate`: the workspace and every agent in it.

use std::path::Path;

use serde_json::json;

use super::output::{CommandFailure, Printer};
use crate::{
    engine::workspace::{Agent, Workspace},
    files::EntryKind,
};

fn has_persona(workspace: &Workspace, agent_id: &str) -> bool {
    let kind = workspace.agent_root(agent_id).and_then(|root| root.kind(Path::new("persona.md")));
    matches!(kind, Ok(Some(EntryKind::File)))
}

pub(super) fn validate(workspace: &Workspace, printer: &Printer) -> Result<(), CommandFailure> {
    let agents = workspace.agents().map_err(CommandFailure::failed)?;
    let mut errors = Vec::new();
    for Agent { agent_id, definition } in &agents {
        match definition {
            Err(problem) => errors.push(format!("{agent_id}: {problem}")),
            Ok(definition) if definition.version.is_empty() => {
                errors.push(format!("{agent_id}: definition.yaml has no version"));
            }
            Ok(_) if !has_persona(workspace, agent_id) => {
                errors.push(format!("{agent_id}: persona.md is missing"));
            }
            Ok(_) => {}
        }
    }
    let mut warnings = Vec::new();
    if agents.is_empty() {
        warnings.push("no agents are installed; --install list shows the templates".to_owned());
    }
    let mut text = format!("{} agents checked\n", agents.len());
    for warning in &warnings {
        text += &format!("warning: {warning}\n");
    }
    for error in &errors {
        text += &format!("error: {error}\n");
    }
    text +=
        if errors.is_empty() { "The configuration is valid.\n" } else { "The configuration has errors.\n" };
    let document = json!({"is_valid": errors.is_empty(), "agents": agents.len(), "errors": errors, "warnings": warnings});
    printer.either(&document, &text)?;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(CommandFailure::failed(format_args!("{} errors were found", errors.len())))
    }
}
