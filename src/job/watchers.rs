//! Who is told that a job has changed its state: one subscription for each stream over all jobs of a caller.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::Notify;

use crate::{journal::JobId, principal::Principal, sync::lock};

/// The most jobs that a subscription remembers as changed. Beyond it the subscriber has to look at all of its jobs.
const MAX_CHANGED: usize = 4096;

#[derive(Debug)]
struct Subscriber {
    caller: Principal,
    changed: Mutex<ChangedSet>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct ChangedSet {
    job_ids: BTreeSet<JobId>,
    is_overrun: bool,
}

/// The subscriptions of one job service.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Vec<Weak<Subscriber>>>);

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
pub(crate) struct JobChanges(Arc<Subscriber>);

impl Watchers {
    /// Subscribes a caller to its jobs. Changes from here on are remembered until they are taken.
    pub(super) fn subscribe(&self, caller: &Principal) -> JobChanges {
        let subscriber =
            Subscriber { caller: caller.clone(), changed: Mutex::default(), woken: Notify::new() };
        let subscriber = Arc::new(subscriber);
        let mut subscribers = lock(&self.0);
        subscribers.retain(|other| other.strong_count() > 0);
        subscribers.push(Arc::downgrade(&subscriber));
        JobChanges(subscriber)
    }

    /// Tells the subscribers whom `may_see` admits that a job has changed.
    pub(super) fn changed(&self, job_id: &JobId, may_see: impl Fn(&Principal) -> bool) {
        let subscribers: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        for subscriber in subscribers {
            if !may_see(&subscriber.caller) {
                continue;
            }
            let mut changed = lock(&subscriber.changed);
            if changed.job_ids.len() < MAX_CHANGED {
                changed.job_ids.insert(job_id.clone());
            } else {
                changed.is_overrun = true;
            }
            drop(changed);
            subscriber.woken.notify_one();
        }
    }
}

impl JobChanges {
    /// Waits until something has changed and returns it. Cancel safe.
    pub(crate) async fn next(&self) -> Changes {
        loop {
            let changed = std::mem::take(&mut *lock(&self.0.changed));
            if changed.is_overrun {
                return Changes::Many;
            }
            if !changed.job_ids.is_empty() {
                return Changes::Jobs(changed.job_ids.into_iter().collect());
            }
            self.0.woken.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_is_told_of_its_own_jobs_and_of_no_others() {
        let watchers = Watchers::default();
        let [a, b] = ["a", "b"].map(Principal::from_proxy);
        let (of_a, of_b) = (watchers.subscribe(&a), watchers.subscribe(&b));
        let job_id = JobId::generate().unwrap();
        watchers.changed(&job_id, |caller| caller == &a);
        watchers.changed(&job_id, |caller| caller == &a);
        assert_eq!(of_a.next().await, Changes::Jobs(vec![job_id]));
        for job in 0..=MAX_CHANGED {
            watchers.changed(&JobId::generate().unwrap(), |caller| caller == &b && job <= MAX_CHANGED);
        }
        assert_eq!(of_b.next().await, Changes::Many);
        drop(of_a);
        let _again = watchers.subscribe(&a);
        assert_eq!(lock(&watchers.0).len(), 2);
    }
}
