//! `migrate_storage`: from files to files; history goes along.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use super::{
    Done,
    arguments::{MigrateArguments, StorageType},
    backup::exclusive,
    paths::copy_directory,
    result::Migrated,
    toolbox::{Inner, ToolboxConfig},
};
use crate::{
    error::{Error, Reason, Result},
    pb::Timestamp,
};

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Reason::ToolFailed, format!("the agents could not be migrated: {error}"))
}

pub(super) async fn migrate(inner: &Inner, arguments: &MigrateArguments) -> Result<Done> {
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
    let _exclusive = exclusive(inner)?;
    let is_dry_run = arguments.dry_run;
    let result = inner.blocking(move |config| copy_agents(config, &path, updates_config, is_dry_run)).await?;
    let did = if is_dry_run { "would be copied" } else { "were copied" };
    Done::new(format!("{} agents {did} to {}", result.agents.len(), result.path), &result)
}

fn copy_agents(
    config: &ToolboxConfig,
    path: &str,
    updates_config: bool,
    is_dry_run: bool,
) -> Result<Migrated> {
    let target = config.confined("arguments.path", Some(path))?;
    let workspace = config.workspace()?;
    if target.starts_with(&workspace.directory) || workspace.directory.starts_with(&target) {
        return Err(Error::invalid("arguments.path", "is where the agents are already"));
    }
    let agents_directory = target.join("agents");
    let is_taken = fs::read_dir(&agents_directory).is_ok_and(|mut entries| entries.next().is_some());
    if is_taken {
        return Err(Error::invalid("arguments.path", "holds agents already; choose an empty directory"));
    }
    let mut agents = Vec::new();
    for agent in workspace.agents().map_err(failed)? {
        if is_dry_run {
            agents.push(agent.agent_id);
            continue;
        }
        let from = workspace.agent_directory(&agent.agent_id);
        copy_directory(&from, &agents_directory.join(&agent.agent_id)).map_err(failed)?;
        agents.push(agent.agent_id);
    }
    if updates_config && !is_dry_run {
        update_config(&config.engine.root, &target).map_err(failed)?;
    }
    Ok(Migrated {
        path: target.display().to_string(),
        agents,
        is_config_updated: updates_config && !is_dry_run,
        is_dry_run,
    })
}

/// Points the engine's configuration to the new place; the old file is kept beside it.
fn update_config(root: &Path, target: &Path) -> io::Result<()> {
    let path = root.join("config.yaml");
    let mut config: Value = match fs::read_to_string(&path) {
        Ok(text) => {
            let seconds = Timestamp::now().seconds;
            fs::copy(&path, root.join(format!("config.yaml.backup.{seconds}")))?;
            serde_saphyr::from_str(&text).map_err(io::Error::other)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(error),
    };
    config["storage"]["type"] = json!("filesystem");
    config["storage"]["path"] = json!(target);
    let text = serde_saphyr::to_string(&config).map_err(io::Error::other)?;
    let new = root.join("config.yaml.new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}
