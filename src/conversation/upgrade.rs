//! Converts the data of earlier builds, once, when a newer build starts. The file `format` in the data root holds the
//! layout's version.
//!
//! Version 1 had no such file. It named conversations by a digest without a key, gave each one root for all its agents,
//! and left its files as wide as the umask made them. Version 2 had everybody's conversations in one directory. A
//! version newer than this build knows is refused.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    index::ABOUT_FILE,
    layout::{AGENTS, read_about_unchecked},
    names::{KeyedNames, without_key},
};
use crate::{
    engine::workspace::{HISTORY_FILES, Workspace, is_id},
    files::{EntryKind, ReplaceDurability, Root, create_private_directory, narrow, remove_tree, replace},
};

const FORMAT_FILE: &str = "format";
const FORMAT: u32 = 3;

/// Converts a data root to this build's layout. Has to be called by the one process that holds its lock, before
/// anything in it is used.
///
/// # Errors
/// When it was written by a newer build, or cannot be changed.
pub(crate) fn upgrade(data_directory: &Path, names: &KeyedNames) -> io::Result<()> {
    let written = Root::open(data_directory)?.read_text(Path::new(FORMAT_FILE), 64);
    let version = match written {
        Ok(text) => {
            text.trim().parse::<u32>().map_err(|_| io::Error::other("the file `format` holds no version"))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
        Err(error) => return Err(error),
    };
    if version > FORMAT {
        return Err(io::Error::other(format!(
            "its data is of version {version}, written by a newer build; this one knows {FORMAT}"
        )));
    }
    let narrowed = if version < 2 { narrow(data_directory)? } else { narrow_root(data_directory)? };
    if narrowed > 0 {
        tracing::warn!(narrowed, path = %data_directory.display(), "files and directories that others could read are private now");
    }
    if version < FORMAT {
        if version < 2 {
            rename_conversations(&data_directory.join("conversations"), names)?;
        }
        part_conversations(&data_directory.join("conversations"), names)?;
        replace(
            &data_directory.join(FORMAT_FILE),
            format!("{FORMAT}\n").as_bytes(),
            ReplaceDurability::Power,
        )?;
    }
    Ok(())
}

/// Makes everything private if the root is not: behind a private root nothing else can be reached.
fn narrow_root(data_directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(data_directory)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(0);
    }
    narrow(data_directory)
}

/// Returns the entries of the directory of conversations, and removes the remains of removals that were interrupted.
fn whole_ones(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let (cut_short, whole): (Vec<PathBuf>, Vec<PathBuf>) =
        entries.flatten().map(|entry| entry.path()).partition(|path| path.extension().is_some());
    cut_short.iter().try_for_each(|path| remove_tree(path))?;
    Ok(whole)
}

fn rename_conversations(directory: &Path, names: &KeyedNames) -> io::Result<()> {
    for path in whole_ones(directory)? {
        let Some(about) = read_about_unchecked(&path) else {
            tracing::error!(conversation = %path.display(), "whose this is cannot be read; it is left as it is");
            continue;
        };
        let old = without_key(&[about.caller.as_str(), about.conversation_id.as_str()].join("\0"));
        if path.file_name().is_none_or(|name| name != old.as_str()) {
            continue;
        }
        move_agents(&path)?;
        let new = directory.join(names.conversation(&about.caller, &about.conversation_id));
        if new.exists() {
            // A process beside the gateway has begun the conversation anew; both are kept.
            tracing::error!(conversation = %path.display(), "it was begun again under its new name; the earlier one is left as it is");
            continue;
        }
        fs::rename(&path, new)?;
    }
    Ok(())
}

/// Moves each caller's conversations into a directory of their own.
fn part_conversations(directory: &Path, names: &KeyedNames) -> io::Result<()> {
    for path in whole_ones(directory)? {
        // Skips entries without such a note: a caller's directory from an interrupted start, and what is left as it is.
        let Some(about) = read_about_unchecked(&path) else { continue };
        let own = names.conversation(&about.caller, &about.conversation_id);
        if path.file_name().is_none_or(|name| name != own.as_str()) {
            continue;
        }
        let of_caller = directory.join(names.conversations_of(&about.caller));
        create_private_directory(&of_caller)?;
        let new = of_caller.join(own);
        if new.exists() {
            tracing::error!(conversation = %path.display(), "it was begun again in its new place; the earlier one is left as it is");
            continue;
        }
        fs::rename(&path, new)?;
    }
    Ok(())
}

/// Splits one root for all agents into one for each: their histories are moved, the rest is made again when they run.
fn move_agents(conversation: &Path) -> io::Result<()> {
    let old = Workspace::private(conversation);
    let agents = Root::open(conversation)?.directory(Path::new(".conductor_workspace/agents"));
    let entries = agents.and_then(|agents| agents.entries(10_000)).unwrap_or_default();
    for entry in entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory) {
        let Some(agent_id) = entry.name.to_str().filter(|name| is_id(name)) else { continue };
        if old.history_len(agent_id) == 0 {
            continue;
        }
        let new = Workspace::private(&conversation.join(AGENTS).join(agent_id));
        create_private_directory(&new.agent_directory(agent_id))?;
        for name in HISTORY_FILES {
            let (from, to) =
                (old.agent_directory(agent_id).join(name), new.agent_directory(agent_id).join(name));
            match fs::symlink_metadata(&from) {
                Ok(metadata) if metadata.is_file() => fs::rename(from, to)?,
                _ => {}
            }
        }
    }
    for entry in fs::read_dir(conversation)?.flatten() {
        let name = entry.file_name();
        let is_kept = [ABOUT_FILE, AGENTS, super::exchanges::FILE].iter().any(|kept| name == *kept);
        if !is_kept {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}
