//! The log of a job that has not ended: events wait here to be stored, then stay a while for live readers.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{sync::Notify, time::Instant};

use super::{
    Batch, JobId, Store, encode,
    mark::{Mark, Published},
};
use crate::{
    error::{Error, Reason, Result},
    pb::{MAX_EVENT_BYTES, Timestamp, job_event::Payload},
};

/// A batch is sealed at this size. Larger ones save little and make readers wait.
const BATCH_BYTES: usize = 64 * 1024;
/// Events that come within this time of the last write are stored together.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// Unstored bytes beyond this make the writer of events wait for the store.
const MAX_PENDING_BYTES: usize = 1024 * 1024;
/// How long the store rests after a failed write before it is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Counts the work that is shared between readers, to show that it is.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events encoded.
    pub events_encoded: AtomicU64,
    /// Batches written.
    pub batches_stored: AtomicU64,
}

#[derive(Debug)]
struct State {
    next_sequence: u32,
    open: Open,
    sealed: VecDeque<Arc<Batch>>,
    unstored_bytes: usize,
    tail: VecDeque<Arc<Batch>>,
    tail_bytes: usize,
    is_ended: bool,
    /// The writer of events is gone: once everything is stored, nothing more will come.
    is_released: bool,
}

#[derive(Debug, Default)]
struct Open {
    bytes: BytesMut,
    ends: Vec<u32>,
}

/// One live log. The [`Appender`] writes to it, one writer task stores it, followers read it.
#[derive(Debug)]
pub(super) struct Log {
    job_id: JobId,
    state: Mutex<State>,
    pub(super) mark: Mark,
    /// Something waits to be stored.
    work: Notify,
    /// A full batch or the end waits: do not wait for more.
    urgent: Notify,
    /// The store caught up.
    space: Notify,
    max_tail_bytes: usize,
    counters: Arc<Counters>,
}

