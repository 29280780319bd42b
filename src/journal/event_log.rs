//! What the journal asks of an event log: batches appended under a claim, read from any sequence on.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{Batch, Claim, Damage, JobId, Refusal};
use crate::error::Result;

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

/// Batches of one job, which follow one another without a gap.
#[derive(Clone, Debug)]
pub struct Append {
    /// The job, and the right to write to it.
    pub claim: Claim,
    /// The batches, at least one.
    pub batches: Vec<Arc<Batch>>,
}

/// How far a job's log is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last event; 0 when there is none.
    pub last_sequence: u32,
    /// Whether the job has ended and is marked so: nothing will follow.
    pub is_ended: bool,
}

/// Keeps the events of jobs. Whatever answers `Ok` is stored, to the durability that was configured.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Appends batches of many jobs at once, one entry for each job, and answers for each in the same order. An append goes
    /// through only under the job's latest claim and where the log ends before it; batches that the log holds already, from
    /// an append whose answer was not heard, are passed over.
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<(), Refusal>>;

    /// A reader of a job's events.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`], [`crate::error::Reason::StoreUnavailable`].
    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn Reader>>;

    /// Waits until the job's log holds more than `last_sequence`, or the job is marked as ended or gone, whoever wrote that.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`], [`crate::error::Reason::StoreUnavailable`].
    async fn changed(&self, job_id: &JobId, last_sequence: u32) -> Result<Head>;

    /// Keeps the whole of an answer that is too long for an event. Called before the events that tell of it are appended.
    async fn put_result(&self, claim: &Claim, text: Bytes) -> Result<(), Refusal>;

    /// Reads from a place of a kept answer on, at most `max_bytes`; nothing behind its end.
    ///
    /// # Errors
    /// [`crate::error::Reason::DataLoss`], [`crate::error::Reason::StoreUnavailable`].
    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes>;
}

/// Waits for [`EventLog::changed`]: `bell` rings whenever something was stored.
pub(super) async fn wait_for_change(
    bell: &Notify,
    last_sequence: u32,
    head: impl Fn() -> Result<Head>,
) -> Result<Head> {
    loop {
        let mut rings = std::pin::pin!(bell.notified());
        // Registered before the look, so that nothing falls between the two.
        rings.as_mut().enable();
        let head = head()?;
        if head.last_sequence > last_sequence || head.is_ended {
            return Ok(head);
        }
        rings.await;
    }
}
