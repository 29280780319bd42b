//! The requests in progress: bounded per caller and in all; streams that their readers can resume make room for others.
//!
//! Each is an HTTP/2 stream or the one exchange of an HTTP/1.1 connection, from its head to the last byte of its response. A
//! reader's stream can be ended early, because the reader resumes after its cursor; so beyond the bound, a stream of the
//! caller that has most is ended for a caller that has fewer. Probes are not counted.
//! (`capacity::a_caller_who_has_few_is_let_in`)

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
    quota::{Bounds, Quota},
    sync::lock,
};

/// Readers' streams end often, so within this delay one is likely to end.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The requests in progress on both ports.
#[derive(Debug)]
pub(super) struct RequestLimiter(Arc<Mutex<RequestTable>>);

#[derive(Debug)]
struct RequestTable {
    quota: Quota,
    /// The streams that may be ended early, by caller, oldest first.
    readers: BTreeMap<Principal, BTreeMap<u64, CancellationToken>>,
    next_id: u64,
}

/// A request that counts as in progress until this is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard {
    state: Arc<Mutex<RequestTable>>,
    caller: Principal,
    id: u64,
}

impl RequestLimiter {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = RequestTable { quota: Quota::new(bounds), readers: BTreeMap::new(), next_id: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Counts a request of a caller. `needs_room`: its connection is beyond the bound, so another stream has to end for it.
    ///
    /// # Errors
    /// [`Reason::TooManyStreams`], with a retry delay.
    pub(super) fn begin(&self, caller: &Principal, needs_room: bool) -> Result<Arc<RequestGuard>> {
        let mut state = lock(&self.0);
        if state.quota.is_exhausted_by(caller) {
            let own = state.quota.held_by(caller);
            let message = format!("{own} of your requests are in progress, which is all a caller may have");
            return Err(Error::new(Reason::TooManyStreams, message).retry_after(RETRY_AFTER));
        }
        if (needs_room || state.quota.room(caller) == 0) && !state.make_room_for(caller) {
            let (own, all) = (state.quota.held_by(caller), state.quota.total());
            let message = format!(
                "{all} requests are in progress, {own} of them yours, and what is left is for callers who have none; try again later"
            );
            return Err(Error::new(Reason::TooManyStreams, message).retry_after(RETRY_AFTER));
        }
        state.quota.take(caller);
        let id = state.next_id;
        state.next_id += 1;
        Ok(Arc::new(RequestGuard { state: self.0.clone(), caller: caller.clone(), id }))
    }
}

impl RequestTable {
    /// Ends the oldest resumable stream of the caller that has most, if that is another caller with more. Returns whether one
    /// was ended.
    fn make_room_for(&mut self, caller: &Principal) -> bool {
        let Some(holder) = self.quota.preemption_victim(caller).cloned() else { return false };
        let Some((_, ends)) = self.readers.get_mut(&holder).and_then(BTreeMap::pop_first) else {
            return false;
        };
        ends.cancel();
        true
    }
}

impl RequestGuard {
    /// Marks the request as a resumable stream that may be ended early. The stream has to end when the returned token is
    /// cancelled.
    pub(super) fn preemptible(&self) -> CancellationToken {
        let ends = CancellationToken::new();
        lock(&self.state).readers.entry(self.caller.clone()).or_default().insert(self.id, ends.clone());
        ends
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.quota.give_back(&self.caller);
        if let Some(readers) = state.readers.get_mut(&self.caller) {
            readers.remove(&self.id);
            if readers.is_empty() {
                state.readers.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests;
