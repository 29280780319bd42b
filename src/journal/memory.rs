//! The non-persistent store: catalogue and event log in memory, for tests and throw-away use.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    BatchAppend, Catalogue, Claim, ClaimedJobs, CreateOutcome, Damage, EventBatch, EventLog, JobId,
    JobOverview, Lease, LogHead, LogReader, Query, ReadChunk, Retention, StoredJob, Unfinished, WriteRefusal,
    index::Index,
};
use crate::{
    error::{Error, Result},
    pb::{Job, JobState, storage::JobRecord},
    principal::Principal,
    sync::lock,
};

#[derive(Debug, Default)]
struct MemoryJob {
    record: JobRecord,
    log: Arc<Mutex<Vec<Arc<EventBatch>>>>,
    ended: Option<Job>,
    result: Bytes,
}

#[derive(Debug, Default)]
struct MemoryStoreState {
    index: Index,
    kept: BTreeMap<JobId, MemoryJob>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<MemoryStoreState>,
    /// Notified whenever something was stored.
    changed: Notify,
}

impl MemoryStoreState {
    fn kept(&mut self, job_id: &JobId) -> Result<&mut MemoryJob> {
        self.kept.get_mut(job_id).ok_or_else(|| JobId::not_found(job_id.as_str()))
    }

    fn append(&mut self, append: &BatchAppend) -> Result<(), WriteRefusal> {
        let job_id = &append.claim.job_id;
        let last = self.index.check(&append.claim)?;
        let batches: Vec<_> =
            append.batches.iter().filter(|batch| batch.first_sequence() > last).cloned().collect();
        let Some(first) = batches.first() else { return Ok(()) };
        if first.first_sequence() != last + 1 {
            return Err(WriteRefusal::Stale);
        }
        let last_sequence = batches.last().map_or(last, |batch| batch.last_sequence());
        let kept = self.kept(job_id).map_err(|_| WriteRefusal::Gone)?;
        lock(&kept.log).extend(batches);
        self.index.stored(job_id, last_sequence);
        Ok(())
    }
}

struct MemoryReader(Arc<Mutex<Vec<Arc<EventBatch>>>>);

#[async_trait]
impl LogReader for MemoryReader {
    async fn read(&mut self, next_sequence: u32, last_sequence: u32, max_bytes: usize) -> Result<ReadChunk> {
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
        Ok(ReadChunk { batches, damage: None })
    }
}

#[async_trait]
impl Catalogue for MemoryStore {
    async fn open(&self) -> Result<Vec<Damage>> {
        Ok(Vec::new())
    }

    async fn create(&self, record: &JobRecord, lease: &Lease) -> Result<CreateOutcome> {
        let job = record.job.as_ref().ok_or_else(|| Error::internal("a record without a job"))?;
        let job_id = JobId::parse(&job.job_id)?;
        let key = job.options.as_ref().map_or("", |options| &options.idempotency_key);
        let mut state = lock(&self.state);
        if let Some(existing) =
            state.index.by_key(&Principal::of_record(record), key, &[&record.request_digest])?
        {
            return Ok(CreateOutcome::Existing(existing));
        }
        let claim = state.index.create(&job_id, record, lease);
        state.kept.insert(job_id, MemoryJob { record: record.clone(), ..MemoryJob::default() });
        Ok(CreateOutcome::New(claim))
    }

    async fn by_key(&self, owner: &Principal, key: &str, digests: &[&[u8]]) -> Result<Option<JobId>> {
        lock(&self.state).index.by_key(owner, key, digests)
    }

    async fn get(&self, job_id: &JobId) -> Result<JobOverview> {
        lock(&self.state).index.get(job_id)
    }

    async fn read(&self, job_id: &JobId) -> Result<StoredJob> {
        let mut state = lock(&self.state);
        state.kept(job_id).map(|kept| StoredJob { record: kept.record.clone(), ended: kept.ended.clone() })
    }

    async fn list(&self, query: &Query) -> Result<Vec<Job>> {
        Ok(lock(&self.state).index.list(query))
    }

    async fn set_state(&self, claim: &Claim, state: JobState) -> Result<(), WriteRefusal> {
        lock(&self.state).index.set_state(claim, state)
    }

