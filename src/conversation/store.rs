//! Conversations: what a caller said to the gateway's agent and to the engine's agents. Each is private to its caller.
//!
//! A conversation is a directory within the directory of its caller; both are named by keyed digests. The gateway's
//! agent keeps its exchanges in `exchanges.jsonl`; each of the engine's agents has a root of its own,
//! `agents/<agent_id>`.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    ConversationsConfig, Layout,
    exchanges::{self, Exchange},
    index::ABOUT_FILE,
    layout::names_of,
    use_recorder::LazyConversationIndex,
};
use crate::{
    error::{Error, Reason, Result},
    files::{Pool, remove_tree},
    pb::Timestamp,
    principal::Principal,
    sync::lock,
    text::quoted,
};

/// Reading and writing a few files takes no longer than this.
const FILE_TIME: Duration = Duration::from_secs(10);
/// The command and the answer of an exchange are each cut to this many bytes.
const MAX_WORDS_BYTES: usize = 32 * 1024;

/// How much of a conversation is remembered.
#[derive(Clone, Copy, Debug)]
pub struct RememberLimits {
    /// The most exchanges.
    pub max_exchanges: usize,
    /// The most bytes of all exchanges together.
    pub max_bytes: usize,
}

/// The conversations that calls are using, with the number of those calls; they are not deleted.
#[derive(Clone, Debug, Default)]
pub(super) struct ConversationUseCounts(Arc<Mutex<HashMap<PathBuf, usize>>>);

/// Keeps a conversation from being deleted while a call uses it.
#[derive(Debug)]
pub struct ConversationUse(Arc<Mutex<HashMap<PathBuf, usize>>>, PathBuf);

impl Drop for ConversationUse {
    fn drop(&mut self) {
        let mut uses = lock(&self.0);
        if let Some(count) = uses.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                uses.remove(&self.1);
            }
        }
    }
}

impl ConversationUseCounts {
    fn begin(&self, directory: PathBuf) -> ConversationUse {
        *lock(&self.0).entry(directory.clone()).or_default() += 1;
        ConversationUse(self.0.clone(), directory)
    }

    /// Runs a short action on a conversation that nobody uses and that nobody can begin to use meanwhile. Returns
    /// `None`, without running it, when the conversation is in use.
    fn unless_used<T>(&self, directory: &Path, act: impl FnOnce() -> T) -> Option<T> {
        let uses = lock(&self.0);
        (!uses.contains_key(directory)).then(act)
    }
}

