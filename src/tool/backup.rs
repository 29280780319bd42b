//! `backup_agents` and `restore_agents`. They work on the workspace themselves, because a real engine's own flags do
//! nothing.

use std::path::Path;

use super::{
    CallContext, ToolResult,
    arguments::{BackupArguments, RestoreArguments},
    parts::{EngineFiles, Parts},
    paths::Confined,
    result::{BackedUp, Restored},
};
use crate::{
    engine::{is_id, workspace::Workspace},
    error::{Error, Reason, Result},
    files::{
        Copied, CopyLimits, EntryKind, Interrupt, Root, copy_tree, create_private_directory, remove_tree,
        swap_directory,
    },
    pb::Timestamp,
};

/// The limits for copying one agent, with its history and the files that it has made.
pub(super) const AGENT_LIMITS: CopyLimits =
    CopyLimits { max_entries: 100_000, max_bytes: 4 * 1024 * 1024 * 1024, max_depth: 32 };
const MAX_BACKUPS: usize = 100_000;
/// The beginning of the name of a backup until it is whole.
const INCOMPLETE: &str = ".incomplete_";
/// The beginning of the names under which a restore puts aside what was there, and how many of these are kept.
const PUT_ASIDE: &str = "before_restore_";
const MAX_PUT_ASIDE: usize = 5;

fn failed(error: std::io::Error) -> Error {
    Error::new(Reason::ToolFailed, format!("the agents could not be copied: {error}"))
}

/// Copies all agents into a new directory below `directory`, which has its name once it is whole.
fn write_backup(
    workspace: &Workspace,
    directory: &Confined,
    name: &str,
    interrupt: &Interrupt,
) -> Result<BackedUp> {
    directory.create().map_err(failed)?;
    let parent = directory.open().map_err(failed)?;
    forget_incomplete(directory, &parent);
    // A backup never goes into an existing directory.
    let (time, incomplete, root) = (0..100)
        .find_map(|again| {
            let time = Timestamp::now().unix_millis() + again;
            let incomplete = format!("{INCOMPLETE}{name}_{time}");
            let root = parent.create_new_directory(Path::new(&incomplete)).ok()?;
            Some((time, incomplete, root))
        })
        .ok_or_else(|| failed(std::io::Error::other("no new directory can be made")))?;
    let written = copy_agents(workspace, &root, interrupt).and_then(|copied| {
        let mut names = (time..time + 100).map(|time| format!("{name}_{time}"));
        let renamed = names.find(|name| parent.rename_entry(Path::new(&incomplete), Path::new(name)).is_ok());
        let backup_id =
            renamed.ok_or_else(|| failed(std::io::Error::other("the backup cannot be given its name")))?;
        let backup_path = directory.join(&backup_id).path().display().to_string();
        Ok(BackedUp { backup_id, backup_path, ..copied })
    });
    if written.is_err()
        && let Err(error) = remove_tree(&directory.join(&incomplete).path())
    {
        tracing::warn!(incomplete, %error, "a backup that failed could not be removed");
    }
    written
}

/// Removes what backups have left that the end of their process cut off a day ago or earlier.
fn forget_incomplete(directory: &Confined, parent: &Root) {
    let day_ago = Timestamp::now().unix_millis().saturating_sub(24 * 60 * 60 * 1000);
    for entry in parent.entries(MAX_BACKUPS).unwrap_or_default() {
        let Some(name) = entry.name.to_str().filter(|name| name.starts_with(INCOMPLETE)) else { continue };
        let begun = name.rsplit_once('_').and_then(|(_, time)| time.parse::<u64>().ok());
        if begun.is_some_and(|begun| begun < day_ago)
            && let Err(error) = remove_tree(&directory.join(name).path())
        {
            tracing::warn!(name, %error, "what a backup that was cut off had left could not be removed");
        }
    }
}

