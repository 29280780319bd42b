//! The locks by which runs of one agent take turns.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
};

use crate::sync::lock;

/// By root and agent; gone when nobody runs or waits.
type Locks = HashMap<(PathBuf, String), Weak<tokio::sync::Mutex<()>>>;

/// The locks by which runs take turns.
#[derive(Debug, Default)]
pub(super) struct AgentLocks(Mutex<Locks>);

impl AgentLocks {
    pub(super) fn lock(&self, root: PathBuf, agent_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = lock(&self.0);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let key = (root, agent_id.to_owned());
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}
