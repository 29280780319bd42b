//! A reader of the events of one job, live or stored, for any door.

use std::{collections::VecDeque, sync::Arc};

use super::{
    EventBatch, EventLog, JobId, LogHead, LogReader, ReadChunk,
    high_water_mark::{LogFailure, PublishedPosition},
    live_log::LiveLog,
    read_cache::ReadCache,
};
use crate::error::{Error, Reason, Result};

/// How many bytes a reader that is behind reads from the store at once. This bounds what it holds in memory.
const READ_BYTES: usize = 256 * 1024;

/// The events of one batch from index `from` on.
#[derive(Clone, Debug)]
pub struct EventSlice {
    /// The batch, shared with every other reader.
    pub batch: Arc<EventBatch>,
    /// The index in the batch of the first event that this reader has not seen.
    pub from: usize,
}

impl EventSlice {
    /// Returns the sequence of the first event.
    pub fn first_sequence(&self) -> u32 {
        self.batch.first_sequence() + u32::try_from(self.from).unwrap_or(0)
    }

    /// Returns the sequence of the last event.
    pub fn last_sequence(&self) -> u32 {
        self.batch.last_sequence()
    }
}

/// Follows the events of one job. It pulls, so events that it does not ask for cost nothing. Dropping it ends the subscription.
pub struct EventFollower {
    pub(super) job_id: JobId,
    pub(super) events: Arc<dyn EventLog>,
    pub(super) cache: Arc<ReadCache>,
    pub(super) source: Source,
    pub(super) next_sequence: u32,
    /// Opened at the first read from the store; a reader that keeps up with the tail needs none.
    pub(super) reader: Option<Box<dyn LogReader>>,
    pub(super) read_ahead: VecDeque<Arc<EventBatch>>,
}

pub(super) enum Source {
    /// This process writes the log.
    Live(Arc<LiveLog>),
    /// Another process writes the log, or nobody does at present; events up to `last_sequence` are stored and more may follow.
    Elsewhere { last_sequence: u32 },
    /// No event follows `last_sequence`.
    Ended { last_sequence: u32 },
}

impl Source {
    fn published(&self) -> PublishedPosition {
        match self {
            Self::Live(log) => log.mark.now(),
            Self::Elsewhere { last_sequence } => {
                PublishedPosition { last_sequence: *last_sequence, is_ended: false, broken: None }
            }
            Self::Ended { last_sequence } => {
                PublishedPosition { last_sequence: *last_sequence, is_ended: true, broken: None }
            }
        }
    }
}

impl EventFollower {
    /// Returns the id of the job.
    pub fn job_id(&self) -> &JobId {
        &self.job_id
    }

    /// Returns the sequence after which this reader continues: that of the last event that it has seen or skipped as damaged.
    pub fn last_seen(&self) -> u32 {
        self.next_sequence - 1
    }

    /// Returns whether the last event of the job was seen or can be read without waiting for the job.
    pub fn is_ended(&self) -> bool {
        self.source.published().is_ended
    }

    /// Returns the sequence of the last event that is stored, as far as this reader knows.
    pub fn last_sequence(&self) -> u32 {
        self.source.published().last_sequence
    }

    /// Waits until the last event of the job is stored or no further event will be. Reads no events.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] if the store cannot be reached; [`Reason::JobNotFound`] if the job is removed.
    pub async fn wait_for_end(&mut self) -> Result<()> {
        loop {
            match &self.source {
                Source::Ended { .. } => return Ok(()),
                Source::Live(log) => match log.mark.wait_for(PublishedPosition::is_over).await.broken {
                    Some(LogFailure::TakenOver) => self.switch_to_store(),
                    _ => return Ok(()),
                },
                Source::Elsewhere { last_sequence } => {
                    let last_sequence = *last_sequence;
                    self.wait_for_store_change(last_sequence).await?;
                }
            }
        }
    }

    /// Switches to the store as the source, because another process now writes the job.
    fn switch_to_store(&mut self) {
        self.source = Source::Elsewhere { last_sequence: self.source.published().last_sequence };
    }

