//! A job that has not ended: its state for everybody who asks, and the way to cancel it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio_util::sync::CancellationToken;

use super::{CancelledBy, admission::Permit, fold, held::Holds};
use crate::{
    agent::Inputs,
    journal::{JobId, Stored},
    pb::{Job, JobState, StatusReason, Timestamp, job_event::Payload},
    principal::Principal,
};

#[derive(Debug)]
pub(super) struct Live {
    pub(super) job_id: JobId,
    pub(super) caller: Principal,
    state: Mutex<State>,
    /// How far its events are stored.
    log: Stored,
    /// Where answers to its questions go.
    pub(super) inputs: Arc<Inputs>,
    /// Stops the run.
    pub(super) cancel: CancellationToken,
    /// Cancelled when the job has ended and is marked so in the store.
    pub(super) ended: CancellationToken,
}

#[derive(Debug)]
struct State {
    /// With every event that was written.
    job: Job,
    /// With every event that is stored: what anybody outside is told. An event that a crash may still take away is no
    /// reason to call a job ended.
    told: Job,
    /// Written events that matter to `told` and are not in it yet.
    waiting: VecDeque<(u32, Timestamp, Payload)>,
    cancelled_by: Option<CancelledBy>,
    holds: Holds,
    permit: Weak<Mutex<Permit>>,
    /// It waits for a person or an agent, and not for what it does itself.
    rests: bool,
}

impl Live {
    pub(super) fn new(job: Job, log: Stored) -> Self {
        let state = State {
            told: job.clone(),
            job,
            waiting: VecDeque::new(),
            cancelled_by: None,
            holds: Holds::default(),
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job with every event that was written, stored or not.
    pub(super) fn job(&self) -> Job {
        self.state().job.clone()
    }

    /// The job as far as it is stored.
    pub(super) fn told(&self) -> Job {
        let mut state = self.state();
        state.tell(self.log.last_sequence());
        state.told.clone()
    }

    /// Looks at, or changes, who holds it.
    pub(super) fn holds<T>(&self, change: impl FnOnce(&mut Holds) -> T) -> T {
        change(&mut self.state().holds)
    }

    /// What the job writes waits for the store no more.
    pub(super) fn relieve(&self) {
        self.log.relieve();
    }

    /// Waits until everything that was written by now is stored.
    pub(super) async fn stored(&self) {
        let written = self.state().job.last_sequence;
        self.log.reaches(written).await;
    }

    /// The permit that the job works under, while it has one.
    pub(super) fn works_under(&self, permit: &Arc<Mutex<Permit>>) {
        self.state().permit = Arc::downgrade(permit);
    }

    /// Applies an event that was written. Answers with the new state where it changed.
    pub(super) fn apply(&self, sequence: u32, payload: &Payload) -> Option<JobState> {
        let mut state = self.state();
        let (before, time) = (state.job.state(), Timestamp::now());
        fold::apply(&mut state.job, sequence, time, payload);
        if fold::matters(payload) {
            state.tell(self.log.last_sequence());
            state.waiting.push_back((sequence, time, payload.clone()));
        }
        let after = state.job.state();
        let waits_for_agent = matches!(payload, Payload::StatusUpdate(update) if update.reason() == StatusReason::WaitingForAgent);
        let rests = waits_for_agent || after == JobState::InputRequired;
        if rests != state.rests
            && let Some(permit) = state.permit.upgrade()
        {
            state.rests = rests;
            let mut permit = permit.lock().unwrap_or_else(PoisonError::into_inner);
            if rests { permit.rest() } else { permit.work() }
        }
        (before != after).then_some(after)
    }

    /// Waits until the job asks something, and that is stored.
    pub(super) async fn asks(&self) {
        // Looked at whenever more is stored.
        loop {
            let told = self.told();
            if told.question.is_some() {
                return;
            }
            let wanted = told.last_sequence + 1;
            self.log.reaches(wanted).await;
            if self.log.last_sequence() < wanted {
                // Nothing more will be stored.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks the job to end. The first who asks is the one who did it.
    pub(super) fn request_cancel(&self, by: CancelledBy) {
        let mut state = self.state();
        if state.cancelled_by.is_none() && !state.job.state().is_terminal() {
            state.cancelled_by = Some(by);
            if !matches!(state.cancelled_by, Some(CancelledBy::Shutdown)) {
                let now = Timestamp::now();
                state.job.cancel_request_time.get_or_insert(now);
                state.told.cancel_request_time.get_or_insert(now);
            }
        }
        drop(state);
        self.cancel.cancel();
    }

    pub(super) fn cancelled_by(&self) -> Option<CancelledBy> {
        self.state().cancelled_by.clone()
    }
}

impl State {
    fn tell(&mut self, stored: u32) {
        while let Some((sequence, time, payload)) =
            self.waiting.pop_front_if(|(sequence, ..)| *sequence <= stored)
        {
            fold::apply(&mut self.told, sequence, time, &payload);
        }
        self.told.last_sequence = self.told.last_sequence.max(stored);
    }
}
