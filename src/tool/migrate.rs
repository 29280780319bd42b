//! `migrate_storage`: copies the agents and their histories from one directory to another.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use super::{
    CallContext, ToolResult,
    arguments::{MigrateArguments, StorageType},
    backup::{AGENT_LIMITS, names_left_out, say_left_out},
    parts::{EngineFiles, Parts},
    paths::Confined,
    result::Migrated,
};
use crate::{
    engine::workspace::Workspace,
    error::{Error, Reason, Result},
    files::{Interrupt, ReplaceDurability, Root, copy_tree, remove_tree, replace},
    pb::Timestamp,
};

const MAX_CONFIG_BYTES: u64 = 256 * 1024;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Reason::ToolFailed, format!("the agents could not be migrated: {error}"))
}

pub(super) async fn migrate(
    parts: &Parts,
    context: &CallContext,
    arguments: &MigrateArguments,
) -> Result<ToolResult> {
    if arguments.from_type != StorageType::Filesystem || arguments.to_type != StorageType::Filesystem {
        return Err(Error::new(
            Reason::Unsupported,
            "only filesystem to filesystem is possible; for MongoDB run the engine's own migration on its machine",
        ));
    }
    let Some(path) = arguments.path.clone() else {
        return Err(Error::invalid(
            "arguments.path",
            "is needed: from and to are both files, so say where to",
        ));
    };
    let updates_config = !arguments.no_config_update;
    let exclusive = parts.take_workspace()?;
    let is_dry_run = arguments.dry_run;
    let result = parts
        .copying(context, move |config, interrupt| {
            let _exclusive = exclusive;
            migrate_to(config, &path, (updates_config, is_dry_run), interrupt)
        })
        .await?;
    let did = if is_dry_run { "would be copied" } else { "were copied" };
    let left_out = say_left_out(&result.left_out);
    ToolResult::new(format!("{} agents {did} to {}{left_out}", result.agents.len(), result.path), &result)
}

fn migrate_to(
    config: &EngineFiles,
    path: &str,
    (updates_config, is_dry_run): (bool, bool),
    interrupt: &Interrupt,
) -> Result<Migrated> {
    let confined = config.confined("arguments.path", Some(path))?;
    let (target, workspace) = (confined.path(), config.workspace()?);
    if target.starts_with(&workspace.directory) || workspace.directory.starts_with(&target) {
        return Err(Error::invalid("arguments.path", "is where the agents are already"));
    }
    let to = confined.join("agents");
    let is_taken = to
        .open()
        .and_then(|root| root.entries(1))
        .map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |entries| !entries.is_empty());
    if is_taken {
        return Err(Error::invalid("arguments.path", "holds agents already; choose an empty directory"));
    }
    let (agents, left_out) = copy_agents(&workspace, &to, is_dry_run, interrupt).inspect_err(|_| {
        // There was nothing before, and the same call would be refused otherwise.
        if !is_dry_run && let Err(error) = remove_tree(&to.path()) {
            tracing::warn!(%error, "the agents of a migration that failed could not be removed");
        }
    })?;
    if updates_config && !is_dry_run {
        update_config(&config.engine.root, &target).map_err(failed)?;
    }
    Ok(Migrated {
        path: target.display().to_string(),
        agents,
        left_out,
        is_config_updated: updates_config && !is_dry_run,
        is_dry_run,
    })
}

/// Copies all agents into a directory. Returns their names, and those of what was left out.
fn copy_agents(
    workspace: &Workspace,
    to: &Confined,
    is_dry_run: bool,
    interrupt: &Interrupt,
) -> Result<(Vec<String>, Vec<String>)> {
    let (mut agents, mut left_out) = (Vec::new(), Vec::new());
    for agent in workspace.agents().map_err(failed)? {
        // A symbolic link in place of an agent's directory leads to somebody else's directory, so it is left out.
        let Ok(from) = workspace.agent_root(&agent.agent_id) else {
            left_out.push(agent.agent_id);
            continue;
        };
        if !is_dry_run {
            let to = to.join(&agent.agent_id).create().map_err(failed)?;
            let copied = copy_tree(&from, &to, AGENT_LIMITS, &|_| false, interrupt).map_err(failed)?;
            left_out.extend(names_left_out(&agent.agent_id, &copied));
        }
        agents.push(agent.agent_id);
    }
    Ok((agents, left_out))
}

/// Points the engine's configuration to the new directory and keeps a copy of the old file next to it.
fn update_config(root: &Path, target: &Path) -> io::Result<()> {
    let path = root.join("config.yaml");
    let (mut config, mode) = match Root::open(root)?.read_text(Path::new("config.yaml"), MAX_CONFIG_BYTES) {
        Ok(text) => {
            let seconds = Timestamp::now().seconds;
            replace(
                &root.join(format!("config.yaml.backup.{seconds}")),
                text.as_bytes(),
                ReplaceDurability::Power,
            )?;
            let config: Value = serde_saphyr::from_str(&text).map_err(io::Error::other)?;
            (config, Some(fs::metadata(&path)?.permissions()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (json!({}), None),
        Err(error) => return Err(error),
    };
    config["storage"]["type"] = json!("filesystem");
    config["storage"]["path"] = json!(target);
    let text = serde_saphyr::to_string(&config).map_err(io::Error::other)?;
    replace(&path, text.as_bytes(), ReplaceDurability::Power)?;
    // Everybody who could read the file before, such as an engine that runs as another user, still can.
    mode.map_or(Ok(()), |mode| fs::set_permissions(&path, mode))
}
