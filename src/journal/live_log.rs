//! The log of a job that this process writes: events wait here to be stored and then remain in memory for a while for live
//! readers.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::{
    Claim, EventBatch, JobId,
    commit_queue::CommitQueue,
    encode,
    high_water_mark::{HighWaterMark, LogFailure, PublishedPosition},
    log_budget::LogBudget,
};
use crate::{
    error::{Error, Reason, Result},
    pb::{JobState, MAX_EVENT_BYTES, Timestamp, job_event::Payload},
    principal::Principal,
    sync::lock,
};

/// A batch is sealed at this size. Larger batches save little and delay readers.
const BATCH_BYTES: usize = 64 * 1024;
/// The memory that a batch takes in addition to its events.
const BATCH_OVERHEAD: usize = 256;
/// A batch below this size is small: a token, a line. The latest [`SMALL_BATCHES`] small batches are kept as written, for readers
/// that are close behind; once as many again have gathered before those, the earlier ones are joined into one batch.
const SMALL_BATCH: usize = 4 * 1024;
const SMALL_BATCHES: usize = 16;
/// Above this many unstored bytes, [`Appender::append`] waits for the store (back-pressure).
const MAX_PENDING_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
struct LiveLogState {
    next_sequence: u32,
    open: OpenBatch,
    sealed: VecDeque<Arc<EventBatch>>,
    unstored_bytes: usize,
    tail: VecDeque<Arc<EventBatch>>,
    /// The memory that the tail takes, in bytes.
    tail_bytes: usize,
    /// The number of consecutive small batches at the end of the tail.
    small: usize,
    /// State changes that are not stored yet, each with the sequence of the event that causes it.
    states: VecDeque<(u32, JobState)>,
    is_ended: bool,
    /// Whether the log is queued for the committer or being stored by it.
    is_queued: bool,
    /// The bytes that may be written before more of the byte budget must be taken, and all that has been taken.
    room_left: usize,
    room_taken: usize,
}

#[derive(Debug, Default)]
struct OpenBatch {
    bytes: BytesMut,
    ends: Vec<u32>,
}

/// One live log. The [`Appender`] writes to it, the committer stores it, and followers read it.
#[derive(Debug)]
pub(super) struct LiveLog {
    pub(super) claim: Claim,
    pub(super) owner: Principal,
    state: Mutex<LiveLogState>,
    pub(super) mark: HighWaterMark,
    /// Notified when unstored bytes were stored, or when appends must no longer wait for the store.
    space: Notify,
    is_backpressure_released: AtomicBool,
    max_tail_bytes: usize,
    committer: Arc<CommitQueue<LiveLog>>,
    room: Arc<LogBudget>,
}

impl Drop for LiveLog {
    fn drop(&mut self) {
        self.state().give_room_back(&self.room, &self.owner);
    }
}

impl LiveLog {
    pub(super) fn new(
        (claim, owner): (Claim, Principal),
        last_sequence: u32,
        max_tail_bytes: usize,
        (committer, room): (Arc<CommitQueue<LiveLog>>, Arc<LogBudget>),
    ) -> Self {
        Self {
            claim,
            owner,
            state: Mutex::new(LiveLogState {
                next_sequence: last_sequence + 1,
                open: OpenBatch::default(),
                sealed: VecDeque::new(),
                unstored_bytes: 0,
                tail: VecDeque::new(),
                tail_bytes: 0,
                small: 0,
                states: VecDeque::new(),
                is_ended: false,
                is_queued: false,
                room_left: 0,
                room_taken: 0,
            }),
            mark: HighWaterMark::at(last_sequence),
            space: Notify::new(),
            is_backpressure_released: AtomicBool::new(false),
            max_tail_bytes,
            committer,
            room,
        }
    }

    pub(super) fn job_id(&self) -> &JobId {
        &self.claim.job_id
    }

