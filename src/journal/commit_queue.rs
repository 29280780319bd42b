//! The logs that have events to store, on their way to the one writer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
};

use tokio::sync::{Notify, futures::Notified};

use crate::sync::lock;

/// Counters that show that work is shared between readers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events encoded.
    pub events_encoded: AtomicU64,
    /// Batches written.
    pub batches_stored: AtomicU64,
    /// Commits attempted, including those that failed. Each one writes the waiting batches of one or more jobs in a single
    /// call of the event log.
    pub commits: AtomicU64,
}

/// The queue of logs with events to store.
#[derive(Debug)]
pub(super) struct CommitQueue<L> {
    /// In the order in which they were queued; each log at most once.
    queue: Mutex<VecDeque<Arc<L>>>,
    work: Notify,
    /// Notified when a full batch, an end or a flush waits: the commit then starts without gathering more.
    urgent: Notify,
    pub(super) counters: Arc<Counters>,
}

impl<L> Default for CommitQueue<L> {
    fn default() -> Self {
        Self { queue: Mutex::default(), work: Notify::new(), urgent: Notify::new(), counters: Arc::default() }
    }
}

impl<L> CommitQueue<L> {
    /// Locks the queue, for a moment.
    pub(super) fn queued(&self) -> MutexGuard<'_, VecDeque<Arc<L>>> {
        lock(&self.queue)
    }

    /// Queues a log that has events to store. Must not be called again for it before those events are published.
    pub(super) fn queue(&self, log: Arc<L>) {
        let mut queue = self.queued();
        queue.push_back(log);
        if queue.len() == 1 {
            drop(queue);
            self.work.notify_one();
        }
    }

    /// Makes the next commit start without gathering more events.
    pub(super) fn commit_now(&self) {
        self.urgent.notify_one();
    }

    /// Waits until something was queued since the last wait.
    pub(super) fn has_work(&self) -> Notified<'_> {
        self.work.notified()
    }

    /// Waits until the next commit must not gather more.
    pub(super) fn is_urgent(&self) -> Notified<'_> {
        self.urgent.notified()
    }
}
