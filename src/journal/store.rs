//! What the journal asks of a store. Memory, embedded and later stores answer one contract suite.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Batch, Damage, JobId};
use crate::{
    error::Result,
    pb::{Job, storage::JobRecord},
};

/// What one read brought.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Batches in order; the first may begin before the sequence that was asked for.
    pub batches: Vec<Arc<Batch>>,
    /// Damage that was met before any batch: these sequences cannot be read any more.
    pub damage: Option<Damage>,
}

/// One reader of one job's stored events. It may still finish when the job is deleted meanwhile.
#[async_trait]
pub trait Reader: Send {
    /// Reads from `next_sequence` on, about `max_bytes` at a time and never beyond `last_sequence`, which has
    /// been stored. Later calls ask for later sequences. An empty chunk means that nothing is left to read.
    async fn read(&mut self, next_sequence: u32, last_sequence: u32, max_bytes: usize) -> Result<Chunk>;
}

/// A job as the store keeps it.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// What was accepted.
    pub record: JobRecord,
    /// The terminal job, once it ended.
    pub ended: Option<Job>,
}

/// The bounds of an ended job.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The record it began with, task left out where the store's catalogue has none.
    pub record: JobRecord,
    /// The terminal job without its result's text.
    pub job: Job,
    /// The bytes that its log takes.
    pub log_bytes: u64,
}

/// What a store found when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Jobs that ended.
    pub ended: Vec<Ended>,
    /// Jobs that did not: the record and the last sequence that was ever acknowledged.
    pub unfinished: Vec<(JobRecord, u32)>,
    /// Jobs of which nothing is left but that they were accepted and, where that is known, how they ended.
    pub lost: Vec<(JobRecord, Option<Job>)>,
    /// What could not be read.
    pub damage: Vec<Damage>,
}

/// Keeps job records and event batches. Every call that answers `Ok` has stored what it was given, to the
/// durability that was configured. Errors are [`crate::error::Reason::StoreUnavailable`] (nothing was stored;
/// the same call may succeed later) or [`crate::error::Reason::JobNotFound`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads what there is. Called once, first. Damage is reported, never hidden.
    async fn load(&self) -> Result<Loaded>;

    /// Stores a new job.
    async fn create(&self, job_id: &JobId, record: &JobRecord) -> Result<()>;

    /// Appends batches to a job that has not ended. One caller at a time for each job; the batches follow one
    /// another without a gap. After an error the same batches are given again.
    async fn append(&self, job_id: &JobId, batches: &[Arc<Batch>]) -> Result<()>;

    /// Marks a job as ended. Answers with the bytes that its log and its answer take.
    async fn finish(&self, job_id: &JobId, job: &Job) -> Result<u64>;

    /// Keeps the whole of an answer that is too long for an event. Called once, before the events that tell of it are
    /// appended.
    async fn put_result(&self, job_id: &JobId, text: Bytes) -> Result<()>;

    /// Reads from a place of a kept answer on, at most `max_bytes`; nothing behind its end.
    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes>;

    /// A reader of a job's events.
    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn Reader>>;

    /// Reads a job's record, and its end if there is one.
    async fn job(&self, job_id: &JobId) -> Result<StoredJob>;

    /// Removes a job and its events. Readers that are at it may still finish.
    async fn delete(&self, job_id: &JobId) -> Result<()>;

    /// Whether it takes anything now; leaves nothing behind.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Gives everything up; nothing is called afterwards.
    async fn close(&self);
}