    fn state(&self) -> MutexGuard<'_, LiveLogState> {
        lock(&self.state)
    }

    /// Returns the batch of the tail that holds `sequence`, or `None` if the tail does not hold it.
    pub(super) fn tail_batch(&self, sequence: u32) -> Option<Arc<EventBatch>> {
        let state = self.state();
        let index = state.tail.partition_point(|batch| batch.last_sequence() < sequence);
        state.tail.get(index).filter(|batch| batch.first_sequence() <= sequence).cloned()
    }

    fn append(
        self: &Arc<Self>,
        payload: &Payload,
        numbered: impl FnOnce(u32) -> Option<JobState>,
    ) -> Result<u32> {
        let time = Timestamp::now();
        let mut state = self.state();
        if state.is_ended {
            return Err(Error::internal(format_args!("{}: event after the last one", self.job_id())));
        }
        let sequence = state.next_sequence;
        let size = encode::encoded_len(self.job_id(), sequence, &time, payload);
        if size > MAX_EVENT_BYTES {
            return Err(Error::internal(format_args!("{}: an event of {size} bytes", self.job_id())));
        }
        // A job that is being ended may always write its last events, whatever the budget.
        if size > state.room_left && !self.is_backpressure_released.load(Ordering::Relaxed) {
            let taken = self.room.take(&self.owner, size)?;
            state.room_left += taken;
            state.room_taken += taken;
        }
        state.room_left = state.room_left.saturating_sub(size);
        if state.open.bytes.capacity() == 0 {
            state.open.bytes.reserve(size.max(1024));
        }
        encode::encode(self.job_id(), sequence, &time, payload, &mut state.open.bytes);
        self.committer.counters.events_encoded.fetch_add(1, Ordering::Relaxed);
        let end = u32::try_from(state.open.bytes.len()).map_err(Error::internal)?;
        state.open.ends.push(end);
        state.unstored_bytes += size;
        state.next_sequence = sequence.checked_add(1).ok_or_else(|| Error::internal("sequence overflow"))?;
        state.is_ended = matches!(payload, Payload::EndOfStream(_));
        // Applied before the event can be stored, so that a reader who sees the event finds its effect applied.
        if let Some(changed) = numbered(sequence) {
            state.states.push_back((sequence, changed));
        }
        let is_urgent = state.is_ended || state.open.bytes.len() >= BATCH_BYTES;
        if is_urgent {
            state.seal();
        }
        let is_new = !std::mem::replace(&mut state.is_queued, true);
        drop(state);
        if is_new {
            self.committer.queue(self.clone());
        }
        if is_urgent {
            self.committer.commit_now();
        }
        Ok(sequence)
    }

    async fn wait_for_space(&self) {
        loop {
            let mut space = std::pin::pin!(self.space.notified());
            space.as_mut().enable();
            if self.state().unstored_bytes <= MAX_PENDING_BYTES
                || self.is_backpressure_released.load(Ordering::Relaxed)
                || self.mark.now().broken.is_some()
            {
                return;
            }
            space.await;
        }
    }

    /// Seals the open batch and takes everything that waits to be stored.
    pub(super) fn take(&self) -> Vec<Arc<EventBatch>> {
        let mut state = self.state();
        state.seal();
        state.sealed.drain(..).collect()
    }

    /// Puts batches that [`LiveLog::take`] returned and that were not stored back at the front of the queue.
    pub(super) fn requeue(&self, batches: Vec<Arc<EventBatch>>) {
        let mut state = self.state();
        for batch in batches.into_iter().rev() {
            state.sealed.push_front(batch);
        }
    }

    /// Removes the state changes up to `last_sequence` and returns the latest one, if there is any.
    pub(super) fn state_at(&self, last_sequence: u32) -> Option<JobState> {
        let mut state = self.state();
        let mut latest = None;
        while let Some((_, changed)) = state.states.pop_front_if(|(since, _)| *since <= last_sequence) {
            latest = Some(changed);
        }
        latest
    }

    /// Publishes stored batches to readers. Returns whether more events wait by now; if not, the next append queues the log
    /// again.
    pub(super) fn publish(&self, batches: Vec<Arc<EventBatch>>) -> bool {
        let mut state = self.state();
        let last = batches.last().map(|batch| batch.last_sequence());
        for batch in batches {
            state.unstored_bytes -= batch.bytes().len();
            state.add_to_tail(batch);
        }
        while state.tail_bytes > self.max_tail_bytes && state.tail.len() > 1 {
            if let Some(oldest) = state.tail.pop_front() {
                state.tail_bytes -= footprint(&oldest);
            }
        }
        let has_more = state.unstored_bytes > 0;
        state.is_queued = has_more;
        let is_ended = state.is_ended && !has_more;
        if is_ended {
            state.give_room_back(&self.room, &self.owner);
        }
        drop(state);
        if let Some(last_sequence) = last {
            self.mark.set(PublishedPosition { last_sequence, is_ended, broken: None });
        }
        self.space.notify_waiters();
        has_more
    }

    /// Marks the log as ended: its last event is already stored.
    pub(super) fn set_ended(&self) {
        self.state().is_ended = true;
        self.mark.set(PublishedPosition { is_ended: true, ..self.mark.now() });
    }

    /// Discards everything unstored and wakes all waiters with the reason: nothing more of the log will be stored.
    pub(super) fn mark_failed(&self, why: LogFailure) {
        let mut state = self.state();
        state.sealed.clear();
        state.open = OpenBatch::default();
        state.unstored_bytes = 0;
        state.is_ended = true;
        state.give_room_back(&self.room, &self.owner);
        drop(state);
        self.mark.set(PublishedPosition { broken: Some(why), ..self.mark.now() });
        self.space.notify_waiters();
    }
}

impl LiveLogState {
    fn give_room_back(&mut self, room: &LogBudget, owner: &Principal) {
        room.give_back(owner, std::mem::take(&mut self.room_taken));
        self.room_left = 0;
    }