    async fn wait_for_store_change(&mut self, last_sequence: u32) -> Result<()> {
        let LogHead { last_sequence, is_ended } = self.events.changed(&self.job_id, last_sequence).await?;
        self.source = match is_ended {
            true => Source::Ended { last_sequence },
            false => Source::Elsewhere { last_sequence },
        };
        Ok(())
    }

    /// Returns the next events, waiting for them while the job runs, and `None` after the last one.
    ///
    /// Cancel safe: events that were not returned are returned by the next call.
    ///
    /// # Errors
    /// [`Reason::DataLoss`] if the log is damaged: the reader is then positioned after the damage and may continue.
    /// [`Reason::StoreUnavailable`] if the store cannot be read; [`Reason::JobNotFound`] if the job was removed.
    pub async fn next(&mut self) -> Result<Option<EventSlice>> {
        loop {
            if let Some(slice) = self.take_read_ahead() {
                return Ok(Some(slice));
            }
            let published = self.source.published();
            if self.next_sequence <= published.last_sequence {
                if let Some(slice) = self.take_from_tail().or_else(|| self.take_from_cache()) {
                    return Ok(Some(slice));
                }
                self.read(published.last_sequence).await?;
                continue;
            }
            if published.is_ended {
                return Ok(None);
            }
            let next_sequence = self.next_sequence;
            match (&self.source, published.broken) {
                (Source::Live(_), Some(LogFailure::TakenOver)) => self.switch_to_store(),
                (Source::Live(_), Some(LogFailure::Failed)) => {
                    // Reported once; the next call then returns `None`.
                    let last_sequence = published.last_sequence;
                    self.source = Source::Ended { last_sequence };
                    let message =
                        "the store failed for this job and its later events are lost; the job has ended";
                    return Err(Error::new(Reason::DataLoss, message)
                        .with_sequence(last_sequence)
                        .for_job(self.job_id.as_str()));
                }
                (Source::Live(log), None) => {
                    log.mark.wait_for(|now| now.last_sequence >= next_sequence || now.is_over()).await;
                }
                (Source::Elsewhere { last_sequence }, _) => {
                    let last_sequence = *last_sequence;
                    self.wait_for_store_change(last_sequence).await?;
                }
                (Source::Ended { .. }, _) => return Ok(None),
            }
        }
    }

    fn advance(&mut self, batch: Arc<EventBatch>) -> EventSlice {
        let from = (self.next_sequence - batch.first_sequence()) as usize;
        self.next_sequence = batch.last_sequence() + 1;
        EventSlice { batch, from }
    }

    fn take_read_ahead(&mut self) -> Option<EventSlice> {
        let batch = self.read_ahead.pop_front()?;
        Some(self.advance(batch))
    }

    fn take_from_tail(&mut self) -> Option<EventSlice> {
        let Source::Live(log) = &self.source else { return None };
        let batch = log.tail_batch(self.next_sequence)?;
        // The reader has caught up with the tail, so its file handle is released.
        self.reader = None;
        Some(self.advance(batch))
    }

    fn take_from_cache(&mut self) -> Option<EventSlice> {
        let batch = self.cache.get(&self.job_id, self.next_sequence)?;
        Some(self.advance(batch))
    }

    async fn read(&mut self, last_sequence: u32) -> Result<()> {
        let cache = self.cache.clone();
        let _turn = cache.turn(&self.job_id, self.next_sequence).await;
        if let Some(batch) = self.cache.get(&self.job_id, self.next_sequence) {
            self.read_ahead.push_back(batch);
            return Ok(());
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.events.reader(&self.job_id).await?),
        };
        let ReadChunk { batches, damage } =
            reader.read(self.next_sequence, last_sequence, READ_BYTES).await?;
        if let Some(damage) = damage {
            self.next_sequence = damage.lost.map_or(last_sequence, |(_, last)| last.min(last_sequence)) + 1;
            return Err(damage.to_error());
        }
        if batches.is_empty() {
            self.next_sequence = last_sequence + 1;
            let message = format!("the store ends before event {last_sequence}");
            return Err(Error::new(Reason::DataLoss, message)
                .with_sequence(last_sequence)
                .for_job(self.job_id.as_str()));
        }
        let kept = batches.into_iter().map(|batch| self.cache.keep(&self.job_id, batch));
        self.read_ahead.extend(kept);
        Ok(())
    }
}