impl Log {
    pub(super) fn new(
        job_id: JobId,
        last_sequence: u32,
        max_tail_bytes: usize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            job_id,
            state: Mutex::new(State {
                next_sequence: last_sequence + 1,
                open: Open::default(),
                sealed: VecDeque::new(),
                unstored_bytes: 0,
                tail: VecDeque::new(),
                tail_bytes: 0,
                is_ended: false,
                is_released: false,
            }),
            mark: Mark::at(last_sequence),
            work: Notify::new(),
            urgent: Notify::new(),
            space: Notify::new(),
            max_tail_bytes,
            counters,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch of the tail that holds `sequence`, and where the tail begins if it does not reach back so far.
    pub(super) fn in_tail(&self, sequence: u32) -> Option<Arc<Batch>> {
        let state = self.state();
        let index = state.tail.partition_point(|batch| batch.last_sequence() < sequence);
        state.tail.get(index).filter(|batch| batch.first_sequence() <= sequence).cloned()
    }

    fn append(&self, payload: &Payload, numbered: impl FnOnce(u32)) -> Result<u32> {
        let time = Timestamp::now();
        let mut state = self.state();
        if state.is_ended {
            return Err(Error::internal(format_args!("{}: event after the last one", self.job_id)));
        }
        let sequence = state.next_sequence;
        let size = encode::encoded_len(&self.job_id, sequence, &time, payload);
        if size > MAX_EVENT_BYTES {
            return Err(Error::internal(format_args!("{}: an event of {size} bytes", self.job_id)));
        }
        if state.open.bytes.capacity() == 0 {
            state.open.bytes.reserve(size.max(1024));
        }
        encode::encode(&self.job_id, sequence, &time, payload, &mut state.open.bytes);
        self.counters.events_encoded.fetch_add(1, Ordering::Relaxed);
        let end = u32::try_from(state.open.bytes.len()).map_err(Error::internal)?;
        let is_first = state.unstored_bytes == 0;
        state.open.ends.push(end);
        state.unstored_bytes += size;
        state.next_sequence = sequence.checked_add(1).ok_or_else(|| Error::internal("sequence overflow"))?;
        state.is_ended = matches!(payload, Payload::EndOfStream(_));
        // Before anybody can store it: whoever sees the event finds it applied.
        numbered(sequence);
        let is_urgent = state.is_ended || state.open.bytes.len() >= BATCH_BYTES;
        if is_urgent {
            state.seal();
        }
        drop(state);
        if is_first {
            self.work.notify_one();
        }
        if is_urgent {
            self.urgent.notify_one();
        }
        Ok(sequence)
    }

    /// Waits until unstored bytes are below their bound.
    async fn wait_for_space(&self) {
        loop {
            let space = self.space.notified();
            if self.state().unstored_bytes <= MAX_PENDING_BYTES {
                return;
            }
            space.await;
        }
    }

    /// Stores and publishes until the last event is stored, or the appender is gone and what it wrote is stored. Runs as one task for each live log.
    pub(super) async fn store_until_ended(self: Arc<Self>, store: Arc<dyn Store>) {
        let mut next_write = Instant::now();
        while !self.is_done() {
            self.work.notified().await;
            while let Some(is_urgent) = self.has_work() {
                if !is_urgent && Instant::now() < next_write {
                    tokio::select! {
                        // Both branches only wait; what is pending stays pending.
                        biased;
                        () = tokio::time::sleep_until(next_write) => {}
                        () = self.urgent.notified() => {}
                    }
                }
                let batches = self.take();
                while let Err(error) = store.append(&self.job_id, &batches).await {
                    tracing::error!(job_id = %self.job_id, cause = error.cause(), "store failed, trying again");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                self.counters.batches_stored.fetch_add(batches.len() as u64, Ordering::Relaxed);
                next_write = Instant::now() + BATCH_TIME;
                if self.publish(batches) {
                    return;
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        let state = self.state();
        state.is_released && state.unstored_bytes == 0
    }

    fn has_work(&self) -> Option<bool> {
        let state = self.state();
        (state.unstored_bytes > 0).then(|| !state.sealed.is_empty())
    }

    fn take(&self) -> Vec<Arc<Batch>> {
        let mut state = self.state();
        state.seal();
        state.sealed.drain(..).collect()
    }

    /// Shows stored batches to the readers. Answers whether the last event was among them.
    fn publish(&self, batches: Vec<Arc<Batch>>) -> bool {
        let mut state = self.state();
        let Some(last) = batches.last().map(|batch| batch.last_sequence()) else { return false };
        for batch in batches {
            state.unstored_bytes -= batch.bytes().len();
            state.tail_bytes += batch.bytes().len();
            state.tail.push_back(batch);
        }
        while state.tail_bytes > self.max_tail_bytes && state.tail.len() > 1 {
            if let Some(oldest) = state.tail.pop_front() {
                state.tail_bytes -= oldest.bytes().len();
            }
        }
        let is_ended = state.is_ended && state.unstored_bytes == 0;
        drop(state);
        self.mark.set(Published { last_sequence: last, is_ended });
        self.space.notify_waiters();
        is_ended
    }
}

impl State {
    /// Closes the open batch.
    fn seal(&mut self) {
        if self.open.ends.is_empty() {
            return;
        }
        let capacity_hint = self.open.bytes.len();
        let open = std::mem::take(&mut self.open);
        let first_sequence = self.next_sequence - u32::try_from(open.ends.len()).unwrap_or(0);
        self.sealed.push_back(Arc::new(Batch::new(first_sequence, open.bytes.freeze(), open.ends.into())));
        if capacity_hint >= BATCH_BYTES {
            // A busy log: the next batch is as large.
            self.open.bytes.reserve(BATCH_BYTES + 4096);
            self.open.ends.reserve(1024);
        }
    }
}

/// The one writer of a job's events.
#[derive(Debug)]
pub struct Appender {
    pub(super) log: Arc<Log>,
}

impl Drop for Appender {
    /// A job that stays queued at a shutdown has no last event; its log is closed as it is.
    fn drop(&mut self) {
        self.log.state().is_released = true;
        self.log.work.notify_one();
    }
}

/// How far a job's events are stored.
#[derive(Clone, Debug)]
pub struct Stored(Arc<Log>);

impl Stored {
    /// The job.
    pub fn job_id(&self) -> &JobId {
        &self.0.job_id
    }

    /// The last event that is stored.
    pub fn last_sequence(&self) -> u32 {
        self.0.mark.now().last_sequence
    }

    /// Waits until this event is stored.
    pub async fn reaches(&self, sequence: u32) {
        self.0.mark.wait_for(|now| now.last_sequence >= sequence).await;
    }
}

impl Appender {
    /// How far its events are stored.
    pub fn stored(&self) -> Stored {
        Stored(self.log.clone())
    }

    /// The job.
    pub fn job_id(&self) -> &JobId {
        &self.log.job_id
    }

    /// Appends one event and answers with its sequence. It is stored soon and seen only then; this waits only
    /// when the store is behind by more than 1 MiB. `numbered` is told the sequence first; it must not wait, nor come back
    /// here.
    ///
    /// # Errors
    /// [`Reason::Internal`] for an event beyond [`MAX_EVENT_BYTES`] or after the last one.
    pub async fn append(&self, payload: &Payload, numbered: impl FnOnce(u32)) -> Result<u32> {
        let sequence = self.log.append(payload, numbered)?;
        if self.log.state().unstored_bytes > MAX_PENDING_BYTES {
            self.log.wait_for_space().await;
        }
        Ok(sequence)
    }

    /// Waits until everything that was appended is stored.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] when it is not within `deadline`.
    pub async fn flushed(&self, deadline: Duration) -> Result<()> {
        let wanted = self.log.state().next_sequence - 1;
        let stored = self.log.mark.wait_for(|now| now.last_sequence >= wanted);
        match tokio::time::timeout(deadline, stored).await {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Error::new(Reason::StoreUnavailable, "the store does not take data now; try again later"))
            }
        }
    }
}
