//! Lists a caller's conversations, a page at a time, and removes those that retention no longer keeps.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    Conversation, ConversationStore,
    index::ConversationIndex,
    store::{not_found, unreadable},
};
use crate::{
    error::{Error, Result},
    principal::Principal,
};

/// The most conversations on a page.
const MAX_PAGE: u32 = 500;
/// How often retention runs without being notified.
const RETENTION_INTERVAL: Duration = Duration::from_secs(600);

/// The time limit for reading which conversations exist.
const READ_TIME: Duration = Duration::from_secs(60);

/// A page of a caller's conversations.
#[derive(Clone, Debug, Default)]
pub struct ConversationPage {
    /// The conversations, most recently used first.
    pub conversations: Vec<Conversation>,
    /// The token of the next page; empty on the last page.
    pub next_page_token: String,
}

impl ConversationStore {
    async fn conversation_index(&self) -> Result<&ConversationIndex> {
        let known = &self.inner.known;
        let read = || async {
            let index = known.index.clone();
            self.files_for(READ_TIME, move |layout| index.read(&layout.conversations()).map_err(unreadable))
                .await
        };
        known.is_read.get_or_try_init(read).await?;
        Ok(&known.index)
    }

    /// Returns a page of the caller's conversations, most recently used first. A `page_size` of 0 means the maximum,
    /// 500.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed);
    /// [`Reason::InvalidArgument`](crate::error::Reason::InvalidArgument) for a malformed token.
    pub async fn page(
        &self,
        caller: &Principal,
        page_size: u32,
        page_token: &str,
    ) -> Result<ConversationPage> {
        let limit = if page_size == 0 { MAX_PAGE } else { page_size.min(MAX_PAGE) } as usize;
        let before = match page_token {
            "" => None,
            token => {
                let parts = token.split_once('.').and_then(|(time, name)| Some((time.parse().ok()?, name)));
                let (time, name): (u64, &str) =
                    parts.ok_or_else(|| Error::invalid("page_token", "is not one that a page gave"))?;
                Some((time, name.to_owned()))
            }
        };
        let own = self.inner.layout.names.conversations_of(caller.name());
        let index = self.conversation_index().await?;
        let mut listed = index.page(&own, before.as_ref(), limit + 1);
        let has_more = listed.len() > limit;
        listed.truncate(limit);
        let next_page_token = match listed.last().filter(|_| has_more) {
            Some((time, name)) => format!("{time}.{name}"),
            None => String::new(),
        };
        let caller = caller.clone();
        let conversations = self
            .files(move |layout| {
                let directory = layout.conversations().join(own);
                let found = listed.iter().filter_map(|(_, name)| layout.read(&directory.join(name)));
                let own = found.filter(|(about, _)| about.caller == caller.name());
                Ok(own.map(|(_, conversation)| conversation).collect())
            })
            .await?;
        Ok(ConversationPage { conversations, next_page_token })
    }

    /// Returns one of the caller's conversations.
    ///
    /// # Errors
    /// [`Reason::ConversationNotFound`](crate::error::Reason::ConversationNotFound), also for another caller's conversation;
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed).
    pub async fn get(&self, caller: &Principal, conversation_id: &str) -> Result<Conversation> {
        let directory = self.inner.layout.conversation(caller, conversation_id);
        let found = self.files(move |layout| Ok(layout.read(&directory))).await?;
        found.map(|(_, conversation)| conversation).ok_or_else(|| not_found(conversation_id))
    }

    /// Removes conversations that retention no longer keeps, until `stop` is cancelled. One that is in use stays until
    /// it is not.
    pub async fn expire(&self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(RETENTION_INTERVAL);
        loop {
            tokio::select! {
                // Cancel safe: all branches only wait.
                _ = interval.tick() => {}
                () = self.inner.known.due.notified() => {}
                () = stop.cancelled() => return,
            }
            let expired = match self.conversation_index().await {
                Ok(index) => index.expired(&self.retention()),
                Err(error) => {
                    tracing::warn!(cause = error.cause(), "retention could not look at the conversations");
                    continue;
                }
            };
            for (of_caller, name) in expired {
                if stop.is_cancelled() {
                    return;
                }
                let directory = self.inner.layout.conversations().join(of_caller).join(name);
                match self.remove(directory, |_, _| true).await {
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(cause = error.cause(), "retention could not remove a conversation");
                    }
                }
            }
        }
    }
}
