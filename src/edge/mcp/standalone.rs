//! The streams of a session that belong to no request: of several, the newest is given the messages.
//!
//! A client whose connection has died without a sign opens another one; what is newest is therefore what it reads. When it
//! ends, the one before it goes on from there.

use std::sync::{Arc, Mutex};

use futures_util::{Stream, stream};
use rmcp::{model::ServerJsonRpcMessage, transport::common::server_side_http::ServerSseMessage};
use tokio::sync::watch;

use super::replay_log::{Overflow, ReplayLog};
use crate::sync::lock;

/// The most bytes kept of the messages; beyond it the oldest are dropped.
const MAX_BYTES: usize = 16 * 1024;

/// What belongs to no request, such as changes of resources, and who reads it.
pub(super) struct StandaloneStreams {
    log: ReplayLog,
    readers: Mutex<Readers>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Readers {
    /// The index of the newest message that a reader was given.
    position: u64,
    /// The open readers, the newest last.
    open: Vec<u64>,
    next: u64,
}

/// An open stream.
struct Reader {
    streams: Arc<StandaloneStreams>,
    number: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.streams.readers).open.retain(|number| *number != self.number);
        self.streams.changed.send_replace(());
    }
}

impl Reader {
    /// Returns where to read on, if this is the newest reader.
    fn position(&self) -> Option<u64> {
        let readers = lock(&self.streams.readers);
        (readers.open.last() == Some(&self.number)).then_some(readers.position)
    }

    /// Takes the message after `position`; returns whether this is still the newest reader, and there.
    fn take(&self, position: u64, index: u64) -> bool {
        let mut readers = lock(&self.streams.readers);
        let is_its = readers.open.last() == Some(&self.number) && readers.position == position;
        if is_its {
            readers.position = index;
        }
        is_its
    }

    async fn next(&self, changes: &mut watch::Receiver<()>) -> Option<ServerSseMessage> {
        loop {
            changes.mark_unchanged();
            let position = self.position();
            let next = async {
                match position {
                    Some(position) => self.streams.log.next(position).await,
                    None => {
                        self.streams.log.is_over().await;
                        None
                    }
                }
            };
            tokio::select! {
                // Cancel safe: what was not taken is read again.
                biased;
                // The sender lives as long as the streams do.
                _ = changes.changed() => {}
                next = next => {
                    let (index, message) = next?;
                    if position.is_some_and(|position| self.take(position, index)) {
                        return Some(message);
                    }
                }
            }
        }
    }
}

impl StandaloneStreams {
    pub(super) fn new() -> Self {
        let log = ReplayLog::new(String::new(), MAX_BYTES, Overflow::DropOldest);
        Self { log, readers: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Appends a message of `bytes` bytes.
    pub(super) fn push(&self, message: ServerJsonRpcMessage, bytes: usize) {
        self.log.push(message, bytes, false);
    }

    /// Ends all streams.
    pub(super) fn end(&self) {
        self.log.end();
    }

    /// Opens a stream and at once makes it the one that is given the messages; the others wait until it is dropped. It begins
    /// after the message `after`, or after the last one that any stream was given; messages dropped for room are skipped. Returns
    /// the index after which it begins, and the stream.
    pub(super) fn read(
        self: &Arc<Self>,
        after: Option<u64>,
    ) -> (u64, impl Stream<Item = ServerSseMessage> + Send + Sync + 'static + use<>) {
        let newest = self.log.newest();
        let (position, number) = {
            let mut readers = lock(&self.readers);
            readers.position = after.map_or(readers.position, |after| after.min(newest));
            readers.next += 1;
            let number = readers.next;
            readers.open.push(number);
            (readers.position, number)
        };
        self.changed.send_replace(());
        let reader = Reader { streams: self.clone(), number };
        let changes = self.changed.subscribe();
        let messages = stream::unfold((reader, changes), |(reader, mut changes)| async move {
            let message = reader.next(&mut changes).await?;
            Some((message, (reader, changes)))
        });
        (position, messages)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.log.bytes()
    }
}
