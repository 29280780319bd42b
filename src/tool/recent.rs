//! What direct reads answered a moment ago. Clients poll; the disk, and the thread that waits for it, need not.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Call, CallContext, Done};

/// An answer is given again for so long. A change made through the gateway is seen at once, one by hand after this.
const FRESH: Duration = Duration::from_millis(200);
/// So many answers are kept, and none longer than this.
const MAX_KEPT: usize = 256;
const MAX_BYTES: usize = 64 * 1024;

/// Answers by caller and call.
#[derive(Debug, Default)]
pub(super) struct Recent {
    answers: Mutex<HashMap<(String, String), (Instant, Done)>>,
    /// Counts the calls that may have changed something.
    changes: AtomicU64,
}

/// The place of an answer that is being found.
pub(super) struct Place {
    key: (String, String),
    changes: u64,
}

impl Recent {
    /// Where the answer of a call belongs; `None` for one that is not answered directly.
    pub(super) fn place(&self, call: &Call, context: &CallContext) -> Option<Place> {
        let is_direct = call.only_reads() && context.job_id.is_empty();
        is_direct.then(|| Place {
            key: (context.caller.name().to_owned(), format!("{call:?}")),
            changes: self.changes.load(Ordering::Acquire),
        })
    }

    /// The answer of a moment ago.
    pub(super) fn find(&self, place: &Place) -> Option<Done> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, done) = answers.get(&place.key)?;
        (since.elapsed() < FRESH).then(|| done.clone())
    }

    /// Keeps an answer, unless something was changed while it was found.
    pub(super) fn keep(&self, place: Place, done: &Done) {
        if done.text.len() > MAX_BYTES {
            return;
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.changes.load(Ordering::Acquire) != place.changes {
            return;
        }
        if answers.len() >= MAX_KEPT {
            answers.clear();
        }
        answers.insert(place.key, (Instant::now(), done.clone()));
    }

    /// Something may have been changed.
    pub(super) fn forget(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Ordering::AcqRel);
        answers.clear();
    }
}
