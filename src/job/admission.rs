//! Who may run now and who has to wait.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    error::{Error, Reason, Result},
    journal::JobId,
};

/// The running and the waiting jobs.
#[derive(Debug)]
pub(super) struct Admission {
    max_running: usize,
    max_queued: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Places that were promised to submits which are not stored yet.
    promised: usize,
    waiting: VecDeque<(JobId, oneshot::Sender<()>)>,
    is_closed: bool,
}

/// A place that was promised; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Promise<'a> {
    admission: &'a Admission,
    is_kept: bool,
}

/// Whether a job runs now or waits for its turn.
#[derive(Debug)]
pub(super) enum Turn {
    Now,
    /// Its position, from 1, and the signal that its turn has come.
    Later(u32, oneshot::Receiver<()>),
}

impl Admission {
    pub(super) fn new(max_running: u32, max_queued: u32) -> Self {
        Self { max_running: max_running as usize, max_queued: max_queued as usize, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises a place, running or waiting, before anything is stored.
    ///
    /// # Errors
    /// [`Reason::QueueFull`], [`Reason::ShuttingDown`]; both with a hint when to try again.
    pub(super) fn promise(&self) -> Result<Promise<'_>> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Error::new(
                Reason::ShuttingDown,
                "the gateway is shutting down and takes no new jobs",
            )
            .retry_after(Duration::from_secs(5)));
        }
        let taken = state.running + state.waiting.len() + state.promised;
        if taken >= self.max_running + self.max_queued {
            let message = format!(
                "{} jobs run and {} wait, which is all this gateway takes; try again later",
                state.running,
                state.waiting.len()
            );
            // About one running job ends in this time when jobs are short; longer waits only cost a retry.
            return Err(Error::new(Reason::QueueFull, message).retry_after(Duration::from_secs(2)));
        }
        state.promised += 1;
        Ok(Promise { admission: self, is_kept: false })
    }

    /// Takes a job in that was accepted earlier, however many there are.
    pub(super) fn admit(&self, job_id: &JobId) -> Turn {
        self.state().enter(job_id, self.max_running)
    }

    /// Its position in the queue, from 1.
    pub(super) fn position(&self, job_id: &JobId) -> Option<u32> {
        let position = self.state().waiting.iter().position(|(waiting, _)| waiting == job_id)?;
        u32::try_from(position + 1).ok()
    }

    /// A waiting job gives up.
    pub(super) fn leave(&self, job_id: &JobId) {
        self.state().waiting.retain(|(waiting, _)| waiting != job_id);
    }

    /// A running job has ended; the next one has its turn.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.running -= 1;
        while state.running < self.max_running && !state.is_closed {
            let Some((_, turn)) = state.waiting.pop_front() else { return };
            // One that gave up in this moment hears nothing; the next one is asked.
            if turn.send(()).is_ok() {
                state.running += 1;
            }
        }
    }

    /// No new jobs, and no more starts.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
    }

    /// How many run and how many wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.waiting.len())
    }
}

impl State {
    fn enter(&mut self, job_id: &JobId, max_running: usize) -> Turn {
        if self.running < max_running && self.waiting.is_empty() && !self.is_closed {
            self.running += 1;
            return Turn::Now;
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back((job_id.clone(), sender));
        Turn::Later(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX), receiver)
    }
}

impl Promise<'_> {
    /// The job is stored: it takes its place.
    pub(super) fn keep(mut self, job_id: &JobId) -> Turn {
        self.is_kept = true;
        let mut state = self.admission.state();
        state.promised -= 1;
        state.enter(job_id, self.admission.max_running)
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.admission.state().promised -= 1;
        }
    }
}
