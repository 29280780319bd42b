//! Conversations: what a caller said to the gateway's agent and to the engine's agents, private to that caller.
//!
//! A conversation is one directory, named by a keyed digest of caller and id, within the one of its caller. The gateway's agent keeps its exchanges in
//! `exchanges.jsonl`; each of the engine's agents has a root of its own in it, `agents/<agent_id>`.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    Toolbox,
    conversation_list::Uses,
    exchanges::{self, Exchange},
    toolbox::{Inner, ToolboxConfig},
};
use crate::{
    engine::{is_id, workspace::Workspace},
    error::{Error, Reason, Result},
    files::{Durability, Root, create_private_directory, remove_tree, replace},
    pb::Timestamp,
    principal::Principal,
    text::quoted,
};

pub(super) const ABOUT_FILE: &str = "conversation.json";
/// Where its agents' roots are.
pub(super) const AGENTS: &str = "agents";
const MAX_ABOUT_BYTES: u64 = 64 * 1024;
/// Agents of one conversation.
const MAX_AGENTS: usize = 10_000;
/// More of one exchange's words is not remembered.
const MAX_WORDS_BYTES: usize = 32 * 1024;

/// Whose a directory is.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    pub(super) caller: String,
    pub(super) conversation_id: String,
    create_time_ms: u64,
}

/// A conversation of a caller.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its id.
    pub conversation_id: String,
    /// When it began.
    pub create_time: Timestamp,
    /// When something was last said.
    pub update_time: Timestamp,
    /// Exchanges with the gateway's agent that are remembered.
    pub exchanges: u32,
    /// The engine's agents that remember something of it, with the number of interactions.
    pub agents: Vec<(String, u32)>,
}

impl Conversation {
    /// As the JSON doors print it.
    pub fn to_json(&self) -> serde_json::Value {
        let agents = self.agents.iter().map(|(agent_id, interactions)| {
            serde_json::json!({"agent_id": agent_id, "interactions": interactions})
        });
        serde_json::json!({
            "conversation_id": self.conversation_id,
            "create_time": self.create_time.to_string(),
            "update_time": self.update_time.to_string(),
            "exchanges": self.exchanges,
            "agents": agents.collect::<Vec<_>>(),
        })
    }
}

/// How much of a conversation is remembered.
#[derive(Clone, Copy, Debug)]
pub struct RememberLimits {
    /// Exchanges.
    pub max_exchanges: usize,
    /// Bytes of them together.
    pub max_bytes: usize,
}

/// The names of a conversation's directory and of its caller's.
fn names_of(directory: &Path) -> Option<(&str, &str)> {
    Some((directory.parent()?.file_name()?.to_str()?, directory.file_name()?.to_str()?))
}

/// The conversations that calls use now; those are not deleted.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse(Arc<Mutex<HashMap<PathBuf, usize>>>);

/// Held while a call uses a conversation.
#[derive(Debug)]
pub struct ConversationUse(Arc<Mutex<HashMap<PathBuf, usize>>>, PathBuf);

impl Drop for ConversationUse {
    fn drop(&mut self) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = uses.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                uses.remove(&self.1);
            }
        }
    }
}

impl InUse {
    fn begin(&self, directory: PathBuf) -> ConversationUse {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(directory.clone()).or_default() += 1;
        ConversationUse(self.0.clone(), directory)
    }

    /// Does something short to a conversation that nobody uses, while nobody can begin to. `None`: it is used.
    fn unless_used<T>(&self, directory: &Path, act: impl FnOnce() -> T) -> Option<T> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!uses.contains_key(directory)).then(act)
    }
}

/// Removes a conversation that is there and fits `wanted`. Answers whether it did; `None`: it is used. `is_gone` is told while nobody
/// can begin to use it.
fn remove(
    directory: &Path,
    in_use: &InUse,
    wanted: impl FnOnce() -> bool,
    is_gone: impl FnOnce(),
) -> Result<Option<bool>> {
    // Out of sight at once, then removed; links in it are removed and not followed.
    let gone = directory.with_extension(format!("deleted-{}", Timestamp::now().unix_millis()));
    let renamed = in_use.unless_used(directory, || {
        let renamed = wanted().then(|| fs::rename(directory, &gone));
        if !directory.exists() {
            is_gone();
        }
        renamed
    });
    match renamed {
        None => Ok(None),
        Some(None) => Ok(Some(false)),
        Some(Some(Err(error))) if error.kind() == io::ErrorKind::NotFound => Ok(Some(false)),
        Some(Some(renamed)) => {
            renamed.and_then(|()| remove_tree(&gone)).map(|()| Some(true)).map_err(unreadable)
        }
    }
}

