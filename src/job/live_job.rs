//! A live job, which has not ended: its state for everyone who asks, and the means to cancel it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use tokio_util::sync::CancellationToken;

use super::{CancelledBy, admission::Permit, client_holds::ClientHolds, fold};
use crate::{
    agent::QuestionSlot,
    journal::{JobId, StorageProgress},
    pb::{Job, JobState, StatusReason, Timestamp, job_event::Payload},
    principal::Principal,
    sync::lock,
};

#[derive(Debug)]
pub(super) struct LiveJob {
    pub(super) job_id: JobId,
    pub(super) caller: Principal,
    state: Mutex<LiveJobState>,
    /// Shows how far the job's events are stored.
    log: StorageProgress,
    /// Receives the answers to the job's questions.
    pub(super) inputs: Arc<QuestionSlot>,
    /// Cancelled to stop the run.
    pub(super) cancel: CancellationToken,
    /// Cancelled when the job has ended and its end is stored, and when the shutdown leaves it queued.
    pub(super) ended: CancellationToken,
}

#[derive(Debug)]
struct LiveJobState {
    /// The state after every event that was written.
    job: Job,
    /// The snapshot after every event that is stored, which is all that callers see: an event that a crash may still lose
    /// must not make a job appear ended.
    stored_snapshot: Job,
    /// Written events that change `stored_snapshot` and are not applied to it yet.
    waiting: VecDeque<(u32, Timestamp, Payload)>,
    cancelled_by: Option<CancelledBy>,
    holds: ClientHolds,
    permit: Weak<Mutex<Permit>>,
    /// Whether it waits for a person or an agent instead of working.
    rests: bool,
}

impl LiveJob {
    pub(super) fn new(job: Job, log: StorageProgress) -> Self {
        let state = LiveJobState {
            stored_snapshot: job.clone(),
            job,
            waiting: VecDeque::new(),
            cancelled_by: None,
            holds: ClientHolds::default(),
            permit: Weak::new(),
            rests: false,
        };
        Self {
            job_id: log.job_id().clone(),
            caller: log.owner().clone(),
            state: Mutex::new(state),
            log,
            inputs: Arc::default(),
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LiveJobState> {
        lock(&self.state)
    }

    /// Returns the job's state after every event that was written, whether stored or not.
    pub(super) fn job(&self) -> Job {
        self.state().job.clone()
    }

    /// Returns the snapshot of the job after every event that is stored.
    pub(super) fn stored_snapshot(&self) -> Job {
        let mut state = self.state();
        state.advance_stored_snapshot(self.log.last_sequence());
        state.stored_snapshot.clone()
    }

    /// Reads or changes which clients hold the job.
    pub(super) fn holds<T>(&self, change: impl FnOnce(&mut ClientHolds) -> T) -> T {
        change(&mut self.state().holds)
    }

    /// Lifts the back-pressure of the store from the job's writer, so that its end is not delayed.
    pub(super) fn release_backpressure(&self) {
        self.log.release_backpressure();
    }

    /// Waits until every event that was written before the call is stored, or nothing more will be.
    pub(super) async fn stored(&self) {
        let written = self.state().job.last_sequence;
        self.log.reaches(written).await;
    }

    /// Sets the permit that the job works under; it is referenced weakly.
    pub(super) fn set_permit(&self, permit: &Arc<Mutex<Permit>>) {
        self.state().permit = Arc::downgrade(permit);
    }

    /// Applies an event that was written. Returns the new state if it has changed.
    pub(super) fn apply(&self, sequence: u32, payload: &Payload) -> Option<JobState> {
        let mut state = self.state();
        let (before, time) = (state.job.state(), Timestamp::now());
        fold::apply(&mut state.job, sequence, time, payload);
        if fold::changes_snapshot(payload) {
            state.advance_stored_snapshot(self.log.last_sequence());
            state.waiting.push_back((sequence, time, payload.clone()));
        }
        let after = state.job.state();
        let waits_for_agent = matches!(payload, Payload::StatusUpdate(update) if update.reason() == StatusReason::WaitingForAgent);
        let rests = waits_for_agent || after == JobState::InputRequired;
        if rests != state.rests
            && let Some(permit) = state.permit.upgrade()
        {
            state.rests = rests;
            let mut permit = lock(&permit);
            if rests { permit.suspend() } else { permit.resume() }
        }
        (before != after).then_some(after)
    }

    /// Waits until the job has a stored open question; waits forever if it will have none.
    pub(super) async fn wait_for_question(&self) {
        // Checked again whenever more events are stored.
        loop {
            let stored_snapshot = self.stored_snapshot();
            if stored_snapshot.question.is_some() {
                return;
            }
            let wanted = stored_snapshot.last_sequence + 1;
            self.log.reaches(wanted).await;
            if self.log.last_sequence() < wanted {
                // Nothing more will be stored.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks the job to end. Only the first request is recorded as the cause.
    pub(super) fn request_cancel(&self, by: CancelledBy) {
        let mut state = self.state();
        if state.cancelled_by.is_none() && !state.job.state().is_terminal() {
            state.cancelled_by = Some(by);
            if !matches!(state.cancelled_by, Some(CancelledBy::Shutdown)) {
                let now = Timestamp::now();
                state.job.cancel_request_time.get_or_insert(now);
                state.stored_snapshot.cancel_request_time.get_or_insert(now);
            }
        }
        drop(state);
        self.cancel.cancel();
    }

    pub(super) fn cancelled_by(&self) -> Option<CancelledBy> {
        self.state().cancelled_by.clone()
    }
}

impl LiveJobState {
    fn advance_stored_snapshot(&mut self, stored: u32) {
        while let Some((sequence, time, payload)) =
            self.waiting.pop_front_if(|(sequence, ..)| *sequence <= stored)
        {
            fold::apply(&mut self.stored_snapshot, sequence, time, &payload);
        }
        self.stored_snapshot.last_sequence = self.stored_snapshot.last_sequence.max(stored);
    }
}
