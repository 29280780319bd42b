//! The store that forgets: everything in memory, for tests and throw-away use.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Batch, Chunk, JobId, Loaded, Reader, Store, StoredJob};
use crate::{
    error::Result,
    pb::{Job, storage::JobRecord},
};

#[derive(Debug, Default)]
struct Kept {
    record: JobRecord,
    log: Arc<Mutex<Vec<Arc<Batch>>>>,
    ended: Option<Job>,
    result: Bytes,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct MemoryStore {
    jobs: Mutex<BTreeMap<JobId, Kept>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    fn with<T>(&self, job_id: &JobId, use_it: impl FnOnce(&mut Kept) -> T) -> Result<T> {
        lock(&self.jobs).get_mut(job_id).map(use_it).ok_or_else(|| JobId::not_found(job_id.as_str()))
    }
}

struct MemoryReader(Arc<Mutex<Vec<Arc<Batch>>>>);

#[async_trait]
impl Reader for MemoryReader {
    async fn read(&mut self, next_sequence: u32, last_sequence: u32, max_bytes: usize) -> Result<Chunk> {
        let log = lock(&self.0);
        let from = log.partition_point(|batch| batch.last_sequence() < next_sequence);
        let mut bytes = 0;
        let batches = log[from..]
            .iter()
            .take_while(|batch| {
                let takes = bytes < max_bytes && batch.first_sequence() <= last_sequence;
                bytes += batch.bytes().len();
                takes
            })
            .cloned()
            .collect();
        Ok(Chunk { batches, damage: None })
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self) -> Result<Loaded> {
        Ok(Loaded::default())
    }

    async fn create(&self, job_id: &JobId, record: &JobRecord) -> Result<()> {
        lock(&self.jobs).insert(job_id.clone(), Kept { record: record.clone(), ..Kept::default() });
        Ok(())
    }

    async fn append(&self, job_id: &JobId, batches: &[Arc<Batch>]) -> Result<()> {
        self.with(job_id, |kept| lock(&kept.log).extend_from_slice(batches))
    }

    async fn finish(&self, job_id: &JobId, job: &Job) -> Result<u64> {
        self.with(job_id, |kept| {
            kept.ended = Some(job.clone());
            let log: u64 = lock(&kept.log).iter().map(|batch| batch.bytes().len() as u64).sum();
            log + kept.result.len() as u64
        })
    }

    async fn put_result(&self, job_id: &JobId, text: Bytes) -> Result<()> {
        self.with(job_id, |kept| kept.result = text)
    }

    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes> {
        self.with(job_id, |kept| {
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(kept.result.len());
            kept.result.slice(from..kept.result.len().min(from.saturating_add(max_bytes)))
        })
    }

    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn Reader>> {
        self.with(job_id, |kept| Box::new(MemoryReader(kept.log.clone())) as Box<dyn Reader>)
    }

    async fn job(&self, job_id: &JobId) -> Result<StoredJob> {
        self.with(job_id, |kept| StoredJob { record: kept.record.clone(), ended: kept.ended.clone() })
    }

    async fn delete(&self, job_id: &JobId) -> Result<()> {
        lock(&self.jobs).remove(job_id);
        Ok(())
    }

    async fn close(&self) {}
}
