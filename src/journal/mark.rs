//! How far a log is stored, and who waits for more.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Why nothing more of a log will be stored by this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Its file could not be written for minutes, while the store took others.
    Failed,
    /// Another gateway has taken the job over; what it writes is read from the store.
    TakenOver,
}

/// How far a log is stored, which is how far it may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) last_sequence: u32,
    pub(super) is_ended: bool,
    pub(super) broken: Option<Broken>,
}

impl Published {
    /// Whether nothing more comes from here.
    pub(super) fn is_over(self) -> bool {
        self.is_ended || self.broken.is_some()
    }
}

/// The mark of one log. Waiters are woken in the order in which they came, so that a simulation wakes them so again;
/// tokio's `watch` draws lots.
#[derive(Debug)]
pub(super) struct Mark {
    now: Mutex<Published>,
    moved: Notify,
}

impl Mark {
    pub(super) fn at(last_sequence: u32) -> Self {
        let now = Published { last_sequence, is_ended: false, broken: None };
        Self { now: Mutex::new(now), moved: Notify::new() }
    }

    pub(super) fn now(&self) -> Published {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, published: Published) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = published;
        self.moved.notify_waiters();
    }

    /// Waits until the mark is so, and answers with it.
    pub(super) async fn wait_for(&self, is_so: impl Fn(Published) -> bool) -> Published {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // Registered before the look, so that no move falls between the two.
            moved.as_mut().enable();
            let now = self.now();
            if is_so(now) {
                return now;
            }
            moved.await;
        }
    }
}
