//! Who is told that a job has changed its state: one subscription for each stream over all jobs of a caller.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use crate::{journal::JobId, principal::Principal, sync::lock};

/// The most jobs that a subscription remembers as changed. Beyond it the subscriber has to look at all of its jobs.
const MAX_CHANGED: usize = 4096;

#[derive(Debug, Default)]
struct Subscriber {
    changed: Mutex<ChangedSet>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct ChangedSet {
    job_ids: BTreeSet<JobId>,
    is_overrun: bool,
}

type Subscribers = BTreeMap<u64, Arc<Subscriber>>;

/// The subscriptions of one job service, by caller, so that the many streams of one caller cost nothing when another's job
/// changes.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<WatchersState>);

#[derive(Debug, Default)]
struct WatchersState {
    by_caller: BTreeMap<Principal, Subscribers>,
    next_id: u64,
}

/// What has changed since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    /// These jobs; at least one.
    Jobs(Vec<JobId>),
    /// More jobs than a subscription remembers: any of the caller's.
    Many,
}

/// A subscription to the state changes of one caller's jobs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct JobChanges {
    watchers: Arc<Watchers>,
    id: u64,
    caller: Principal,
    subscriber: Arc<Subscriber>,
}

impl Watchers {
    /// Subscribes a caller to its jobs. Changes from here on are remembered until they are taken.
    pub(super) fn subscribe(self: &Arc<Self>, caller: &Principal) -> JobChanges {
        let subscriber = Arc::new(Subscriber::default());
        let mut state = lock(&self.0);
        let id = state.next_id;
        state.next_id += 1;
        state.by_caller.entry(caller.clone()).or_default().insert(id, subscriber.clone());
        JobChanges { watchers: self.clone(), id, caller: caller.clone(), subscriber }
    }

    /// Tells the subscribers whom `may_see` admits that a job has changed.
    pub(super) fn changed(&self, job_id: &JobId, may_see: impl Fn(&Principal) -> bool) {
        let state = lock(&self.0);
        let admitted = state.by_caller.iter().filter(|(caller, _)| may_see(caller));
        for subscriber in admitted.flat_map(|(_, subscribers)| subscribers.values()) {
            subscriber.remember(job_id.clone());
        }
    }
}

impl Subscriber {
    fn remember(&self, job_id: JobId) {
        let mut changed = lock(&self.changed);
        if changed.job_ids.len() < MAX_CHANGED {
            changed.job_ids.insert(job_id);
        } else {
            changed.is_overrun = true;
        }
        drop(changed);
        self.woken.notify_one();
    }
}

impl JobChanges {
    /// Waits until something has changed and returns it. Cancel safe.
    pub(crate) async fn next(&self) -> Changes {
        loop {
            let changed = std::mem::take(&mut *lock(&self.subscriber.changed));
            if changed.is_overrun {
                return Changes::Many;
            }
            if !changed.job_ids.is_empty() {
                return Changes::Jobs(changed.job_ids.into_iter().collect());
            }
            self.subscriber.woken.notified().await;
        }
    }

    /// Counts a job as changed again.
    pub(crate) fn again(&self, job_id: JobId) {
        self.subscriber.remember(job_id);
    }
}

impl Drop for JobChanges {
    fn drop(&mut self) {
        let mut state = lock(&self.watchers.0);
        if let Some(subscribers) = state.by_caller.get_mut(&self.caller) {
            subscribers.remove(&self.id);
            if subscribers.is_empty() {
                state.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_is_told_of_its_own_jobs_and_of_no_others() {
        let watchers = Arc::new(Watchers::default());
        let [a, b] = ["a", "b"].map(Principal::from_proxy);
        let (of_a, of_b) = (watchers.subscribe(&a), watchers.subscribe(&b));
        let job_id = JobId::generate().unwrap();
        watchers.changed(&job_id, |caller| caller == &a);
        watchers.changed(&job_id, |caller| caller == &a);
        assert_eq!(of_a.next().await, Changes::Jobs(vec![job_id.clone()]));
        of_a.again(job_id.clone());
        assert_eq!(of_a.next().await, Changes::Jobs(vec![job_id]));
        for job in 0..=MAX_CHANGED {
            watchers.changed(&JobId::generate().unwrap(), |caller| caller == &b && job <= MAX_CHANGED);
        }
        assert_eq!(of_b.next().await, Changes::Many);
        drop((of_a, of_b));
        assert!(lock(&watchers.0).by_caller.is_empty(), "nothing of an ended subscription is left");
    }
}
