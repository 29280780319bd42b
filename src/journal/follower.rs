//! A reader of one job's events, live or late, through any door.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Batch, Chunk, EventLog, Head, JobId, Reader,
    live::Log,
    mark::{Broken, Published},
    read_cache::ReadCache,
};
use crate::error::{Error, Reason, Result};

/// How much a reader that is behind takes from the store at once. Bounds what it holds, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Events from one batch: those from `from` on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The batch, shared with every other reader.
    pub batch: Arc<Batch>,
    /// The index of the first event of it that this reader has not seen.
    pub from: usize,
}

impl Slice {
    /// The sequence of its first event.
    pub fn first_sequence(&self) -> u32 {
        self.batch.first_sequence() + u32::try_from(self.from).unwrap_or(0)
    }

    /// The sequence of its last event.
    pub fn last_sequence(&self) -> u32 {
        self.batch.last_sequence()
    }
}

/// Follows one job. It pulls: what it does not ask for costs nothing. Dropping it ends it.
pub struct Follower {
    pub(super) job_id: JobId,
    pub(super) events: Arc<dyn EventLog>,
    pub(super) cache: Arc<ReadCache>,
    pub(super) source: Source,
    pub(super) next_sequence: u32,
    /// Opened at the first read: a reader that keeps up with the tail never needs one.
    pub(super) reader: Option<Box<dyn Reader>>,
    pub(super) read_ahead: VecDeque<Arc<Batch>>,
}

pub(super) enum Source {
    /// This process writes it.
    Live(Arc<Log>),
    /// Somebody else does, or nobody now: this far, and more may come.
    Elsewhere { last_sequence: u32 },
    /// Nothing more comes.
    Ended { last_sequence: u32 },
}

impl Source {
    fn published(&self) -> Published {
        match self {
            Self::Live(log) => log.mark.now(),
            Self::Elsewhere { last_sequence } => {
                Published { last_sequence: *last_sequence, is_ended: false, broken: None }
            }
            Self::Ended { last_sequence } => {
                Published { last_sequence: *last_sequence, is_ended: true, broken: None }
            }
        }
    }
}

impl Follower {
    /// The job.
    pub fn job_id(&self) -> &JobId {
        &self.job_id
    }

    /// The last sequence that this reader has seen.
    pub fn last_seen(&self) -> u32 {
        self.next_sequence - 1
    }

    /// Whether the job's last event has been seen, or can be seen without waiting for the job.
    pub fn is_ended(&self) -> bool {
        self.source.published().is_ended
    }

    /// The last sequence that there is now.
    pub fn last_sequence(&self) -> u32 {
        self.source.published().last_sequence
    }

    /// Waits until the job's last event is stored, or nothing more will be, reading nothing.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] when the store cannot be asked now; [`Reason::JobNotFound`] when the job is removed.
    pub async fn wait_for_end(&mut self) -> Result<()> {
        loop {
            match &self.source {
                Source::Ended { .. } => return Ok(()),
                Source::Live(log) => match log.mark.wait_for(Published::is_over).await.broken {
                    Some(Broken::TakenOver) => self.look_elsewhere(),
                    _ => return Ok(()),
                },
                Source::Elsewhere { last_sequence } => {
                    let last_sequence = *last_sequence;
                    self.wait_elsewhere(last_sequence).await?;
                }
            }
        }
    }

    /// The job is somebody else's now: what they write is read from the store.
    fn look_elsewhere(&mut self) {
        self.source = Source::Elsewhere { last_sequence: self.source.published().last_sequence };
    }

    async fn wait_elsewhere(&mut self, last_sequence: u32) -> Result<()> {
        let Head { last_sequence, is_ended } = self.events.changed(&self.job_id, last_sequence).await?;
        self.source = match is_ended {
            true => Source::Ended { last_sequence },
            false => Source::Elsewhere { last_sequence },
        };
        Ok(())
    }

    /// The next events; waits for them while the job runs. `None` after the last one.
    ///
    /// Cancel safe: what was not answered is answered by the next call.
    ///
    /// # Errors
    /// [`Reason::DataLoss`] where the log is damaged: the reader then stands behind the damage and may go on.
    /// [`Reason::StoreUnavailable`] when the store cannot be read now.
    pub async fn next(&mut self) -> Result<Option<Slice>> {
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
                (Source::Live(_), Some(Broken::TakenOver)) => self.look_elsewhere(),
                (Source::Live(_), Some(Broken::Failed)) => {
                    // Told once; a reader that goes on then finds the end.
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
                    self.wait_elsewhere(last_sequence).await?;
                }
                (Source::Ended { .. }, _) => return Ok(None),
            }
        }
    }

    fn advance(&mut self, batch: Arc<Batch>) -> Slice {
        let from = (self.next_sequence - batch.first_sequence()) as usize;
        self.next_sequence = batch.last_sequence() + 1;
        Slice { batch, from }
    }

    fn take_read_ahead(&mut self) -> Option<Slice> {
        let batch = self.read_ahead.pop_front()?;
        Some(self.advance(batch))
    }

    fn take_from_tail(&mut self) -> Option<Slice> {
        let Source::Live(log) = &self.source else { return None };
        let batch = log.in_tail(self.next_sequence)?;
        // It has caught up: its file is for others.
        self.reader = None;
        Some(self.advance(batch))
    }

    fn take_from_cache(&mut self) -> Option<Slice> {
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
        let Chunk { batches, damage } = reader.read(self.next_sequence, last_sequence, READ_BYTES).await?;
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
