//! Where conversations and settings are in the data root, and the note in each conversation of whose it is.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Conversation, Names, exchanges, list::Uses};
use crate::{
    engine::{is_id, workspace::Workspace},
    files::{Durability, Root, create_private_directory, replace},
    pb::Timestamp,
    principal::Principal,
};

pub(super) const ABOUT_FILE: &str = "conversation.json";
/// Where its agents' roots are.
pub(super) const AGENTS: &str = "agents";
const MAX_ABOUT_BYTES: u64 = 64 * 1024;
/// Agents of one conversation.
const MAX_AGENTS: usize = 10_000;

/// Whose a directory is.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    pub(super) caller: String,
    pub(super) conversation_id: String,
    create_time_ms: u64,
}

/// Where everything of the callers' is.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The data root.
    pub data_directory: PathBuf,
    /// What callers' and conversations' files are called.
    pub names: Names,
}

impl Layout {
    /// Where all conversations are, those of each caller in a directory.
    pub(super) fn conversations(&self) -> PathBuf {
        self.data_directory.join("conversations")
    }

    /// The directory of the caller's own conversation. Made of a keyed digest, so that no name can lead out of it,
    /// or to it.
    pub(super) fn conversation(&self, caller: &Principal, conversation_id: &str) -> PathBuf {
        let own = self.names.conversations_of(caller.name());
        let name = self.names.conversation(caller.name(), conversation_id);
        self.conversations().join(own).join(name)
    }

    /// The root that an agent has in a conversation. It may not be there yet.
    pub fn agent_root(&self, caller: &Principal, conversation_id: &str, agent_id: &str) -> PathBuf {
        self.conversation(caller, conversation_id).join(AGENTS).join(agent_id)
    }
}

/// The names of a conversation's directory and of its caller's.
pub(super) fn names_of(directory: &Path) -> Option<(&str, &str)> {
    Some((directory.parent()?.file_name()?.to_str()?, directory.file_name()?.to_str()?))
}

fn set_used_now(path: &Path) -> io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

impl Layout {
    /// Makes a conversation's directory and notes whose it is.
    pub(super) fn open(&self, caller: &Principal, conversation_id: &str, uses: &Uses) -> io::Result<PathBuf> {
        let directory = self.conversation(caller, conversation_id);
        let path = directory.join(ABOUT_FILE);
        if let Some((of_caller, name)) = names_of(&directory) {
            uses.used(of_caller, name);
        }
        if self.read_about(&directory).is_some() {
            // When it was used is found again by the next start.
            set_used_now(&path)?;
            return Ok(directory);
        }
        uses.is_new();
        create_private_directory(&directory)?;
        let about = About {
            caller: caller.name().to_owned(),
            conversation_id: conversation_id.to_owned(),
            create_time_ms: Timestamp::now().unix_millis(),
        };
        // Another call may do the same in this moment; both write the same.
        replace(&path, &serde_json::to_vec(&about)?, Durability::Process)?;
        Ok(directory)
    }

    pub(super) fn read(&self, directory: &Path) -> Option<(About, Conversation)> {
        let about = self.read_about(directory)?;
        let root = Root::open(directory).ok()?;
        let mut agents = Vec::new();
        let mut updated = about.create_time_ms;
        let mut touch = |root: &Root, path: &str| {
            let modified = root.status(Path::new(path)).map_or(0, |stat| stat.st_mtime * 1000);
            updated = updated.max(u64::try_from(modified).unwrap_or(0));
        };
        let entries = root.directory(Path::new(AGENTS)).and_then(|agents| agents.entries(MAX_AGENTS));
        for entry in entries.unwrap_or_default() {
            let Some(agent_id) = entry.name.to_str().filter(|name| is_id(name)) else { continue };
            let workspace = Workspace::private(&directory.join(AGENTS).join(agent_id));
            let interactions = workspace.history_len(agent_id);
            if interactions > 0 {
                if let Ok(agent) = workspace.agent_root(agent_id) {
                    touch(&agent, "history.log");
                }
                agents.push((agent_id.to_owned(), u32::try_from(interactions).unwrap_or(u32::MAX)));
            }
        }
        agents.sort();
        let exchanges = exchanges::read(directory).ok()?.len();
        touch(&root, exchanges::FILE);
        let conversation = Conversation {
            conversation_id: about.conversation_id.clone(),
            create_time: Timestamp::from_unix_millis(about.create_time_ms),
            update_time: Timestamp::from_unix_millis(updated),
            exchanges: u32::try_from(exchanges).unwrap_or(u32::MAX),
            agents,
        };
        Some((about, conversation))
    }
}

impl Layout {
    /// Whose a directory is; nothing where that cannot be read, or is not what the directory is named by.
    fn read_about(&self, directory: &Path) -> Option<About> {
        if !directory.join(ABOUT_FILE).exists() {
            return None;
        }
        let about = read_about_unchecked(directory).filter(|about| {
            let name = self.names.conversation(&about.caller, &about.conversation_id);
            directory.file_name().is_some_and(|own| own == name.as_str())
        });
        if about.is_none() {
            tracing::error!(
                conversation = %directory.display(),
                "the note of whose a conversation is, is damaged; its next use writes it again"
            );
        }
        about
    }
}

/// Whose a directory says that it is.
pub(super) fn read_about_unchecked(directory: &Path) -> Option<About> {
    let bytes = Root::open(directory).ok()?.read(Path::new(ABOUT_FILE), MAX_ABOUT_BYTES).ok()?;
    serde_json::from_slice(&bytes).ok()
}