impl Inner {
    /// Removes a conversation that nobody uses and that fits. Answers whether it did; `None`: it is used.
    pub(super) async fn remove_conversation(
        &self,
        directory: PathBuf,
        fits: impl FnOnce(&ToolboxConfig, &Path) -> bool + Send + 'static,
    ) -> Result<Option<bool>> {
        let (in_use, index) = (self.conversations_in_use.clone(), self.conversations.index.clone());
        self.blocking(move |config| {
            // Looked at while nobody can begin to use it.
            let is_gone = || {
                if let Some((caller, name)) = names_of(&directory) {
                    index.removed(caller, name);
                }
            };
            remove(&directory, &in_use, || fits(config, &directory), is_gone)
        })
        .await
    }

    /// Removes a conversation in which nothing is remembered any more and that nobody uses.
    pub(super) async fn remove_if_empty(&self, directory: PathBuf) -> Result<()> {
        let is_empty = |config: &ToolboxConfig, directory: &Path| {
            let known = config.read_conversation(directory);
            known.is_some_and(|(_, known)| known.agents.is_empty() && known.exchanges == 0)
        };
        self.remove_conversation(directory, is_empty).await.map(|_| ())
    }

    /// Says that a call uses a conversation, until the answer is dropped.
    pub(super) fn use_conversation(&self, caller: &Principal, conversation_id: &str) -> ConversationUse {
        self.conversations_in_use.begin(self.config.conversation_directory(caller, conversation_id))
    }
}

pub(super) fn not_found(conversation_id: &str) -> Error {
    let message = format!("there is no conversation `{}`", quoted(conversation_id));
    Error::new(Reason::ConversationNotFound, message)
}

fn set_used_now(path: &Path) -> io::Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn unreadable(error: io::Error) -> Error {
    Error::new(Reason::ToolFailed, "the conversations cannot be read or written").because(error)
}

impl ToolboxConfig {
    /// Makes a conversation's directory and notes whose it is.
    pub(super) fn open_conversation(
        &self,
        caller: &Principal,
        conversation_id: &str,
        uses: &Uses,
    ) -> io::Result<PathBuf> {
        let directory = self.conversation_directory(caller, conversation_id);
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

    pub(super) fn read_conversation(&self, directory: &Path) -> Option<(About, Conversation)> {
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

impl ToolboxConfig {
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

/// The newest exchanges within the limits, the oldest of them first.
fn within(exchanges: Vec<Exchange>, limits: RememberLimits) -> Vec<Exchange> {
    let mut bytes = 0;
    let mut kept: Vec<Exchange> = exchanges
        .into_iter()
        .rev()
        .take(limits.max_exchanges)
        .take_while(|exchange| {
            bytes += exchange.command.len() + exchange.answer.len();
            bytes <= limits.max_bytes
        })
        .collect();
    kept.reverse();
    kept
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_WORDS_BYTES)].to_owned()
}

impl Toolbox {
    /// Removes a conversation with everything that was said in it.
    ///
    /// # Errors
    /// [`Reason::ConversationNotFound`], also for another caller's; [`Reason::Busy`] while a job uses it.
    pub async fn delete_conversation(&self, caller: &Principal, conversation_id: &str) -> Result<()> {
        let directory = self.inner.config.conversation_directory(caller, conversation_id);
        let is_there = |_: &ToolboxConfig, directory: &Path| directory.join(ABOUT_FILE).exists();
        let removed = match self.inner.remove_conversation(directory, is_there).await {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(not_found(conversation_id)),
            Ok(None) => {
                let shown = quoted(conversation_id);
                let message =
                    format!("a job uses the conversation `{shown}`; cancel it or wait, then delete");
                Err(Error::new(Reason::Busy, message))
            }
            Err(error) => Err(error),
        };
        self.inner.recent.forget();
        removed
    }

    /// What the gateway's agent remembers of a conversation, the oldest exchange first; marks it as used.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`].
    pub async fn recall(
        &self,
        caller: &Principal,
        conversation_id: &str,
        limits: RememberLimits,
    ) -> Result<(ConversationUse, Vec<Exchange>)> {
        let in_use = self.inner.use_conversation(caller, conversation_id);
        let directory = self.inner.config.conversation_directory(caller, conversation_id);
        let exchanges = self.inner.blocking(move |_| exchanges::read(&directory).map_err(unreadable)).await?;
        Ok((in_use, within(exchanges, limits)))
    }

    /// Adds an exchange to a conversation and forgets what is beyond the limits.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`].
    pub async fn remember(
        &self,
        caller: &Principal,
        conversation_id: &str,
        exchange: Exchange,
        limits: RememberLimits,
    ) -> Result<()> {
        let (caller, conversation_id) = (caller.clone(), conversation_id.to_owned());
        let _turn = self.inner.exchange_writes.lock().await;
        let uses = self.inner.conversations.uses();
        self.inner
            .blocking(move |config| {
                let directory =
                    config.open_conversation(&caller, &conversation_id, &uses).map_err(unreadable)?;
                let mut exchanges = exchanges::read(&directory).map_err(unreadable)?;
                exchanges.push(Exchange { command: cut(&exchange.command), answer: cut(&exchange.answer) });
                exchanges::write(&directory, &within(exchanges, limits)).map_err(unreadable)
            })
            .await
    }
}
