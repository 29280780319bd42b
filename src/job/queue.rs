//! The queue of waiting jobs: first in, first out for each caller, with callers served in turn.

use std::collections::VecDeque;

use crate::principal::Principal;

/// One queue for each waiting caller. Callers are served in turn, so that each job waits behind at most one job of every
/// other caller per job of its own caller.
#[derive(Debug)]
pub(super) struct FairQueue<K, T> {
    /// In the order of their turns; none of the queues is empty.
    callers: VecDeque<(Principal, VecDeque<(K, T)>)>,
    len: usize,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self { callers: VecDeque::new(), len: 0 }
    }
}

impl<K: PartialEq, T> FairQueue<K, T> {
    /// Returns how many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many jobs of this caller wait.
    pub(super) fn len_of(&self, caller: &Principal) -> usize {
        self.callers.iter().find(|(other, _)| other == caller).map_or(0, |(_, jobs)| jobs.len())
    }

    #[cfg(test)]
    fn callers(&self) -> usize {
        self.callers.len()
    }

    /// Appends a job to its caller's queue. A caller that had none waiting gets its first turn after all others.
    pub(super) fn push(&mut self, caller: &Principal, key: K, waiting: T) {
        self.len += 1;
        match self.callers.iter_mut().find(|(other, _)| other == caller) {
            Some((_, jobs)) => jobs.push_back((key, waiting)),
            None => self.callers.push_back((caller.clone(), VecDeque::from([(key, waiting)]))),
        }
    }

    /// Removes and returns the first eligible job of the first caller, in order of turns, that has one. That caller moves
    /// behind all others; callers that were skipped keep their turns.
    pub(super) fn pop_where(
        &mut self,
        mut may_go: impl FnMut(&Principal, &T) -> bool,
    ) -> Option<(Principal, T)> {
        let (turn, at) = self.callers.iter().enumerate().find_map(|(turn, (caller, jobs))| {
            jobs.iter().position(|(_, waiting)| may_go(caller, waiting)).map(|at| (turn, at))
        })?;
        let (caller, mut jobs) = self.callers.remove(turn)?;
        let (_, waiting) = jobs.remove(at)?;
        self.len -= 1;
        if !jobs.is_empty() {
            self.callers.push_back((caller.clone(), jobs));
        }
        Some((caller, waiting))
    }

    pub(super) fn remove(&mut self, key: &K) {
        for (_, jobs) in &mut self.callers {
            let before = jobs.len();
            jobs.retain(|(other, _)| other != key);
            self.len -= before - jobs.len();
        }
        self.callers.retain(|(_, jobs)| !jobs.is_empty());
    }

    /// Returns the job's position from 1, assuming that no job is added, removed or skipped in the meantime.
    pub(super) fn position(&self, key: &K) -> Option<usize> {
        let (own_turn, round) = self.callers.iter().enumerate().find_map(|(turn, (_, jobs))| {
            jobs.iter().position(|(other, _)| other == key).map(|round| (turn, round))
        })?;
        let others = self.callers.iter().enumerate().filter(|(turn, _)| *turn != own_turn);
        let before: usize =
            others.map(|(turn, (_, jobs))| jobs.len().min(round + usize::from(turn < own_turn))).sum();
        Some(before + round + 1)
    }
}

#[cfg(test)]
mod tests;
