//! The event log that the journal requires of a store: batches are appended under a claim and read from any sequence on.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{Claim, Damage, EventBatch, JobId, WriteRefusal};
use crate::error::Result;

/// The result of one read.
#[derive(Debug, Default)]
pub struct ReadChunk {
    /// Batches in order; the first one may begin before the requested sequence.
    pub batches: Vec<Arc<EventBatch>>,
    /// Damage found before any batch: the sequences in it can no longer be read.
    pub damage: Option<Damage>,
}

/// Reads the stored events of one job. It may be able to read to the end even if the job is deleted meanwhile.
#[async_trait]
pub trait LogReader: Send {
    /// Reads about `max_bytes` from `next_sequence` on, and never beyond `last_sequence`, which must be stored. Each call must
    /// ask for later sequences than the one before. An empty chunk means that there is nothing left to read.
    async fn read(&mut self, next_sequence: u32, last_sequence: u32, max_bytes: usize) -> Result<ReadChunk>;
}

/// Consecutive batches of one job, without gaps.
#[derive(Clone, Debug)]
pub struct BatchAppend {
    /// The job, and the right to write to it.
    pub claim: Claim,
    /// The batches, at least one.
    pub batches: Vec<Arc<EventBatch>>,
}

/// How far a job's log is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The sequence of the last stored event; 0 if there is none.
    pub last_sequence: u32,
    /// Whether the job is marked as ended: no event will follow.
    pub is_ended: bool,
}

/// Stores the events of jobs. A call that returns `Ok` has stored its data with the configured durability.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Appends batches of many jobs at once, one entry per job, and returns one result per entry in the same order. An append
    /// succeeds only under the latest claim of the job and only where the log ends directly before it; batches that the log
    /// already holds, from an append whose result was lost, are skipped.
    async fn append(&self, appends: Vec<BatchAppend>) -> Vec<Result<(), WriteRefusal>>;

    /// Opens a reader of the events of a job.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`], [`crate::error::Reason::StoreUnavailable`].
    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn LogReader>>;

    /// Waits until the log of the job extends beyond `last_sequence` or the job is marked as ended, whichever process wrote that,
    /// and returns its head.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`], also if the job is deleted meanwhile; [`crate::error::Reason::StoreUnavailable`].
    async fn changed(&self, job_id: &JobId, last_sequence: u32) -> Result<LogHead>;

    /// Stores the full text of a result that is too long for an event. Must be called before the events that refer to it are
    /// appended.
    async fn put_result(&self, claim: &Claim, text: Bytes) -> Result<(), WriteRefusal>;

    /// Returns at most `max_bytes` of a stored result from byte `from` on, and nothing beyond its end.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`], [`crate::error::Reason::DataLoss`], [`crate::error::Reason::StoreUnavailable`].
    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes>;
}

/// Implements [`EventLog::changed`] on top of `bell`, which must be notified whenever something was stored.
pub(super) async fn wait_for_change(
    bell: &Notify,
    last_sequence: u32,
    head: impl Fn() -> Result<LogHead>,
) -> Result<LogHead> {
    loop {
        let mut rings = std::pin::pin!(bell.notified());
        // The waiter is registered before the check, so that a change between the check and the wait is not missed.
        rings.as_mut().enable();
        let head = head()?;
        if head.last_sequence > last_sequence || head.is_ended {
            return Ok(head);
        }
        rings.await;
    }
}
