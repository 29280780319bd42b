//! A cache of batches that readers behind the tail have read from the store, for other such readers.
//!
//! A job that writes faster than its readers read leaves all of them behind its tail, and many readers that reconnect at once
//! begin there. Without this cache each of them would read, check, decode and render the same batches.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::{EventBatch, JobId};

use crate::sync::lock;

/// The bound of the cache in bytes. A batch is counted [`RENDERED`] times, because its rendered form may take three times its
/// size.
const MAX_BYTES: usize = 32 * 1024 * 1024;
const RENDERED: usize = 4;
/// Smaller batches are as cheap to read again as to keep.
const MIN_BATCH_BYTES: usize = 8 * 1024;

/// See the documentation of the module. The oldest batches are evicted first.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    kept: Mutex<CachedBatches>,
    /// Reads from the store that are in progress, by job and first sequence.
    reading: Mutex<BTreeMap<(JobId, u32), ReadLock>>,
}

/// Locked while a reader reads from one position.
type ReadLock = Weak<tokio::sync::Mutex<()>>;

/// The exclusive right to read from one position of a job. Other readers of that position wait for its release and then find the
/// batch in the cache.
#[derive(Debug)]
pub(super) struct SingleFlightGuard<'a> {
    cache: &'a ReadCache,
    at: (JobId, u32),
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for SingleFlightGuard<'_> {
    fn drop(&mut self) {
        self.turn = None;
        let mut reading = lock(&self.cache.reading);
        if reading.get(&self.at).is_some_and(|turn| turn.strong_count() == 0) {
            reading.remove(&self.at);
        }
    }
}

#[derive(Debug, Default)]
struct CachedBatches {
    batches: BTreeMap<(JobId, u32), Arc<EventBatch>>,
    order: VecDeque<(JobId, u32)>,
    bytes: usize,
    is_used: bool,
}

fn size(batch: &EventBatch) -> usize {
    batch.bytes().len() * RENDERED + size_of_val(batch.ends()) * 2
}

impl ReadCache {
    fn kept(&self) -> MutexGuard<'_, CachedBatches> {
        lock(&self.kept)
    }

    /// Returns the batch that holds this event, if it was read recently.
    pub(super) fn get(&self, job_id: &JobId, sequence: u32) -> Option<Arc<EventBatch>> {
        let mut kept = self.kept();
        kept.is_used = true;
        let at = (job_id.clone(), sequence);
        let ((found, _), batch) = kept.batches.range(..=at).next_back()?;
        (found == job_id && batch.last_sequence() >= sequence).then(|| batch.clone())
    }

    /// Waits until no other reader reads from this position and takes the turn. Many readers that begin at once thereby cause one
    /// read and take the memory of one.
    pub(super) async fn turn(&self, job_id: &JobId, sequence: u32) -> SingleFlightGuard<'_> {
        let at = (job_id.clone(), sequence);
        let turn = {
            let mut reading = lock(&self.reading);
            match reading.get(&at).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    reading.insert(at.clone(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        // Created before the wait, so that the entry in `reading` is removed even if the wait is cancelled.
        let mut waiting = SingleFlightGuard { cache: self, at, turn: None };
        waiting.turn = Some(turn.lock_owned().await);
        waiting
    }

    /// Caches a batch, unless it is small, and returns the batch to continue with: the cached one if another reader was first.
    pub(super) fn keep(&self, job_id: &JobId, batch: Arc<EventBatch>) -> Arc<EventBatch> {
        if batch.bytes().len() < MIN_BATCH_BYTES {
            return batch;
        }
        let at = (job_id.clone(), batch.first_sequence());
        let mut kept = self.kept();
        if let Some(first) = kept.batches.get(&at) {
            return first.clone();
        }
        // Copied, because the batch is a slice of a larger buffer that was read from the file.
        let bytes = Bytes::copy_from_slice(batch.bytes());
        let batch = Arc::new(EventBatch::new(batch.first_sequence(), bytes, batch.ends().into()));
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

    /// Drops all batches if the cache was not used since the last call.
    pub(super) fn evict_if_idle(&self) {
        let mut kept = self.kept();
        if !std::mem::take(&mut kept.is_used) {
            *kept = CachedBatches::default();
        }
    }

    /// Drops all batches of a job.
    pub(super) fn forget(&self, job_id: &JobId) {
        let mut kept = self.kept();
        let CachedBatches { batches, order, bytes, .. } = &mut *kept;
        order.retain(|at| {
            let is_other = at.0 != *job_id;
            if !is_other {
                *bytes -= batches.remove(at).map_or(0, |batch| size(&batch));
            }
            is_other
        });
    }
}
