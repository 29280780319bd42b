//! Shared quotas: a bound for each caller, and one for all callers together.

use std::collections::BTreeMap;

use crate::principal::Principal;

/// The bounds of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For all callers together.
    pub most: usize,
    /// For each caller; `None` sets no separate bound.
    pub most_per_caller: Option<usize>,
}

impl Bounds {
    /// Returns how much all callers that already hold some may hold together. The rest, a quarter rounded down, is reserved
    /// for callers that hold none.
    pub fn for_holders(&self) -> usize {
        self.most - self.most / 4
    }
}

/// Counts how much of a resource each caller holds. It enforces nothing itself: users check [`Quota::room`] first.
#[derive(Debug)]
pub struct Quota {
    bounds: Bounds,
    /// Callers that hold nothing have no entry.
    held: BTreeMap<Principal, usize>,
    total: usize,
}

impl Quota {
    /// Returns a quota of which nothing is held.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, held: BTreeMap::new(), total: 0 }
    }

    /// Replaces the bounds. What is held already stays held, also beyond them.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Returns how much all callers hold together.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Returns how much a caller holds.
    pub fn held_by(&self, caller: &Principal) -> usize {
        self.held.get(caller).copied().unwrap_or(0)
    }

    /// Returns whether nothing is left for any caller.
    pub fn is_full(&self) -> bool {
        self.total >= self.bounds.most
    }

    /// Returns how much more a caller may take without anything being taken back from others. A caller that holds none may
    /// take one unit of the reserved last quarter.
    pub fn room(&self, caller: &Principal) -> usize {
        let own = self.held_by(caller);
        let shared = self.bounds.for_holders().saturating_sub(self.total);
        let first = usize::from(own == 0 && !self.is_full());
        let most = self.bounds.most_per_caller.map_or(usize::MAX, |most| most.saturating_sub(own));
        shared.max(first).min(most)
    }

    /// Returns the caller who holds most, if that is at least two more than `caller` holds; of equals, any one. Changes nothing
    /// and looks at no bounds: whether a unit must be taken back, and doing so, is up to the user of the quota.
    pub fn preemption_victim(&self, caller: &Principal) -> Option<&Principal> {
        let (holder, most) = self.held.iter().max_by_key(|(_, held)| **held)?;
        (*most > self.held_by(caller) + 1).then_some(holder)
    }

    /// Returns whether a caller has reached its own bound.
    pub fn is_exhausted_by(&self, caller: &Principal) -> bool {
        self.bounds.most_per_caller.is_some_and(|most| self.held_by(caller) >= most)
    }

    /// Records that a caller holds one more, even beyond the bounds.
    pub fn take(&mut self, caller: &Principal) {
        self.total += 1;
        *self.held.entry(caller.clone()).or_default() += 1;
    }

    /// Records that a caller holds one less; does nothing if it holds none.
    pub fn give_back(&mut self, caller: &Principal) {
        let Some(held) = self.held.get_mut(caller) else { return };
        self.total -= 1;
        *held -= 1;
        if *held == 0 {
            self.held.remove(caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A single caller gets three quarters, other callers share the rest one unit each, and whoever holds most gives way.
    #[test]
    fn callers_share() {
        let [a, b, c] = ["a", "b", "c"].map(Principal::from_proxy);
        let mut quota = Quota::new(Bounds { most: 8, most_per_caller: None });
        while quota.room(&a) > 0 {
            quota.take(&a);
        }
        assert_eq!((quota.held_by(&a), quota.room(&b)), (6, 1));
        quota.take(&b);
        assert_eq!((quota.room(&b), quota.room(&c)), (0, 1));
        quota.take(&c);
        assert!(quota.is_full() && quota.room(&Principal::from_proxy("d")) == 0);
        assert_eq!(quota.preemption_victim(&b), Some(&a));
        assert_eq!(quota.preemption_victim(&a), None);
        for _ in 0..6 {
            quota.give_back(&a);
        }
        quota.give_back(&a);
        assert_eq!((quota.total(), quota.room(&b)), (2, 4));
        let own = Quota::new(Bounds { most: 8, most_per_caller: Some(2) });
        assert_eq!(own.room(&a), 2);
    }
}
