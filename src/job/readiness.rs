//! Whether new jobs should be sent to this gateway, and if not, why: reported to probes, and to watchers when it changes.

use std::{collections::BTreeMap, sync::Mutex};

use tokio::sync::watch;

use crate::sync::lock;

/// The conditions that make the gateway not ready; the first one that holds is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotReadyCause {
    /// The gateway is shutting down.
    Leaving,
    /// The store accepts no writes.
    Store,
    /// The engine cannot run.
    Engine,
}

/// The readiness state; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    against: Mutex<BTreeMap<NotReadyCause, String>>,
    now: watch::Sender<Option<String>>,
}

impl Readiness {
    /// Sets the reason for which a condition makes the gateway not ready, or clears it.
    pub(super) fn set(&self, condition: NotReadyCause, why: Option<String>) {
        let mut against = lock(&self.against);
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

    /// Returns the most important reason why the gateway is not ready, and its changes; `None` while it is ready.
    pub(super) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.now.subscribe()
    }
}
