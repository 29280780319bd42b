//! The embedded store as the two halves of a store.

use super::super::{
    BatchAppend, Catalogue, Claim, ClaimedJobs, CreateOutcome, Damage, Durability, EventLog, JobId,
    JobOverview, Lease, LogHead, LogReader, Query, Retention, StoredJob, WriteRefusal,
    event_log::wait_for_change,
};
use super::file_work::unavailable;
use super::{EmbeddedStore, EmbeddedStoreInner, job_reader, lock, result_file};
use crate::{
    error::{Error, Reason, Result},
    pb::{Job, JobState, storage::JobRecord},
    principal::Principal,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::io;

#[async_trait]
impl Catalogue for EmbeddedStore {
    async fn open(&self) -> Result<Vec<Damage>> {
        self.blocking(EmbeddedStoreInner::load).await
    }

    async fn create(&self, record: &JobRecord, lease: &Lease) -> Result<CreateOutcome> {
        let job = record.job.as_ref().ok_or_else(|| Error::internal("a record without a job"))?;
        let job_id = JobId::parse(&job.job_id)?;
        let owner = Principal::of_record(record);
        let key = job.options.as_ref().map_or("", |options| &options.idempotency_key);
        let turn = (!key.is_empty()).then(|| self.inner.key_turn(&owner, key));
        let _turn = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        if let Some(existing) = lock(&self.inner.index).by_key(&owner, key, &[&record.request_digest])? {
            return Ok(CreateOutcome::Existing(existing));
        }
        let (record, lease) = (record.clone(), lease.clone());
        self.blocking(move |inner| inner.create(&job_id, &record, &lease)).await.map(CreateOutcome::New)
    }

    async fn by_key(&self, owner: &Principal, key: &str, digests: &[&[u8]]) -> Result<Option<JobId>> {
        lock(&self.inner.index).by_key(owner, key, digests)
    }

    async fn get(&self, job_id: &JobId) -> Result<JobOverview> {
        lock(&self.inner.index).get(job_id)
    }

    async fn read(&self, job_id: &JobId) -> Result<StoredJob> {
        let job_id = job_id.clone();
        self.blocking(move |inner| {
            let has_ended = lock(&inner.index).get(&job_id).is_ok_and(|known| known.is_ended);
            job_reader::read_job(&*inner.directory.disk, &inner.path_of(&job_id), &job_id, has_ended)
        })
        .await
    }

    async fn list(&self, query: &Query) -> Result<Vec<Job>> {
        Ok(lock(&self.inner.index).list(query))
    }

    async fn set_state(&self, claim: &Claim, state: JobState) -> Result<(), WriteRefusal> {
        lock(&self.inner.index).set_state(claim, state)
    }

    async fn end(&self, claim: &Claim, job: &Job) -> Result<u64, WriteRefusal> {
        let (claim, job) = (claim.clone(), job.clone());
        self.blocking(move |inner| inner.end(&claim, &job)).await
    }

    async fn give_up(&self, claim: &Claim, job: &Job) -> Result<(), WriteRefusal> {
        let (claim, job) = (claim.clone(), job.clone());
        self.blocking(move |inner| inner.give_up(&claim, &job)).await
    }

    async fn claim(&self, lease: &Lease, limit: usize) -> Result<ClaimedJobs> {
        let lease = lease.clone();
        self.blocking(move |inner| Ok::<_, Error>(inner.claim(&lease, limit))).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        lock(&self.inner.index).renew(lease);
        Ok(())
    }

    async fn expired(&self, retention: &Retention, limit: usize) -> Result<Vec<JobId>> {
        Ok(lock(&self.inner.index).expired(retention, limit))
    }

    async fn delete(&self, job_id: &JobId) -> Result<()> {
        let job_id = job_id.clone();
        self.blocking(move |inner| inner.delete(&job_id)).await
    }

    async fn check(&self) -> Result<()> {
        self.blocking(EmbeddedStoreInner::check).await
    }

    async fn close(&self) {
        let closed = self
            .blocking(|inner| {
                inner.close();
                Ok::<_, Error>(())
            })
            .await;
        if let Err(error) = closed {
            tracing::error!(cause = error.cause(), "store not closed");
        }
    }
}

#[async_trait]
impl EventLog for EmbeddedStore {
    async fn append(&self, appends: Vec<BatchAppend>) -> Vec<Result<(), WriteRefusal>> {
        let count = appends.len();
        let work = move |inner: &EmbeddedStoreInner| {
            let answers: Vec<_> = appends.iter().map(|append| inner.append(append)).collect();
            inner.changed.notify_waiters();
            Ok::<_, Error>(answers)
        };
        self.blocking(work).await.unwrap_or_else(|error| {
            let message = error.to_string();
            (0..count).map(|_| Err(WriteRefusal::Unavailable(Error::internal(&message)))).collect()
        })
    }

    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn LogReader>> {
        let job_id = job_id.clone();
        let reader = self
            .blocking(move |inner| {
                let (disk, kept) = (&inner.directory.disk, inner.read_files.clone());
                job_reader::JobReader::open(disk, &inner.path_of(&job_id), &job_id, kept)
            })
            .await?;
        Ok(Box::new(reader))
    }

    async fn changed(&self, job_id: &JobId, last_sequence: u32) -> Result<LogHead> {
        wait_for_change(&self.inner.changed, last_sequence, || lock(&self.inner.index).head(job_id)).await
    }

    async fn put_result(&self, claim: &Claim, text: Bytes) -> Result<(), WriteRefusal> {
        let claim = claim.clone();
        self.blocking(move |inner| {
            lock(&inner.index).check(&claim)?;
            let path = inner.directory.result_path(&claim.job_id);
            let (disk, is_synced) = (&*inner.directory.disk, inner.durability == Durability::Fsync);
            result_file::write(disk, &path, &claim.job_id, &text, is_synced)
                .map_err(|error| WriteRefusal::Unavailable(unavailable(&path, &error)))
        })
        .await
    }

    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes> {
        let job_id = job_id.clone();
        self.blocking(move |inner| {
            let path = inner.directory.result_path(&job_id);
            let disk = &*inner.directory.disk;
            result_file::read(disk, &path, &job_id, from, max_bytes).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    let message = "the whole answer is lost: it could not be kept, or was damaged; the job shows its beginning";
                    Error::new(Reason::DataLoss, message).for_job(job_id.as_str()).because(error)
                }
                _ => unavailable(&path, &error),
            })
        })
        .await
    }
}
