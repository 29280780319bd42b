//! Noting that a conversation is used, for its listing and retention.

use std::sync::Arc;

use tokio::sync::Notify;

use super::index::ConversationIndex;

/// The index of all conversations, read from the disk when it is first needed.
#[derive(Debug, Default)]
pub(super) struct LazyConversationIndex {
    pub(super) index: Arc<ConversationIndex>,
    pub(super) is_read: tokio::sync::OnceCell<()>,
    /// Notified when there may be more conversations than retention keeps.
    pub(super) due: Arc<Notify>,
}

impl LazyConversationIndex {
    /// Returns a handle that records uses of conversations.
    pub(super) fn uses(&self) -> ConversationUseRecorder {
        ConversationUseRecorder { index: self.index.clone(), due: self.due.clone() }
    }
}

/// Records uses of conversations.
#[derive(Clone, Debug)]
pub(super) struct ConversationUseRecorder {
    index: Arc<ConversationIndex>,
    due: Arc<Notify>,
}

impl ConversationUseRecorder {
    /// Records that a conversation is used now.
    pub(super) fn used(&self, of_caller: &str, name: &str) {
        self.index.used(of_caller, name);
    }

    /// Wakes retention, because there is a new conversation.
    pub(super) fn is_new(&self) {
        self.due.notify_one();
    }
}
