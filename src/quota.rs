//! Bounds that callers share: each caller's own first, then that over all.

use std::collections::BTreeMap;

use crate::principal::Principal;

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For all callers together.
    pub most: usize,
    /// For each of them; `None`: no bound of its own.
    pub most_per_caller: Option<usize>,
}

impl Bounds {
    /// What callers who hold some may have together. The rest, a quarter rounded down, is for those who hold none.
    pub fn for_holders(&self) -> usize {
        self.most - self.most / 4
    }
}

/// What callers hold of something. It counts; whoever uses it keeps to [`Quota::room`].
#[derive(Debug)]
pub struct Quota {
    bounds: Bounds,
    /// None is 0.
    held: BTreeMap<Principal, usize>,
    total: usize,
}

impl Quota {
    /// Nothing is held yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, held: BTreeMap::new(), total: 0 }
    }

    /// How much is held by all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How much a caller holds.
    pub fn held_by(&self, caller: &Principal) -> usize {
        self.held.get(caller).copied().unwrap_or(0)
    }

    /// Whether nothing is left for anybody.
    pub fn is_full(&self) -> bool {
        self.total >= self.bounds.most
    }

    /// How much more a caller may take of what is not taken back from others: of the last quarter one, if it holds none.
    pub fn room(&self, caller: &Principal) -> usize {
        let own = self.held_by(caller);
        let shared = self.bounds.for_holders().saturating_sub(self.total);
        let first = usize::from(own == 0 && !self.is_full());
        let most = self.bounds.most_per_caller.map_or(usize::MAX, |most| most.saturating_sub(own));
        shared.max(first).min(most)
    }

    /// From whom one is taken back for a caller when there is none left: whoever holds most, and more than the caller would.
    pub fn gives_way_to(&self, caller: &Principal) -> Option<&Principal> {
        let (holder, most) = self.held.iter().max_by_key(|(_, held)| **held)?;
        (*most > self.held_by(caller) + 1).then_some(holder)
    }

    /// Whether a caller has all that one caller may have.
    pub fn is_spent_by(&self, caller: &Principal) -> bool {
        self.bounds.most_per_caller.is_some_and(|most| self.held_by(caller) >= most)
    }

    /// A caller holds one more, also beyond the bounds.
    pub fn take(&mut self, caller: &Principal) {
        self.total += 1;
        *self.held.entry(caller.clone()).or_default() += 1;
    }

    /// A caller holds one less.
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

    /// One caller alone has three quarters; others find the rest, one each; whoever has most gives way.
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
        assert_eq!(quota.gives_way_to(&b), Some(&a));
        assert_eq!(quota.gives_way_to(&a), None);
        for _ in 0..6 {
            quota.give_back(&a);
        }
        quota.give_back(&a);
        assert_eq!((quota.total(), quota.room(&b)), (2, 4));
        let own = Quota::new(Bounds { most: 8, most_per_caller: Some(2) });
        assert_eq!(own.room(&a), 2);
    }
}
