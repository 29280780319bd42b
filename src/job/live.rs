//! A job that has not ended: its state for everybody who asks, and the way to cancel it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{CancelledBy, fold};
use crate::{
    agent::Inputs,
    journal::JobId,
    pb::{Job, Timestamp, job_event::Payload},
};

#[derive(Debug)]
pub(super) struct Live {
    pub(super) job_id: JobId,
    state: Mutex<State>,
    /// Where answers to its questions go.
    pub(super) inputs: Arc<Inputs>,
    /// Stops the run.
    pub(super) cancel: CancellationToken,
    /// Told when the job asks something.
    asks: Notify,
    /// Cancelled when the job has ended and is marked so in the store.
    pub(super) ended: CancellationToken,
}

#[derive(Debug)]
struct State {
    job: Job,
    cancelled_by: Option<CancelledBy>,
}

impl Live {
    pub(super) fn new(job_id: JobId, job: Job) -> Self {
        Self {
            job_id,
            state: Mutex::new(State { job, cancelled_by: None }),
            inputs: Arc::default(),
            cancel: CancellationToken::new(),
            asks: Notify::new(),
            ended: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn job(&self) -> Job {
        self.state().job.clone()
    }

    pub(super) fn apply(&self, sequence: u32, payload: &Payload) {
        fold::apply(&mut self.state().job, sequence, Timestamp::now(), payload);
        if matches!(payload, Payload::InputRequired(_)) {
            self.asks.notify_waiters();
        }
    }

    /// Waits until the job asks something.
    pub(super) async fn asks(&self) {
        loop {
            let mut asked = std::pin::pin!(self.asks.notified());
            // Registered before the look, so that no question falls between the two.
            asked.as_mut().enable();
            if self.state().job.question.is_some() {
                return;
            }
            asked.await;
        }
    }

    /// Asks the job to end. The first who asks is the one who did it.
    pub(super) fn request_cancel(&self, by: CancelledBy) {
        let mut state = self.state();
        if state.cancelled_by.is_none() && !state.job.state().is_terminal() {
            state.cancelled_by = Some(by);
            if !matches!(state.cancelled_by, Some(CancelledBy::Shutdown)) {
                state.job.cancel_request_time.get_or_insert(Timestamp::now());
            }
        }
        drop(state);
        self.cancel.cancel();
    }

    pub(super) fn cancelled_by(&self) -> Option<CancelledBy> {
        self.state().cancelled_by.clone()
    }
}
