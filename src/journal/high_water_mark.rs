//! The high-water mark of a log: how far it is stored, and the tasks that wait for more.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::sync::lock;

/// Why this process will store no further events of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFailure {
    /// The log could not be written for minutes although the store accepted other writes.
    Failed,
    /// The store refuses its events, because another gateway has taken the job over or the job is gone; readers turn to the
    /// store.
    TakenOver,
}

/// How far a log is stored. Readers see events up to `last_sequence` and no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublishedPosition {
    pub(super) last_sequence: u32,
    pub(super) is_ended: bool,
    pub(super) broken: Option<LogFailure>,
}

impl PublishedPosition {
    /// Returns whether this process will publish no further events of the log.
    pub(super) fn is_over(self) -> bool {
        self.is_ended || self.broken.is_some()
    }
}

/// The high-water mark of one log. Waiters are woken in the order in which they began to wait, so that a simulation run is
/// repeatable; tokio's `watch` wakes them in random order.
#[derive(Debug)]
pub(super) struct HighWaterMark {
    now: Mutex<PublishedPosition>,
    moved: Notify,
}

impl HighWaterMark {
    pub(super) fn at(last_sequence: u32) -> Self {
        let now = PublishedPosition { last_sequence, is_ended: false, broken: None };
        Self { now: Mutex::new(now), moved: Notify::new() }
    }

    pub(super) fn now(&self) -> PublishedPosition {
        *lock(&self.now)
    }

    pub(super) fn set(&self, published: PublishedPosition) {
        *lock(&self.now) = published;
        self.moved.notify_waiters();
    }

    /// Waits until the high-water mark satisfies `is_so` and returns it.
    pub(super) async fn wait_for(&self, is_so: impl Fn(PublishedPosition) -> bool) -> PublishedPosition {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // The waiter is registered before the check, so that a change between the check and the wait is not missed.
            moved.as_mut().enable();
            let now = self.now();
            if is_so(now) {
                return now;
            }
            moved.await;
        }
    }
}
