//! Which conversations exist and when each was last used, by caller, so that a listing costs its page, and retention
//! what it removes.
//!
//! The index is read once from the directories, then kept up to date by those who use conversations. Callers and
//! conversations are identified by the names of their directories.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::Path,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    files::{EntryKind, Root},
    pb::Timestamp,
    sync::lock,
};

/// A directory with more entries than this is an error.
pub(super) const ABOUT_FILE: &str = "conversation.json";
const MAX_ENTRIES: usize = 1_000_000;

/// The `conversations` section: how long conversations are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConversationsConfig {
    /// A conversation that nobody has used for this many seconds is removed.
    pub retention_seconds: u32,
    /// While there are more, the least recently used conversation of the caller who has most is removed.
    pub max_conversations: u32,
    /// The same limit for each caller alone; null: callers share `max_conversations`.
    pub max_conversations_per_caller: Option<u32>,
}

impl Default for ConversationsConfig {
    fn default() -> Self {
        Self {
            retention_seconds: 90 * 24 * 3600,
            max_conversations: 10_000,
            max_conversations_per_caller: None,
        }
    }
}

/// When a conversation was last used, in milliseconds since 1970, and the name of its directory.
pub(super) type LastUse = (u64, String);

/// The conversations of one caller.
#[derive(Debug, Default)]
struct CallerConversations {
    times: HashMap<String, u64>,
    by_use: BTreeSet<LastUse>,
}

impl CallerConversations {
    fn used(&mut self, name: &str, time: u64) {
        if let Some(before) = self.times.insert(name.to_owned(), time) {
            self.by_use.remove(&(before, name.to_owned()));
        }
        self.by_use.insert((time, name.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        if let Some(time) = self.times.remove(name) {
            self.by_use.remove(&(time, name.to_owned()));
        }
    }
}

/// The index of conversations by caller; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct ConversationIndex(Mutex<HashMap<String, CallerConversations>>);

impl ConversationIndex {
    fn callers(&self) -> MutexGuard<'_, HashMap<String, CallerConversations>> {
        lock(&self.0)
    }

    /// Reads the existing conversations. The time of one that is used meanwhile is kept.
    ///
    /// # Errors
    /// When a directory of conversations cannot be read.
    pub(super) fn read(&self, directory: &Path) -> io::Result<()> {
        let root = match Root::open(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            root => root?,
        };
        for caller in directories(&root)? {
            let owned = root.directory(Path::new(&caller))?;
            for name in directories(&owned)? {
                let about = Path::new(&name).join(ABOUT_FILE);
                let Ok(status) = owned.status(&about) else { continue };
                let time = u64::try_from(status.st_mtime).unwrap_or(0) * 1000;
                let mut callers = self.callers();
                let known = callers.entry(caller.clone()).or_default();
                if !known.times.contains_key(&name) {
                    known.used(&name, time);
                }
            }
        }
        Ok(())
    }

    /// Records that a conversation is used now.
    pub(super) fn used(&self, caller: &str, name: &str) {
        let now = Timestamp::now().unix_millis();
        self.callers().entry(caller.to_owned()).or_default().used(name, now);
    }

    /// Records that a conversation is gone.
    pub(super) fn removed(&self, caller: &str, name: &str) {
        let mut callers = self.callers();
        if let Some(owned) = callers.get_mut(caller) {
            owned.remove(name);
            if owned.times.is_empty() {
                callers.remove(caller);
            }
        }
    }

    /// Returns a page of a caller's conversations, most recently used first, starting behind `before`.
    pub(super) fn page(&self, caller: &str, before: Option<&LastUse>, limit: usize) -> Vec<LastUse> {
        let callers = self.callers();
        let Some(owned) = callers.get(caller) else { return Vec::new() };
        let page = match before {
            Some(before) => owned.by_use.range(..before.clone()),
            None => owned.by_use.range(..),
        };
        page.rev().take(limit).cloned().collect()
    }

    /// Returns the conversations that retention no longer keeps, as caller and conversation; each caller's least
    /// recently used first.
    pub(super) fn expired(&self, config: &ConversationsConfig) -> Vec<(String, String)> {
        let now = Timestamp::now().unix_millis();
        let age = Duration::from_secs(config.retention_seconds.into()).as_millis();
        let oldest = now.saturating_sub(u64::try_from(age).unwrap_or(u64::MAX));
        let own_most = config.max_conversations_per_caller.map_or(usize::MAX, |most| most as usize);
        let callers = self.callers();
        let mut expired = Vec::new();
        // What remains of each caller's conversations, sorted by number: the caller who has most comes last.
        let mut left = BTreeSet::new();
        let mut total = 0;
        for (caller, owned) in callers.iter() {
            let aged = owned.by_use.iter().take_while(|(time, _)| *time < oldest).count();
            let gone = aged.max(owned.by_use.len().saturating_sub(own_most));
            expired.extend(owned.by_use.iter().take(gone).map(|(_, name)| (caller.clone(), name.clone())));
            left.insert((owned.by_use.len() - gone, caller.as_str()));
            total += owned.by_use.len() - gone;
        }
        while total > config.max_conversations as usize {
            let Some((count, caller)) = left.pop_last().filter(|(count, _)| *count > 0) else { break };
            let owned = &callers[caller];
            let next = owned.by_use.iter().nth(owned.by_use.len() - count);
            expired.extend(next.map(|(_, name)| (caller.to_owned(), name.clone())));
            left.insert((count - 1, caller));
            total -= 1;
        }
        expired
    }
}

fn directories(root: &Root) -> io::Result<Vec<String>> {
    // A directory whose removal was interrupted has an extension, and is skipped.
    let names = root.entries(MAX_ENTRIES)?.into_iter().filter(|entry| entry.kind == EntryKind::Directory);
    let names = names.filter_map(|entry| entry.name.into_string().ok());
    Ok(names.filter(|name| !name.contains('.')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_latest_and_whoever_has_most_gives() {
        let index = ConversationIndex::default();
        for (caller, count) in [("a", 6_u32), ("b", 2)] {
            for number in 0..count {
                let mut callers = index.callers();
                let time = Timestamp::now().unix_millis() + u64::from(number);
                callers.entry(caller.into()).or_default().used(&format!("{caller}{number}"), time);
            }
        }
        let first = index.page("a", None, 4);
        let names: Vec<&str> = first.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a5", "a4", "a3", "a2"]);
        let rest = index.page("a", first.last(), 4);
        assert_eq!(rest.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["a1", "a0"]);
        let expired = |max: u32, own: Option<u32>| {
            let config = ConversationsConfig {
                max_conversations: max,
                max_conversations_per_caller: own,
                ..ConversationsConfig::default()
            };
            index.expired(&config).into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(expired(8, None), [""; 0]);
        assert_eq!(expired(5, None), ["a0", "a1", "a2"]);
        assert_eq!(expired(8, Some(1)).len(), 6);
        index.removed("b", "b0");
        index.removed("b", "b1");
        assert!(index.page("b", None, 9).is_empty());
    }
}
