//! Keeps the results of direct reads for a moment, so that clients that poll cost neither the disk nor a thread.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Call, CallContext, ToolResult};

use crate::sync::lock;

/// How long a result is reused. A change made through the gateway is seen at once, one made by hand after this time.
const FRESH: Duration = Duration::from_millis(200);
/// The number of results at which all are dropped, and the longest text, in bytes, of a result that is kept.
const MAX_KEPT: usize = 256;
const MAX_BYTES: usize = 64 * 1024;

/// Results by caller and call.
#[derive(Debug, Default)]
pub(super) struct DirectReadCache {
    answers: Mutex<HashMap<(String, String), (Instant, ToolResult)>>,
    /// Counts the calls that may have changed something.
    changes: AtomicU64,
}

/// Where a result that is being computed will be kept.
pub(super) struct CacheSlot {
    key: (String, String),
    changes: u64,
}

impl DirectReadCache {
    /// Returns where the result of a call will be kept; `None` for a call that is not a direct read.
    pub(super) fn place(&self, call: &Call, context: &CallContext) -> Option<CacheSlot> {
        let is_direct = call.only_reads() && context.job_id.is_empty();
        is_direct.then(|| CacheSlot {
            key: (context.caller.name().to_owned(), format!("{call:?}")),
            changes: self.changes.load(Ordering::Acquire),
        })
    }

    /// Returns the result of the same call if it is recent enough.
    pub(super) fn find(&self, place: &CacheSlot) -> Option<ToolResult> {
        let answers = lock(&self.answers);
        let (since, done) = answers.get(&place.key)?;
        (since.elapsed() < FRESH).then(|| done.clone())
    }

    /// Keeps a result, unless something may have been changed since the place was taken.
    pub(super) fn keep(&self, place: CacheSlot, done: &ToolResult) {
        if done.text.len() > MAX_BYTES {
            return;
        }
        let mut answers = lock(&self.answers);
        if self.changes.load(Ordering::Acquire) != place.changes {
            return;
        }
        if answers.len() >= MAX_KEPT {
            answers.clear();
        }
        answers.insert(place.key, (Instant::now(), done.clone()));
    }

    /// Drops all results, because something may have been changed.
    pub(super) fn forget(&self) {
        let mut answers = lock(&self.answers);
        self.changes.fetch_add(1, Ordering::AcqRel);
        answers.clear();
    }
}
