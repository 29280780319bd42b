//! The messages of one stream, kept so that its reader may be cut off and come back.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use futures_util::{Stream, stream};
use rmcp::{model::ServerJsonRpcMessage, transport::common::server_side_http::ServerSseMessage};
use tokio::sync::watch;

use crate::sync::lock;

/// What a log drops once its messages take more than its bound.
#[derive(Clone, Copy)]
pub(super) enum Overflow {
    /// The oldest notifications. Answers and questions stay, even beyond the bound.
    DropNotifications,
    /// The oldest messages. The newest stays, even if it alone exceeds the bound.
    DropOldest,
}

/// The messages of one stream, in order. Pushing never waits for a reader.
pub(super) struct ReplayLog {
    /// What follows the index in the ids of events: nothing, or the number of the stream.
    suffix: String,
    max_bytes: usize,
    overflow: Overflow,
    messages: Mutex<KeptMessages>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct KeptMessages {
    kept: VecDeque<KeptMessage>,
    bytes: usize,
    /// The index of the newest message; the first message has 1.
    newest: u64,
    is_over: bool,
}

struct KeptMessage {
    index: u64,
    message: Arc<ServerJsonRpcMessage>,
    bytes: usize,
}

/// Returns about how many bytes a message takes when written, which takes as long as writing it.
pub(super) fn size(message: &ServerJsonRpcMessage) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(64);
    // Counting bytes cannot fail.
    let _infallible = serde_json::to_writer(&mut count, message);
    count.0
}

impl ReplayLog {
    pub(super) fn new(suffix: String, max_bytes: usize, overflow: Overflow) -> Self {
        Self { suffix, max_bytes, overflow, messages: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Appends a message whose [`size`] is `bytes`, dropping kept messages as [`Overflow`] says, so that a reader may miss some.
    /// `is_last` ends the log after this message.
    pub(super) fn push(&self, message: ServerJsonRpcMessage, bytes: usize, is_last: bool) {
        let mut messages = lock(&self.messages);
        messages.newest += 1;
        messages.bytes += bytes;
        let index = messages.newest;
        messages.kept.push_back(KeptMessage { index, message: Arc::new(message), bytes });
        while messages.bytes > self.max_bytes {
            let may_go = |kept: &KeptMessage| match self.overflow {
                Overflow::DropNotifications => matches!(*kept.message, ServerJsonRpcMessage::Notification(_)),
                Overflow::DropOldest => kept.index != index,
            };
            let Some(at) = messages.kept.iter().position(may_go) else { break };
            messages.bytes -= messages.kept.remove(at).map_or(0, |kept| kept.bytes);
        }
        messages.is_over |= is_last;
        drop(messages);
        self.changed.send_replace(());
    }

    /// Ends the log; readers see what it has.
    pub(super) fn end(&self) {
        lock(&self.messages).is_over = true;
        self.changed.send_replace(());
    }

    /// Returns the index of the newest message; 0 if there was none.
    pub(super) fn newest(&self) -> u64 {
        lock(&self.messages).newest
    }

    /// Returns the bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        lock(&self.messages).bytes
    }

    /// Returns when the log is over.
    pub(super) async fn is_over(&self) {
        let mut changes = self.changed.subscribe();
        while !lock(&self.messages).is_over {
            // The sender lives as long as the log.
            let _never_fails = changes.changed().await;
        }
    }

    /// Returns the first message after an index, with its own index, once there is one; `None` when the log is over before.
    pub(super) async fn next(&self, after: u64) -> Option<(u64, ServerSseMessage)> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            {
                let messages = lock(&self.messages);
                let at = messages.kept.partition_point(|kept| kept.index <= after);
                if let Some(KeptMessage { index, message, .. }) = messages.kept.get(at) {
                    let mut said = ServerSseMessage::default();
                    said.event_id = Some(format!("{index}{}", self.suffix));
                    said.message = Some(message.clone());
                    return Some((*index, said));
                }
                if messages.is_over {
                    return None;
                }
            }
            // The sender lives as long as the log.
            changes.changed().await.ok()?;
        }
    }

    /// Returns the messages after an index, followed live to the end of the log.
    pub(super) fn read(self: Arc<Self>, after: u64) -> impl Stream<Item = ServerSseMessage> + Send + Sync {
        stream::unfold((self, after), |(log, after)| async move {
            let (index, message) = log.next(after).await?;
            Some((message, (log, index)))
        })
    }
}
