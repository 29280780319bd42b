//! Where conversations and settings are in the data root, and the note in each conversation of whom it belongs to.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Conversation, KeyedNames, exchanges, index::ABOUT_FILE, use_recorder::ConversationUseRecorder};
use crate::{
    engine::{is_id, workspace::Workspace},
    files::{ReplaceDurability, Root, create_private_directory, replace},
    pb::Timestamp,
    principal::Principal,
};

/// The directory within a conversation that holds its agents' roots.
pub(super) const AGENTS: &str = "agents";
const MAX_ABOUT_BYTES: u64 = 64 * 1024;
/// A conversation whose `agents` directory has more entries than this is listed without its agents.
const MAX_AGENTS: usize = 10_000;

/// The note of whom a conversation's directory belongs to.
#[derive(Serialize, Deserialize)]
pub(super) struct ConversationHeader {
    pub(super) caller: String,
    pub(super) conversation_id: String,
    create_time_ms: u64,
}

/// The paths of everything that belongs to callers.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The data root.
    pub data_directory: PathBuf,
    /// Derives the names of callers' and conversations' files.
    pub names: KeyedNames,
}

impl Layout {
    /// Returns the directory of all conversations, which has a directory for each caller.
    pub(super) fn conversations(&self) -> PathBuf {
        self.data_directory.join("conversations")
    }

    /// Returns the directory of a caller's conversation. Its path is made of keyed digests, so that no name leads out
    /// of it, or to it.
    pub(super) fn conversation(&self, caller: &Principal, conversation_id: &str) -> PathBuf {
        let own = self.names.conversations_of(caller.name());
        let name = self.names.conversation(caller.name(), conversation_id);
        self.conversations().join(own).join(name)
    }

    /// Returns the root that an agent has in a conversation. It may not exist yet.
    pub fn agent_root(&self, caller: &Principal, conversation_id: &str, agent_id: &str) -> PathBuf {
        self.conversation(caller, conversation_id).join(AGENTS).join(agent_id)
    }
}

/// Returns the names of the caller's directory and of the conversation's directory within it.
pub(super) fn names_of(directory: &Path) -> Option<(&str, &str)> {
    Some((directory.parent()?.file_name()?.to_str()?, directory.file_name()?.to_str()?))
}

fn set_used_now(path: &Path) -> io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

impl Layout {
    /// Creates a conversation's directory with a note of its owner where it does not exist, marks the conversation as
    /// used now, and returns the directory.
    pub(super) fn open(
        &self,
        caller: &Principal,
        conversation_id: &str,
        uses: &ConversationUseRecorder,
    ) -> io::Result<PathBuf> {
        let directory = self.conversation(caller, conversation_id);
        let path = directory.join(ABOUT_FILE);
        if let Some((of_caller, name)) = names_of(&directory) {
            uses.used(of_caller, name);
        }
        if self.read_about(&directory).is_some() {
            // From the note's modification time the next start learns when the conversation was last used.
            set_used_now(&path)?;
            return Ok(directory);
        }
        uses.is_new();
        create_private_directory(&directory)?;
        let about = ConversationHeader {
            caller: caller.name().to_owned(),
            conversation_id: conversation_id.to_owned(),
            create_time_ms: Timestamp::now().unix_millis(),
        };
        // Another call may do the same at this moment; both write the same owner and id, and only the creation time may
        // differ.
        replace(&path, &serde_json::to_vec(&about)?, ReplaceDurability::Process)?;
        Ok(directory)
    }

    pub(super) fn read(&self, directory: &Path) -> Option<(ConversationHeader, Conversation)> {
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
    /// Reads whom a directory belongs to. Returns `None` when that cannot be read, or does not match the directory's
    /// name.
    fn read_about(&self, directory: &Path) -> Option<ConversationHeader> {
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

/// Reads whom a directory claims to belong to, without checking that against its name.
pub(super) fn read_about_unchecked(directory: &Path) -> Option<ConversationHeader> {
    let bytes = Root::open(directory).ok()?.read(Path::new(ABOUT_FILE), MAX_ABOUT_BYTES).ok()?;
    serde_json::from_slice(&bytes).ok()
}