    async fn end(&self, claim: &Claim, job: &Job) -> Result<u64, WriteRefusal> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if let Some(bytes) = state.index.ended_bytes_of(&claim.job_id) {
            return Ok(bytes);
        }
        state.index.check(claim)?;
        let kept = state.kept.get_mut(&claim.job_id).ok_or(WriteRefusal::Gone)?;
        kept.ended = Some(job.clone());
        let log: u64 = lock(&kept.log).iter().map(|batch| batch.bytes().len() as u64).sum();
        let bytes = log + kept.result.len() as u64;
        state.index.end(claim, job, bytes, false);
        drop(guard);
        self.changed.notify_waiters();
        Ok(bytes)
    }

    async fn give_up(&self, claim: &Claim, job: &Job) -> Result<(), WriteRefusal> {
        let mut state = lock(&self.state);
        state.index.check(claim)?;
        state.index.end(claim, job, 0, true);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn claim(&self, lease: &Lease, limit: usize) -> Result<ClaimedJobs> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let mut claimed = ClaimedJobs::default();
        for job_id in state.index.claimable(limit) {
            let Some(kept) = state.kept.get(&job_id) else { continue };
            let record = kept.record.clone();
            let last_sequence = lock(&kept.log).last().map_or(0, |batch| batch.last_sequence());
            if let Some(claim) = state.index.take(&job_id, lease) {
                claimed.jobs.push(Unfinished { claim, record, last_sequence });
            }
        }
        Ok(claimed)
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        lock(&self.state).index.renew(lease);
        Ok(())
    }

    async fn expired(&self, retention: &Retention, limit: usize) -> Result<Vec<JobId>> {
        Ok(lock(&self.state).index.expired(retention, limit))
    }

    async fn delete(&self, job_id: &JobId) -> Result<()> {
        let mut state = lock(&self.state);
        state.index.remove(job_id);
        state.kept.remove(job_id);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

#[async_trait]
impl EventLog for MemoryStore {
    async fn append(&self, appends: Vec<BatchAppend>) -> Vec<Result<(), WriteRefusal>> {
        let mut state = lock(&self.state);
        let answers = appends.iter().map(|append| state.append(append)).collect();
        drop(state);
        self.changed.notify_waiters();
        answers
    }

    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn LogReader>> {
        let mut state = lock(&self.state);
        state.kept(job_id).map(|kept| Box::new(MemoryReader(kept.log.clone())) as Box<dyn LogReader>)
    }

    async fn changed(&self, job_id: &JobId, last_sequence: u32) -> Result<LogHead> {
        super::event_log::wait_for_change(&self.changed, last_sequence, || {
            lock(&self.state).index.head(job_id)
        })
        .await
    }

    async fn put_result(&self, claim: &Claim, text: Bytes) -> Result<(), WriteRefusal> {
        let mut state = lock(&self.state);
        state.index.check(claim)?;
        state.kept(&claim.job_id).map_err(|_| WriteRefusal::Gone)?.result = text;
        Ok(())
    }

    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes> {
        let mut state = lock(&self.state);
        let result = &state.kept(job_id)?.result;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(result.len());
        Ok(result.slice(from..result.len().min(from.saturating_add(max_bytes))))
    }
}

/// The record of a job, its events, and its terminal job if it has ended.
#[cfg(test)]
type StoredContents = (JobRecord, Vec<Arc<EventBatch>>, Option<Job>);

#[cfg(test)]
impl MemoryStore {
    /// Returns what a new process would find of each job: its record, its events, and its terminal job if it has ended.
    pub(crate) fn contents(&self) -> BTreeMap<JobId, StoredContents> {
        let state = lock(&self.state);
        let of = |kept: &MemoryJob| (kept.record.clone(), lock(&kept.log).clone(), kept.ended.clone());
        state.kept.iter().map(|(job_id, kept)| (job_id.clone(), of(kept))).collect()
    }

    /// Returns a store with the same jobs and events, as after a restart: nobody holds a job. Stored results are not carried
    /// over.
    pub(crate) fn reopened(&self) -> Self {
        use super::{entry::IndexEntry, index::EndSummary};
        let mut state = MemoryStoreState::default();
        for (job_id, (record, log, ended)) in self.contents() {
            match &ended {
                Some(job) => {
                    let entry = IndexEntry::new(record.clone(), Some(job));
                    state.index.found_ended(&job_id, entry, EndSummary::new(job, 1, false));
                }
                None => state.index.found_unfinished(&job_id, record.clone()),
            }
            state.index.stored(&job_id, log.last().map_or(0, |batch| batch.last_sequence()));
            let log = Arc::new(Mutex::new(log));
            state.kept.insert(job_id, MemoryJob { record, log, ended, result: Bytes::new() });
        }
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}
