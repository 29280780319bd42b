//! The connections of both ports together: how many there may be, and which one is closed when there are too many.
//!
//! Every connection is accepted. Beyond the bound the one that has been idle longest is asked to close, with GOAWAY on
//! HTTP/2. If none is idle, the new one is served only its first request: a probe is answered, a caller that has few streams
//! takes over the slot of one of the caller that has most, everyone else is told to retry. No connection waits in the
//! kernel's backlog without a response. (`capacity::a_full_gateway_answers`)

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sync::lock;

/// A connection that has been idle for less than this may be about to send a request and is not closed.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// The connections of both ports.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    most: usize,
    most_beyond: usize,
    state: Mutex<ConnectionCounts>,
}

#[derive(Debug, Default)]
struct ConnectionCounts {
    /// The number of connections within the bound.
    open: usize,
    /// The number of connections that were asked to close and are still there. Idle ones are only replaced while there are
    /// fewer than `most_beyond`.
    leaving: usize,
    /// The connections within the bound that have nothing in progress, by the time since when.
    idle: BTreeMap<(Instant, u64), CancellationToken>,
    /// The connections beyond the bound, oldest first.
    beyond: BTreeMap<u64, CancellationToken>,
    next_id: u64,
}

/// An open connection; it counts until this is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    all: Arc<ConnectionTable>,
    id: u64,
    is_beyond: AtomicBool,
    use_of: Mutex<ConnectionUse>,
    /// Cancelled when the connection should carry no further request.
    pub(super) let_go: CancellationToken,
    /// Cancelled when the connection has to end at once.
    pub(super) ends: CancellationToken,
}

#[derive(Debug)]
struct ConnectionUse {
    in_progress: usize,
    idle_since: Instant,
}

/// Marks a connection as busy until this is dropped.
#[derive(Debug)]
pub(super) struct BusyGuard(Arc<OpenConnection>);

impl ConnectionTable {
    pub(super) fn new(most: usize, most_beyond: usize) -> Arc<Self> {
        Arc::new(Self { most, most_beyond: most_beyond.max(1), state: Mutex::default() })
    }

    /// Registers an accepted connection. Beyond the bound the longest idle one is asked to close for it, or else it is marked
    /// as beyond.
    pub(super) fn opened(self: &Arc<Self>) -> Arc<OpenConnection> {
        let (let_go, ends) = (CancellationToken::new(), CancellationToken::new());
        let now = Instant::now();
        let mut state = lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        let is_within =
            state.open < self.most || (state.leaving < self.most_beyond && state.let_longest_idle_go(now));
        match is_within {
            true => {
                state.open += 1;
                state.idle.insert((now, id), let_go.clone());
            }
            false => {
                if state.beyond.len() >= self.most_beyond
                    && let Some((_, oldest)) = state.beyond.pop_first()
                {
                    oldest.cancel();
                }
                state.beyond.insert(id, ends.clone());
            }
        }
        Arc::new(OpenConnection {
            all: self.clone(),
            id,
            is_beyond: AtomicBool::new(!is_within),
            use_of: Mutex::new(ConnectionUse { in_progress: 0, idle_since: now }),
            let_go,
            ends,
        })
    }
}

impl ConnectionCounts {
    fn let_longest_idle_go(&mut self, now: Instant) -> bool {
        let is_idle = |first: &std::collections::btree_map::OccupiedEntry<'_, (Instant, u64), _>| {
            now.duration_since(first.key().0) >= IDLE_TIME
        };
        let Some(first) = self.idle.first_entry().filter(is_idle) else { return false };
        let let_go = first.remove();
        self.let_go(&let_go);
        true
    }

    fn let_go(&mut self, connection: &CancellationToken) {
        self.open -= 1;
        self.leaving += 1;
        connection.cancel();
    }
}

impl OpenConnection {
    /// Returns whether the connection is beyond the bound.
    pub(super) fn is_beyond(&self) -> bool {
        self.is_beyond.load(Ordering::Relaxed)
    }

    /// Moves the connection within the bound, because another one will close for it. One that was refused before is closed
    /// all the same.
    pub(super) fn readmit(&self) {
        let mut state = lock(&self.all.state);
        if self.is_beyond() && !self.let_go.is_cancelled() {
            self.is_beyond.store(false, Ordering::Relaxed);
            state.beyond.remove(&self.id);
            state.open += 1;
        }
    }

    /// Asks a connection beyond the bound to close after the response to its first request.
    pub(super) fn close_after_answer(&self) {
        let _state = lock(&self.all.state);
        if self.is_beyond() {
            self.let_go.cancel();
        }
    }

    /// Marks the connection as busy until the returned guard is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> BusyGuard {
        let mut used = lock(&self.use_of);
        used.in_progress += 1;
        if used.in_progress == 1 {
            lock(&self.all.state).idle.remove(&(used.idle_since, self.id));
        }
        BusyGuard(self.clone())
    }

    /// Returns whether nothing is in progress on the connection.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.use_of).in_progress == 0
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let open = &self.0;
        let mut used = lock(&open.use_of);
        used.in_progress -= 1;
        if used.in_progress > 0 || open.is_beyond() {
            return;
        }
        used.idle_since = Instant::now();
        let mut state = lock(&open.all.state);
        if state.open > open.all.most {
            // A connection that took over a slot put the total above the bound, so the first one to become idle closes.
            state.let_go(&open.let_go);
        } else if !open.let_go.is_cancelled() {
            state.idle.insert((used.idle_since, open.id), open.let_go.clone());
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let idle_since = lock(&self.use_of).idle_since;
        let mut state = lock(&self.all.state);
        state.idle.remove(&(idle_since, self.id));
        if self.is_beyond() {
            state.beyond.remove(&self.id);
        } else if self.let_go.is_cancelled() {
            state.leaving -= 1;
        } else {
            state.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that was refused is not kept for its own later requests, and is counted correctly.
    #[tokio::test]
    async fn who_was_refused_goes() {
        let all = ConnectionTable::new(1, 1);
        let (first, second) = (all.opened(), all.opened());
        let busy = (second.busy(), second.busy());
        second.close_after_answer();
        second.readmit();
        assert!(second.is_beyond() && second.let_go.is_cancelled());
        drop((busy, second, first));
        let state = lock(&all.state);
        assert!(state.open + state.leaving == 0 && state.beyond.is_empty(), "{state:?}");
    }

    /// The longest idle connection is closed, busy ones stay, and beyond the bound the oldest newcomer makes room.
    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_goes() {
        let all = ConnectionTable::new(2, 1);
        let (first, second) = (all.opened(), all.opened());
        let early = all.opened();
        assert!(early.is_beyond(), "the others may be about to say something");
        drop(early);
        tokio::time::advance(IDLE_TIME).await;
        let busy = first.busy();
        let third = all.opened();
        assert!(second.let_go.is_cancelled() && !third.is_beyond() && !first.let_go.is_cancelled());
        drop((second, busy));
        let busy = (first.busy(), third.busy());
        tokio::time::advance(IDLE_TIME).await;
        let (fourth, fifth) = (all.opened(), all.opened());
        assert!(fourth.is_beyond() && fifth.is_beyond());
        assert!(fourth.ends.is_cancelled() && !fifth.ends.is_cancelled());
        fifth.readmit();
        drop(busy.0);
        assert!(first.let_go.is_cancelled() && !third.let_go.is_cancelled());
        drop((first, third, fourth, fifth, busy.1));
        let state = lock(&all.state);
        assert!(
            state.open + state.leaving == 0 && state.idle.is_empty() && state.beyond.is_empty(),
            "{state:?}"
        );
    }
}