    /// Seals the open batch, if it holds any event.
    fn seal(&mut self) {
        if self.open.ends.is_empty() {
            return;
        }
        let first_sequence = self.next_sequence - u32::try_from(self.open.ends.len()).unwrap_or(0);
        let ends = self.open.ends.as_slice().into();
        let size = self.open.bytes.len();
        let bytes = if size <= SMALL_BATCH {
            // A small batch gets an allocation of exactly its size, so that the large buffer can be reused.
            let bytes = Bytes::copy_from_slice(&self.open.bytes);
            self.open.bytes.clear();
            bytes
        } else {
            std::mem::take(&mut self.open.bytes).freeze()
        };
        self.open.ends.clear();
        self.sealed.push_back(Arc::new(EventBatch::new(first_sequence, bytes, ends)));
        if size >= BATCH_BYTES {
            // The log is busy, so the next batch will probably be as large.
            self.open.bytes.reserve(BATCH_BYTES + 4096);
        }
    }

    fn add_to_tail(&mut self, batch: Arc<EventBatch>) {
        self.tail_bytes += footprint(&batch);
        self.small = if batch.bytes().len() < SMALL_BATCH { self.small + 1 } else { 0 };
        self.tail.push_back(batch);
        self.small = self.small.min(self.tail.len());
        if self.small < 2 * SMALL_BATCHES {
            return;
        }
        let latest = self.tail.split_off(self.tail.len() - SMALL_BATCHES);
        let earlier = self.tail.split_off(self.tail.len() - SMALL_BATCHES);
        self.tail_bytes -= earlier.iter().map(footprint).sum::<usize>();
        let joined = Arc::new(EventBatch::joined(&earlier));
        self.tail_bytes += footprint(&joined);
        self.tail.push_back(joined);
        self.tail.extend(latest);
        self.small = SMALL_BATCHES;
    }
}

/// Returns the memory that a batch takes before it is rendered.
fn footprint(batch: &Arc<EventBatch>) -> usize {
    batch.bytes().len() + BATCH_OVERHEAD
}

/// The single writer of the events of a job.
#[derive(Debug)]
pub struct Appender {
    pub(super) log: Arc<LiveLog>,
}

/// Observes how far the events of a job are stored.
#[derive(Clone, Debug)]
pub struct StorageProgress(Arc<LiveLog>);

impl StorageProgress {
    /// Returns the id of the job.
    pub fn job_id(&self) -> &JobId {
        self.0.job_id()
    }

    /// Returns the owner of the job.
    pub fn owner(&self) -> &Principal {
        &self.0.owner
    }

    /// Returns the sequence of the last stored event.
    pub fn last_sequence(&self) -> u32 {
        self.0.mark.now().last_sequence
    }

    /// Waits until the event is stored or no further event will be.
    pub async fn reaches(&self, sequence: u32) {
        self.0.mark.wait_for(|now| now.last_sequence >= sequence || now.is_over()).await;
    }

    /// Stops [`Appender::append`] from waiting for the store. Events beyond the bound are then held in memory, so this is meant
    /// for a job that is being ended: ending it must not depend on a store that is stuck.
    pub fn release_backpressure(&self) {
        self.0.is_backpressure_released.store(true, Ordering::Relaxed);
        self.0.space.notify_waiters();
    }
}

impl Appender {
    /// Returns a handle that observes how far the events are stored.
    pub fn stored(&self) -> StorageProgress {
        StorageProgress(self.log.clone())
    }

    /// Returns the id of the job.
    pub fn job_id(&self) -> &JobId {
        self.log.job_id()
    }

    /// Appends one event and returns its sequence; once more than 1 MiB is unstored, it first waits for the store unless
    /// [`StorageProgress::release_backpressure`] was called. A sequence does not promise that the event is stored, because the log
    /// may fail later; dropping the future while it waits does not take the event back. `numbered` is called with the sequence
    /// first and returns the state of the job if the event changes it; it must neither block nor call back into the log.
    ///
    /// # Errors
    /// [`Reason::Internal`] for an event larger than [`MAX_EVENT_BYTES`], or when the log has ended, failed or been taken over;
    /// [`Reason::LogLimit`] if the byte budget of the running jobs is used up and back-pressure was not released.
    pub async fn append(
        &self,
        payload: &Payload,
        numbered: impl FnOnce(u32) -> Option<JobState>,
    ) -> Result<u32> {
        let sequence = self.log.append(payload, numbered)?;
        if self.log.state().unstored_bytes > MAX_PENDING_BYTES {
            self.log.wait_for_space().await;
        }
        Ok(sequence)
    }

    /// Waits until every appended event is stored.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] if that takes longer than `deadline` or will never happen.
    pub async fn flushed(&self, deadline: Duration) -> Result<()> {
        let wanted = self.log.state().next_sequence - 1;
        self.log.committer.commit_now();
        let stored = self.log.mark.wait_for(|now| now.last_sequence >= wanted || now.broken.is_some());
        match tokio::time::timeout(deadline, stored).await {
            Ok(now) if now.last_sequence >= wanted => Ok(()),
            _ => {
                Err(Error::new(Reason::StoreUnavailable, "the store does not take data now; try again later"))
            }
        }
    }
}