/// Copies all agents into a new directory.
fn copy_agents(workspace: &Workspace, root: &Root, interrupt: &Interrupt) -> Result<BackedUp> {
    let target = root.create_directory(Path::new("agents")).map_err(failed)?;
    let (mut agents, mut files, mut left_out) = (0, 0, Vec::new());
    for agent in workspace.agents().map_err(failed)? {
        // A symbolic link in place of an agent's directory leads to somebody else's directory, so it is left out.
        let Ok(source) = workspace.agent_root(&agent.agent_id) else {
            left_out.push(agent.agent_id);
            continue;
        };
        let to = target.create_directory(Path::new(&agent.agent_id)).map_err(failed)?;
        let copied = copy_tree(&source, &to, AGENT_LIMITS, &|_| false, interrupt).map_err(failed)?;
        left_out.extend(names_left_out(&agent.agent_id, &copied));
        agents += 1;
        files += copied.files;
    }
    Ok(BackedUp { backup_id: String::new(), backup_path: String::new(), agents, files, left_out })
}

pub(super) async fn backup(
    parts: &Parts,
    context: &CallContext,
    arguments: &BackupArguments,
) -> Result<ToolResult> {
    let in_use = tokio::select! {
        // Cancel safe: both branches only wait.
        in_use = parts.use_workspace() => in_use,
        stopped = context.stopped() => return Err(stopped),
    };
    let path = arguments.backup_path.clone();
    let result = parts
        .copying(context, move |config, interrupt| {
            let _in_use = in_use;
            let directory = config.confined("arguments.backup_path", path.as_deref())?;
            write_backup(&config.workspace()?, &directory, "backup", interrupt)
        })
        .await?;
    let mut text = format!("{} agents were backed up to {}", result.agents, result.backup_path);
    text += &say_left_out(&result.left_out);
    ToolResult::new(text, &result)
}

/// Returns whether a directory is a backup.
fn is_backup(directory: &Root) -> bool {
    matches!(directory.kind(Path::new("agents")), Ok(Some(EntryKind::Directory)))
}

/// Returns when a backup was made, in milliseconds since 1970, which its name says.
fn made_at(name: &str) -> Option<u64> {
    name.strip_prefix("backup_")?.parse().ok()
}

/// Returns the newest backup in a directory, and in the directories in it if `depth` allows.
fn newest(directory: &Confined, depth: u8) -> Option<(u64, Confined)> {
    let root = directory.open().ok()?;
    let names = root.entries(MAX_BACKUPS).ok()?.into_iter();
    let names = names
        .filter(|entry| entry.kind == EntryKind::Directory)
        .filter_map(|entry| entry.name.into_string().ok());
    let found = names.filter_map(|name| match made_at(&name) {
        Some(time) => {
            let is_one = root.directory(Path::new(&name)).is_ok_and(|backup| is_backup(&backup));
            is_one.then(|| (time, directory.join(&name)))
        }
        // What a restore has put aside is no backup that somebody made.
        None if name.starts_with(PUT_ASIDE) || depth == 0 => None,
        None => newest(&directory.join(&name), depth - 1),
    });
    found.max_by_key(|(time, _)| *time)
}

/// Finds the backup that is meant: the directory itself, or the newest backup in it or in the directories in it.
fn find_backup(directory: &Confined) -> Result<Confined> {
    if directory.open().as_ref().is_ok_and(is_backup) {
        return Ok(directory.clone());
    }
    newest(directory, 1).map(|(_, backup)| backup).ok_or_else(|| {
        Error::invalid(
            "arguments.backup_path",
            format!("{} holds no backup; backup_agents makes one", directory.path().display()),
        )
    })
}

/// Removes what earlier restores have put aside, but for the latest ones. What cannot be removed stays.
fn forget_put_aside(directory: &Confined) {
    let Some(entries) = directory.open().ok().and_then(|root| root.entries(MAX_BACKUPS).ok()) else { return };
    let mut names: Vec<String> = entries
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::Directory)
        .filter_map(|entry| entry.name.into_string().ok())
        .filter(|name| name.strip_prefix(PUT_ASIDE).is_some_and(|time| time.parse::<u64>().is_ok()))
        .collect();
    // The names end with their time, which has as many digits in each of them.
    names.sort_unstable();
    let surplus = names.len().saturating_sub(MAX_PUT_ASIDE);
    for name in &names[..surplus] {
        if let Err(error) = remove_tree(&directory.join(name).path()) {
            tracing::warn!(name, %error, "what an earlier restore had put aside could not be removed");
        }
    }
}