/// Removes a conversation if it exists and `wanted` returns true. Returns whether it was removed, or `None` when it is
/// in use. `is_gone` is called when the directory no longer exists, before anybody can begin to use it again.
fn remove(
    directory: &Path,
    in_use: &ConversationUseCounts,
    wanted: impl FnOnce() -> bool,
    is_gone: impl FnOnce(),
) -> Result<Option<bool>> {
    // Renamed first, so that it disappears at once; symbolic links in it are removed and not followed.
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

/// The conversations and settings of all callers. Clones share everything.
#[derive(Clone, Debug)]
pub struct ConversationStore {
    pub(super) inner: Arc<ConversationStoreInner>,
}

#[derive(Debug)]
pub(super) struct ConversationStoreInner {
    pub(super) layout: Layout,
    retention: Mutex<ConversationsConfig>,
    /// The bounded pool of threads for files that others can write.
    pool: Pool,
    in_use: ConversationUseCounts,
    pub(super) known: LazyConversationIndex,
    /// Held while a conversation's exchanges are rewritten.
    exchange_writes: tokio::sync::Mutex<()>,
    /// Held while a caller's settings are read and rewritten.
    pub(super) settings_writes: Arc<tokio::sync::Mutex<()>>,
}

impl ConversationStore {
    /// Creates the store below a data root that [`upgrade`](fn@super::upgrade) has brought to this build's layout.
    pub fn new(layout: Layout, retention: ConversationsConfig, pool: Pool) -> Self {
        let inner = ConversationStoreInner {
            layout,
            retention: Mutex::new(retention),
            pool,
            in_use: ConversationUseCounts::default(),
            known: LazyConversationIndex::default(),
            exchange_writes: tokio::sync::Mutex::default(),
            settings_writes: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns how long conversations are kept, and how many.
    pub(super) fn retention(&self) -> ConversationsConfig {
        lock(&self.inner.retention).clone()
    }

    /// Replaces the retention, and applies it at once.
    pub fn reconfigure(&self, retention: ConversationsConfig) {
        *lock(&self.inner.retention) = retention;
        self.inner.known.due.notify_one();
    }

    /// Returns the paths of everything in the store.
    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// Runs blocking file work on the store's thread pool and returns its result within 10 seconds, which include the wait
    /// for a free thread.
    ///
    /// # Errors
    /// Those of the work; [`Reason::ToolFailed`] if it panicked or was late. Work that has begun continues when it is late.
    pub(super) async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.files_for(FILE_TIME, work).await
    }

    /// Runs work on files on a thread of the pool, for at most `deadline`.
    pub(super) async fn files_for<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&Layout) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let layout = self.inner.layout.clone();
        self.inner.pool.run_fallible(deadline, move || work(&layout)).await
    }

    /// Removes a conversation for which `fits` returns true. Returns whether it was removed, or `None` when it is in
    /// use.
    pub(super) async fn remove(
        &self,
        directory: PathBuf,
        fits: impl FnOnce(&Layout, &Path) -> bool + Send + 'static,
    ) -> Result<Option<bool>> {
        let (in_use, index) = (self.inner.in_use.clone(), self.inner.known.index.clone());
        self.files(move |layout| {
            // Both closures run while nobody can begin to use the conversation.
            let is_gone = || {
                if let Some((caller, name)) = names_of(&directory) {
                    index.removed(caller, name);
                }
            };
            remove(&directory, &in_use, || fits(layout, &directory), is_gone)
        })
        .await
    }

    /// Removes a conversation in which nothing is remembered any more, unless it is in use.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`].
    pub async fn remove_if_empty(&self, caller: &Principal, conversation_id: &str) -> Result<()> {
        let is_empty = |layout: &Layout, directory: &Path| {
            let known = layout.read(directory);
            known.is_some_and(|(_, known)| known.agents.is_empty() && known.exchanges == 0)
        };
        let directory = self.inner.layout.conversation(caller, conversation_id);
        self.remove(directory, is_empty).await.map(|_| ())
    }

    /// Marks a conversation as in use until the returned guard is dropped.
    pub fn begin_use(&self, caller: &Principal, conversation_id: &str) -> ConversationUse {
        self.inner.in_use.begin(self.inner.layout.conversation(caller, conversation_id))
    }

    /// Creates a conversation that does not exist yet, marks it as used now, and returns its directory. Blocks on its
    /// files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(&self, caller: &Principal, conversation_id: &str) -> io::Result<PathBuf> {
        self.inner.layout.open(caller, conversation_id, &self.inner.known.uses())
    }

    /// Deletes a conversation and everything that was said in it.
    ///
    /// # Errors
    /// [`Reason::ConversationNotFound`], also for another caller's conversation; [`Reason::Busy`] while a job uses it;
    /// [`Reason::ToolFailed`].
    pub async fn delete(&self, caller: &Principal, conversation_id: &str) -> Result<()> {
        let directory = self.inner.layout.conversation(caller, conversation_id);
        let is_there = |_: &Layout, directory: &Path| directory.join(ABOUT_FILE).exists();
        match self.remove(directory, is_there).await {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(not_found(conversation_id)),
            Ok(None) => {
                let shown = quoted(conversation_id);
                let message =
                    format!("a job uses the conversation `{shown}`; cancel it or wait, then delete");
                Err(Error::new(Reason::Busy, message))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns a conversation's exchanges with the gateway's agent, oldest first and within the limits, and a guard
    /// that keeps the conversation from being deleted.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`].
    pub async fn recall(
        &self,
        caller: &Principal,
        conversation_id: &str,
        limits: RememberLimits,
    ) -> Result<(ConversationUse, Vec<Exchange>)> {
        let in_use = self.begin_use(caller, conversation_id);
        let directory = self.inner.layout.conversation(caller, conversation_id);
        let exchanges = self.files(move |_| exchanges::read(&directory).map_err(unreadable)).await?;
        Ok((in_use, within(exchanges, limits)))
    }

    /// Appends an exchange, its command and its answer each cut to 32 KiB, and creates the conversation if it is missing. The
    /// oldest exchanges beyond `limits` are deleted; a newest one larger than `max_bytes` leaves nothing. Waits at most 10 seconds
    /// for the files, and a write that is late may still take place.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`] if the files cannot be read or written in time.
    pub async fn remember(
        &self,
        caller: &Principal,
        conversation_id: &str,
        exchange: Exchange,
        limits: RememberLimits,
    ) -> Result<()> {
        let (caller, conversation_id) = (caller.clone(), conversation_id.to_owned());
        let _turn = self.inner.exchange_writes.lock().await;
        let uses = self.inner.known.uses();
        self.files(move |layout| {
            let directory = layout.open(&caller, &conversation_id, &uses).map_err(unreadable)?;
            let mut exchanges = exchanges::read(&directory).map_err(unreadable)?;
            exchanges.push(Exchange { command: cut(&exchange.command), answer: cut(&exchange.answer) });
            exchanges::write(&directory, &within(exchanges, limits)).map_err(unreadable)
        })
        .await
    }
}

pub(super) fn not_found(conversation_id: &str) -> Error {
    let message = format!("there is no conversation `{}`", quoted(conversation_id));
    Error::new(Reason::ConversationNotFound, message)
}

pub(super) fn unreadable(error: io::Error) -> Error {
    Error::new(Reason::ToolFailed, "the conversations cannot be read or written").because(error)
}

/// Returns the newest exchanges within the limits, oldest first.
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
