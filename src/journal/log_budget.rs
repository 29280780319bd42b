//! The byte budget of the logs of running jobs, per caller and in total.
//!
//! A log takes from the budget in larger pieces, so that an event does not cost a look at what others hold, and gives everything
//! back when the job has ended: from then on its bytes count towards retention.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
    quota::Bounds,
    sync::lock,
};

/// A log takes at least this many bytes at a time.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
struct LogBudgetState {
    held: BTreeMap<Principal, usize>,
    total: usize,
}

/// See the documentation of the module.
#[derive(Debug)]
pub(super) struct LogBudget {
    bounds: Bounds,
    state: Mutex<LogBudgetState>,
}

impl LogBudget {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, LogBudgetState> {
        lock(&self.state)
    }

    /// Takes at least `bytes` for a job of `owner` from the budget and returns how many were taken. The last quarter of the
    /// budget is reserved for owners who then hold at most a sixteenth of it.
    ///
    /// # Errors
    /// [`Reason::LogLimit`] if the budget does not suffice.
    pub(super) fn take(&self, owner: &Principal, bytes: usize) -> Result<usize> {
        let taken = bytes.max(PIECE_BYTES);
        let mut state = self.state();
        let own = state.held.get(owner).copied().unwrap_or(0) + taken;
        let has_little = own <= self.bounds.most / 16;
        let most = if has_little { self.bounds.most } else { self.bounds.for_holders() };
        let is_own_full = self.bounds.most_per_caller.is_some_and(|most| own > most);
        if is_own_full || state.total + taken > most {
            let (own, all) = (own - taken, state.total);
            return Err(Error::new(
                Reason::LogLimit,
                format!(
                    "the events of running jobs take {all} bytes of the store, {own} of them your jobs', which is all that they may"
                ),
            ));
        }
        state.total += taken;
        state.held.insert(owner.clone(), own);
        Ok(taken)
    }

    pub(super) fn give_back(&self, owner: &Principal, bytes: usize) {
        let mut state = self.state();
        state.total -= bytes;
        if let Some(held) = state.held.get_mut(owner) {
            *held -= bytes;
            if *held == 0 {
                state.held.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_callers_long_logs_leave_room_for_anothers_short_ones() {
        let room = LogBudget::new(Bounds { most: 64 * PIECE_BYTES, most_per_caller: None });
        let [a, b] = ["a", "b"].map(Principal::from_proxy);
        let pieces = std::iter::from_fn(|| room.take(&a, 1).ok()).count();
        assert_eq!(pieces, 48, "three quarters");
        let pieces = std::iter::from_fn(|| room.take(&b, 1).ok()).count();
        assert_eq!(pieces, 4, "a sixteenth");
        room.give_back(&a, 48 * PIECE_BYTES);
        assert_eq!(room.take(&b, 2 * PIECE_BYTES).unwrap(), 2 * PIECE_BYTES);
        room.give_back(&b, 6 * PIECE_BYTES);
        assert!(room.state().held.is_empty() && room.state().total == 0);
    }
}
