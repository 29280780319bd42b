//! `backup_agents` and `restore_agents`: on the workspace, because a real engine's own flags do nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Done,
    arguments::{BackupArguments, RestoreArguments},
    paths::copy_directory,
    result::{BackedUp, Restored},
    toolbox::{Inner, ToolboxConfig},
};
use crate::{
    engine::{is_id, workspace::Workspace},
    error::{Error, Reason, Result},
    pb::Timestamp,
};

fn failed(error: std::io::Error) -> Error {
    Error::new(Reason::ToolFailed, format!("the agents could not be copied: {error}"))
}

/// Copies all agents into a new directory below `directory`.
fn write_backup(workspace: &Workspace, directory: &Path, name: &str) -> Result<BackedUp> {
    fs::create_dir_all(directory).map_err(failed)?;
    let backup = directory.join(format!("{name}_{}", Timestamp::now().unix_millis()));
    // Never into one that is there already.
    fs::create_dir(&backup).map_err(failed)?;
    let agents = workspace.agents().map_err(failed)?;
    let mut files = 0;
    for agent in &agents {
        let target = backup.join("agents").join(&agent.agent_id);
        files += copy_directory(&workspace.agent_directory(&agent.agent_id), &target).map_err(failed)?;
    }
    fs::create_dir_all(backup.join("agents")).map_err(failed)?;
    Ok(BackedUp {
        backup_id: backup.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        backup_path: backup.display().to_string(),
        agents: u32::try_from(agents.len()).unwrap_or(u32::MAX),
        files,
    })
}

pub(super) async fn backup(inner: &Inner, arguments: &BackupArguments) -> Result<Done> {
    let _use = inner.workspace_use.read().await;
    let path = arguments.backup_path.clone();
    let result = inner
        .blocking(move |config| {
            let directory = config.confined("arguments.backup_path", path.as_deref())?;
            write_backup(&config.workspace()?, &directory, "backup")
        })
        .await?;
    Done::new(format!("{} agents were backed up to {}", result.agents, result.backup_path), &result)
}

/// The backup that is meant: the directory itself, or the newest one in it.
fn find_backup(directory: &Path) -> Result<PathBuf> {
    if directory.join("agents").is_dir() {
        return Ok(directory.to_owned());
    }
    let newest = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("backup_") && path.join("agents").is_dir()
        })
        .max();
    newest.ok_or_else(|| {
        Error::invalid(
            "arguments.backup_path",
            format!("{} holds no backup; backup_agents makes one", directory.display()),
        )
    })
}

/// The agents that a backup holds.
fn agents_of(backup: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(backup.join("agents")).map_err(failed)?.flatten();
    let mut agents: Vec<String> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|agent_id| is_id(agent_id))
        .collect();
    agents.sort();
    Ok(agents)
}

fn restore_into(config: &ToolboxConfig, path: Option<&str>, is_dry_run: bool) -> Result<Restored> {
    let directory = config.confined("arguments.backup_path", path)?;
    let backup = find_backup(&directory)?;
    let restored = agents_of(&backup)?;
    let backup_path = backup.display().to_string();
    if is_dry_run {
        return Ok(Restored { backup_path, restored, safety_backup_path: None, is_dry_run });
    }
    let workspace = config.workspace()?;
    let safety_root = config.confined("arguments.backup_path", None)?;
    let safety = write_backup(&workspace, &safety_root, "before_restore")?;
    for agent_id in &restored {
        // Beside the agent first, so that it is replaced whole or not at all.
        let target = workspace.agent_directory(agent_id);
        let new = workspace.agents_directory().join(format!(".new-{agent_id}"));
        if new.exists() {
            fs::remove_dir_all(&new).map_err(failed)?;
        }
        copy_directory(&backup.join("agents").join(agent_id), &new).map_err(failed)?;
        if target.exists() {
            fs::remove_dir_all(&target).map_err(failed)?;
        }
        fs::rename(&new, &target).map_err(failed)?;
    }
    Ok(Restored { backup_path, restored, safety_backup_path: Some(safety.backup_path), is_dry_run })
}

pub(super) async fn restore(inner: &Inner, arguments: &RestoreArguments) -> Result<Done> {
    let _exclusive = exclusive(inner)?;
    let (path, is_dry_run) = (arguments.backup_path.clone(), arguments.dry_run);
    let result = inner.blocking(move |config| restore_into(config, path.as_deref(), is_dry_run)).await?;
    let count = result.restored.len();
    let text = match &result.safety_backup_path {
        None => format!(
            "{count} agents would be restored from {}: {}",
            result.backup_path,
            result.restored.join(", ")
        ),
        Some(kept) => {
            format!(
                "{count} agents were restored from {}; what was there is kept in {kept}",
                result.backup_path
            )
        }
    };
    Done::new(text, &result)
}

/// The workspace for this call alone. Refused instead of waited for, so that nobody waits behind it.
pub(super) fn exclusive(inner: &Inner) -> Result<tokio::sync::RwLockWriteGuard<'_, ()>> {
    inner.workspace_use.try_write().map_err(|_| {
        Error::new(Reason::Busy, "agents are running or being copied; try again when they have ended")
    })
}
