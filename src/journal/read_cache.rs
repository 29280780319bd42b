//! What readers behind the tail have read from the store, for the readers behind them.
//!
//! A job that writes faster than its readers read leaves all of them behind its tail, and a storm of returning readers
//! begins there. Without this each of them would read, check, decode and render the same batches for itself.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::{Batch, JobId};

/// What is kept, in bytes, with what it is rendered to, which may take three times as much again.
const MAX_BYTES: usize = 32 * 1024 * 1024;
const RENDERED: usize = 4;
/// Smaller batches are as cheap to read as to keep.
const MIN_BATCH_BYTES: usize = 8 * 1024;

/// See the module's documentation. The oldest go first.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    kept: Mutex<Kept>,
    /// What is being read from the store now: by where it begins.
    reading: Mutex<BTreeMap<(JobId, u32), ReadTurn>>,
}

/// Held by whoever reads from a place now.
type ReadTurn = Weak<tokio::sync::Mutex<()>>;

/// The turn to read from one place of a job. Others that want the same wait for its end and find what was read.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    cache: &'a ReadCache,
    at: (JobId, u32),
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turn = None;
        let mut reading = self.cache.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if reading.get(&self.at).is_some_and(|turn| turn.strong_count() == 0) {
            reading.remove(&self.at);
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    batches: BTreeMap<(JobId, u32), Arc<Batch>>,
    order: VecDeque<(JobId, u32)>,
    bytes: usize,
    is_used: bool,
}

fn size(batch: &Batch) -> usize {
    batch.bytes().len() * RENDERED + size_of_val(batch.ends()) * 2
}

impl ReadCache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch that holds this event, if somebody has read it lately.
    pub(super) fn get(&self, job_id: &JobId, sequence: u32) -> Option<Arc<Batch>> {
        let mut kept = self.kept();
        kept.is_used = true;
        let at = (job_id.clone(), sequence);
        let ((found, _), batch) = kept.batches.range(..=at).next_back()?;
        (found == job_id && batch.last_sequence() >= sequence).then(|| batch.clone())
    }

    /// Waits for whoever reads from this place now. A storm of readers that begin at once reads once, and takes the memory of one.
    pub(super) async fn turn(&self, job_id: &JobId, sequence: u32) -> Turn<'_> {
        let at = (job_id.clone(), sequence);
        let turn = {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            match reading.get(&at).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    reading.insert(at.clone(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        // Made before it waits, so that the place is given up whatever ends the wait.
        let mut waiting = Turn { cache: self, at, turn: None };
        waiting.turn = Some(turn.lock_owned().await);
        waiting
    }

    /// Keeps what was read. Answers with the batch to go on with: that of whoever was first.
    pub(super) fn keep(&self, job_id: &JobId, batch: Arc<Batch>) -> Arc<Batch> {
        if batch.bytes().len() < MIN_BATCH_BYTES {
            return batch;
        }
        let at = (job_id.clone(), batch.first_sequence());
        let mut kept = self.kept();
        if let Some(first) = kept.batches.get(&at) {
            return first.clone();
        }
        // A copy: the piece of the file that it was read with is larger than it is.
        let bytes = Bytes::copy_from_slice(batch.bytes());
        let batch = Arc::new(Batch::new(batch.first_sequence(), bytes, batch.ends().into()));
        kept.is_used = true;
        kept.bytes += size(&batch);
        kept.order.push_back(at.clone());
        kept.batches.insert(at, batch.clone());
        while kept.bytes > MAX_BYTES
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.bytes -= kept.batches.remove(&oldest).map_or(0, |batch| size(&batch));
        }
        batch
    }

    /// Gives everything up if nobody has used it since this was last called.
    pub(super) fn rest(&self) {
        let mut kept = self.kept();
        if !std::mem::take(&mut kept.is_used) {
            *kept = Kept::default();
        }
    }

    /// Nobody reads this job any more.
    pub(super) fn forget(&self, job_id: &JobId) {
        let mut kept = self.kept();
        let Kept { batches, order, bytes, .. } = &mut *kept;
        order.retain(|at| {
            let is_other = at.0 != *job_id;
            if !is_other {
                *bytes -= batches.remove(at).map_or(0, |batch| size(&batch));
            }
            is_other
        });
    }
}
