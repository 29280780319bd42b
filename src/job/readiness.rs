//! Whether new jobs should come here, and why not: what probes are answered, and told as it changes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

/// What can be against it, the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The gateway is shutting down.
    Leaving,
    /// The store takes nothing.
    Store,
    /// The engine cannot run.
    Engine,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    against: Mutex<BTreeMap<Condition, String>>,
    now: watch::Sender<Option<String>>,
}

impl Readiness {
    /// Notes what is against it, or that nothing is.
    pub(super) fn set(&self, condition: Condition, why: Option<String>) {
        let mut against = self.against.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => against.insert(condition, why),
            None => against.remove(&condition),
        };
        let first = against.values().next().cloned();
        self.now.send_if_modified(|now| {
            let has_changed = *now != first;
            if has_changed {
                tracing::info!(ready = first.is_none(), why = first, "readiness has changed");
                *now = first;
            }
            has_changed
        });
    }

    /// Why not, now and whenever that changes; `None`: nothing is against it.
    pub(super) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.now.subscribe()
    }
}
