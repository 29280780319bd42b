//! Who may run now and who has to wait.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::queue::FairQueue;
use crate::{
    error::{Error, Reason, Result},
    journal::JobId,
    principal::Principal,
};

/// The hint to whoever was refused. About one running job ends in this time when jobs are short; longer waits only cost
/// a retry.
const RETRY_AFTER: Duration = Duration::from_secs(2);

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
    /// Places that were promised to submits which are not stored yet, by caller; none is 0.
    promised: BTreeMap<Principal, usize>,
    waiting: FairQueue<JobId, oneshot::Sender<()>>,
    is_closed: bool,
}

/// A place that was promised; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Promise {
    admission: Arc<Admission>,
    caller: Principal,
    is_kept: bool,
}

/// Whether a job runs now or waits for its turn.
#[derive(Debug)]
pub(super) enum Turn {
    Now(Permit),
    Later(Waiting),
}

/// The right to do work. Dropping it, however that comes about, gives the next job its turn.
#[derive(Debug)]
pub(super) struct Permit(Arc<Admission>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A job's place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    admission: Arc<Admission>,
    job_id: JobId,
    /// Its position when it came, from 1.
    pub(super) position: u32,
    turn: Option<oneshot::Receiver<()>>,
}

impl Waiting {
    /// Waits for the turn; `None`: there will be none any more. Cancel safe.
    pub(super) async fn turn(&mut self) -> Option<Permit> {
        let given = self.turn.as_mut()?.await;
        self.turn = None;
        given.is_ok().then(|| Permit(self.admission.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else { return };
        self.admission.leave(&self.job_id);
        if turn.try_recv().is_ok() {
            // It was given in the same moment; it goes to the next.
            self.admission.release();
        }
    }
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
    pub(super) fn promise(self: &Arc<Self>, caller: &Principal) -> Result<Promise> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Error::new(
                Reason::ShuttingDown,
                "the gateway is shutting down and takes no new jobs",
            )
            .retry_after(Duration::from_secs(5)));
        }
        let taken = state.running + state.waiting.len() + state.promised.values().sum::<usize>();
        if taken >= self.max_running + self.max_queued {
            let message = format!(
                "{} jobs run and {} wait, which is all this gateway takes; try again later",
                state.running,
                state.waiting.len()
            );
            return Err(Error::new(Reason::QueueFull, message).retry_after(RETRY_AFTER));
        }
        // Of the last tenth, who has much waiting gets nothing: the next caller finds a place.
        let is_last_tenth = taken >= self.max_running + self.max_queued - self.max_queued / 10;
        let own = state.waiting.len_of(caller) + state.promised.get(caller).copied().unwrap_or(0);
        if is_last_tenth && own > self.max_queued / (state.waiting.callers() + 1) {
            let message = format!(
                "{own} of your jobs wait already, and the last places of the queue are for callers with fewer; try again later"
            );
            return Err(Error::new(Reason::QueueFull, message).retry_after(RETRY_AFTER));
        }
        *state.promised.entry(caller.clone()).or_default() += 1;
        Ok(Promise { admission: self.clone(), caller: caller.clone(), is_kept: false })
    }

    /// Takes a job in that was accepted earlier, however many there are.
    pub(super) fn admit(self: &Arc<Self>, caller: &Principal, job_id: &JobId) -> Turn {
        let entered = self.state().enter(caller, job_id, self.max_running);
        self.turn(job_id, entered)
    }

    fn turn(self: &Arc<Self>, job_id: &JobId, entered: Option<(u32, oneshot::Receiver<()>)>) -> Turn {
        let admission = self.clone();
        match entered {
            None => Turn::Now(Permit(admission)),
            Some((position, turn)) => {
                Turn::Later(Waiting { admission, job_id: job_id.clone(), position, turn: Some(turn) })
            }
        }
    }

    /// Its position in the queue, from 1.
    pub(super) fn position(&self, job_id: &JobId) -> Option<u32> {
        u32::try_from(self.state().waiting.position(job_id)?).ok()
    }

    /// A waiting job gives up.
    fn leave(&self, job_id: &JobId) {
        self.state().waiting.remove(job_id);
    }

    /// A running job has ended; the next one has its turn.
    fn release(&self) {
        let mut state = self.state();
        state.running -= 1;
        while state.running < self.max_running && !state.is_closed {
            let Some(turn) = state.waiting.pop() else { return };
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
    /// One promise of this caller's is kept, or given back.
    fn settle(&mut self, caller: &Principal) {
        if let Some(promised) = self.promised.get_mut(caller) {
            *promised -= 1;
            if *promised == 0 {
                self.promised.remove(caller);
            }
        }
    }

    /// Nothing: it runs now. Else its position, from 1, and the signal that its turn has come.
    fn enter(
        &mut self,
        caller: &Principal,
        job_id: &JobId,
        max_running: usize,
    ) -> Option<(u32, oneshot::Receiver<()>)> {
        if self.running < max_running && self.waiting.is_empty() && !self.is_closed {
            self.running += 1;
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(caller, job_id.clone(), sender);
        let position = self.waiting.position(job_id).unwrap_or(self.waiting.len());
        Some((u32::try_from(position).unwrap_or(u32::MAX), receiver))
    }
}

impl Promise {
    /// The job is stored: it takes its place.
    pub(super) fn keep(mut self, job_id: &JobId) -> Turn {
        self.is_kept = true;
        let mut state = self.admission.state();
        state.settle(&self.caller);
        let entered = state.enter(&self.caller, job_id, self.admission.max_running);
        drop(state);
        self.admission.turn(job_id, entered)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.is_kept {
            self.admission.state().settle(&self.caller);
        }
    }
}
