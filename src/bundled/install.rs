//! `--install`: copies templates into the workspace. An existing agent is never overwritten.

use std::{fs, io};

use serde_json::json;

use super::{
    output::{CommandFailure, Printer},
    template::{TEMPLATES, Template},
};
use crate::{
    engine::workspace::{Definition, Workspace},
    files::{ReplaceDurability, create_private_directory, remove_tree, replace},
};

fn description(template: &Template) -> String {
    serde_saphyr::from_str::<Definition>(template.definition).unwrap_or_default().description
}

pub(super) fn list(printer: &Printer) -> Result<(), CommandFailure> {
    let documents: Vec<_> = TEMPLATES
        .iter()
        .map(|template| {
            json!({"agent_id": template.agent_id, "category": template.category, "description": description(template)})
        })
        .collect();
    let mut text = String::new();
    let mut category = "";
    for template in TEMPLATES {
        if template.category != category {
            category = template.category;
            text += &format!("{category}:\n");
        }
        text += &format!("  {}: {}\n", template.agent_id, description(template));
    }
    printer.either(&json!({"templates": documents}), &text)
}

pub(super) fn install(workspace: &Workspace, target: &str, printer: &Printer) -> Result<(), CommandFailure> {
    let wanted: Vec<_> = TEMPLATES
        .iter()
        .filter(|template| target == "all" || template.category == target || template.agent_id == target)
        .collect();
    if wanted.is_empty() {
        return Err(CommandFailure::failed(format_args!(
            "there is no template or category `{target}`; --install list shows them"
        )));
    }
    let (mut installed, mut skipped, mut text) = (Vec::new(), Vec::new(), String::new());
    for template in wanted {
        if write(workspace, template).map_err(CommandFailure::failed)? {
            text += &format!("{}: installed\n", template.agent_id);
            installed.push(template.agent_id);
        } else {
            text += &format!("{}: is there already, left as it is\n", template.agent_id);
            skipped.push(template.agent_id);
        }
    }
    printer.either(&json!({"installed": installed, "skipped": skipped}), &text)
}

/// Installs one agent, completely or not at all. Returns whether it was new.
fn write(workspace: &Workspace, template: &Template) -> io::Result<bool> {
    let directory = workspace.agent_directory(template.agent_id);
    if directory.exists() {
        return Ok(false);
    }
    let new = workspace.agents_directory().join(format!(".new-{}-{}", template.agent_id, std::process::id()));
    create_private_directory(&new)?;
    replace(&new.join("definition.yaml"), template.definition.as_bytes(), ReplaceDurability::Process)?;
    replace(&new.join("persona.md"), template.persona.as_bytes(), ReplaceDurability::Process)?;
    match fs::rename(&new, &directory) {
        Ok(()) => Ok(true),
        // Another install was faster.
        Err(_) if directory.exists() => remove_tree(&new).map(|()| false),
        Err(error) => Err(error),
    }
}