/// Returns how old a backup is, in words.
fn age_of(backup_path: &str) -> String {
    let name = Path::new(backup_path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(time) = made_at(name) else { return String::new() };
    let minutes = Timestamp::from_unix_millis(time).elapsed().as_secs() / 60;
    match minutes {
        0 => ", made a moment ago".to_owned(),
        1..=119 => format!(", made {minutes} minutes ago"),
        120..=2879 => format!(", made {} hours ago", minutes / 60),
        _ => format!(", made {} days ago", minutes / 1440),
    }
}

/// Returns the ids of the agents that a backup holds.
fn agents_of(agents: &Root) -> Result<Vec<String>> {
    let entries = agents.entries(MAX_BACKUPS).map_err(failed)?.into_iter();
    let directories = entries.filter(|entry| entry.kind == EntryKind::Directory);
    Ok(directories
        .filter_map(|entry| entry.name.into_string().ok())
        .filter(|agent_id| is_id(agent_id))
        .collect())
}

fn restore_into(
    config: &EngineFiles,
    path: Option<&str>,
    is_dry_run: bool,
    interrupt: &Interrupt,
) -> Result<Restored> {
    let directory = config.confined("arguments.backup_path", path)?;
    let backup = find_backup(&directory)?;
    let agents = backup.open().and_then(|root| root.directory(Path::new("agents"))).map_err(failed)?;
    let restored = agents_of(&agents)?;
    let backup_path = backup.path().display().to_string();
    if is_dry_run {
        return Ok(Restored {
            backup_path,
            restored,
            safety_backup_path: None,
            left_out: Vec::new(),
            is_dry_run,
        });
    }
    let workspace = config.workspace()?;
    let safety_root = config.confined("arguments.backup_path", None)?;
    let safety = write_backup(&workspace, &safety_root, "before_restore", interrupt)?;
    let mut left_out = Vec::new();
    for (count, agent_id) in restored.iter().enumerate() {
        // Copied next to the agent first, so that the agent is replaced as a whole or not at all.
        let new = workspace.agents_directory().join(format!(".new-{agent_id}-{}", std::process::id()));
        let put = || -> std::io::Result<Copied> {
            remove_tree(&new)?;
            create_private_directory(&new)?;
            let from = agents.directory(Path::new(agent_id))?;
            let copied = copy_tree(&from, &Root::open(&new)?, AGENT_LIMITS, &|_| false, interrupt)?;
            swap_directory(&new, &workspace.agent_directory(agent_id))?;
            Ok(copied)
        };
        let copied = put().map_err(|error| {
            if let Err(error) = remove_tree(&new) {
                tracing::warn!(agent_id, %error, "an agent that could not be restored is left beside the others");
            }
            let (all, kept) = (restored.len(), &safety.backup_path);
            failed(std::io::Error::other(format!(
                "{error}; {count} of {all} agents were restored, and what was there is kept in {kept}"
            )))
        })?;
        left_out.extend(names_left_out(agent_id, &copied));
    }
    forget_put_aside(&safety_root);
    Ok(Restored { backup_path, restored, safety_backup_path: Some(safety.backup_path), left_out, is_dry_run })
}

pub(super) async fn restore(
    parts: &Parts,
    context: &CallContext,
    arguments: &RestoreArguments,
) -> Result<ToolResult> {
    let exclusive = parts.take_workspace()?;
    let (path, is_dry_run) = (arguments.backup_path.clone(), arguments.dry_run);
    let result = parts
        .copying(context, move |config, interrupt| {
            let _exclusive = exclusive;
            restore_into(config, path.as_deref(), is_dry_run, interrupt)
        })
        .await?;
    let (count, age) = (result.restored.len(), age_of(&result.backup_path));
    let text = match &result.safety_backup_path {
        None => format!(
            "{count} agents would be restored from {}{age}: {}",
            result.backup_path,
            result.restored.join(", ")
        ),
        Some(kept) => {
            format!(
                "{count} agents were restored from {}{age}; what was there is kept in {kept}{}",
                result.backup_path,
                say_left_out(&result.left_out),
            )
        }
    };
    ToolResult::new(text, &result)
}

/// Returns the paths of those of an agent's files that were not copied.
pub(super) fn names_left_out(agent_id: &str, copied: &Copied) -> Vec<String> {
    copied.left_out.iter().map(|path| format!("{agent_id}/{}", path.display())).collect()
}

/// Returns the end of a sentence that names what was left out; empty when nothing was.
pub(super) fn say_left_out(left_out: &[String]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    format!("; links and the like were left out: {}", left_out.join(", "))
}
