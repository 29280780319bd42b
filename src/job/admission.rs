//! Decides which job may run now and which has to wait.
//!
//! Each bound applies per caller and to all callers together. The last quarter of the running and of the queued jobs (rounded
//! down) is reserved for callers that have none there, so that no caller's load keeps another's first job waiting. A permit
//! covers work: a job that waits for a person, or during its run for an agent, gives it up while there is room among the
//! resting jobs; a job that needs an agent from its start does not start before that agent is free; a job that only reads
//! what is at hand needs no permit.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{queue::FairQueue, worker::JobRequirements};
use crate::{
    error::{Error, Reason, Result},
    journal::JobId,
    principal::Principal,
    quota::{self, Quota},
    sync::lock,
};

/// The retry delay of a refusal. About one short job ends in this time; for longer jobs a client only pays for extra retries.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The bounds on running, resting and queued jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdmissionBounds {
    /// Jobs that work.
    pub(super) running: quota::Bounds,
    /// Jobs that have started and wait for a person or an agent. Beyond this bound a job keeps its permit while it waits.
    pub(super) resting: quota::Bounds,
    /// Jobs that wait for their turn.
    pub(super) queued: quota::Bounds,
}

/// The admission state of all running and queued jobs.
#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<AdmissionState>,
}

/// A queued job.
#[derive(Debug)]
struct Queued {
    /// The agent that the job needs exclusively.
    agent: Option<String>,
    turn: oneshot::Sender<()>,
}

#[derive(Debug)]
struct AdmissionState {
    max_queued: quota::Bounds,
    running: Quota,
    resting: Quota,
    /// Reading jobs, which need no permit: as many as may run. A further one is admitted as ordinary work.
    reading: Quota,
    /// Queue entries reserved for submissions that are not stored yet.
    promised: Quota,
    /// The agents that running jobs use exclusively.
    agents: BTreeSet<String>,
    waiting: FairQueue<JobId, Queued>,
    is_closed: bool,
}

/// A reservation, made before a submission is stored, of the right to run or to queue. Dropping it releases it.
#[derive(Debug)]
pub(super) struct Reservation {
    admission: Arc<Admission>,
    caller: Principal,
    is_kept: bool,
}

/// Whether a job starts now or is queued.
#[derive(Debug)]
pub(super) enum Admitted {
    Now(Permit),
    Later(QueuedJob),
}

/// How a started job is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitState {
    Working,
    Resting,
    Reading,
}

/// The semaphore permit of a started job. Dropping it, for whatever reason, lets the next queued job start.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    caller: Principal,
    agent: Option<String>,
    counts: PermitState,
}

impl Permit {
    /// Releases the permit for other work while the job waits for a person or an agent. If too many jobs rest already, the
    /// job keeps counting as work.
    pub(super) fn suspend(&mut self) {
        let mut state = self.admission.state();
        if self.counts == PermitState::Working && state.resting.room(&self.caller) > 0 {
            self.counts = PermitState::Resting;
            state.resting.take(&self.caller);
            state.running.give_back(&self.caller);
            state.start_next();
        }
    }

    /// Counts the job as working again, at once and even beyond the bound, so that an answer never waits for a permit.
    pub(super) fn resume(&mut self) {
        if self.counts == PermitState::Resting {
            let mut state = self.admission.state();
            self.counts = PermitState::Working;
            state.resting.give_back(&self.caller);
            state.running.take(&self.caller);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        let counted = match self.counts {
            PermitState::Working => &mut state.running,
            PermitState::Resting => &mut state.resting,
            PermitState::Reading => &mut state.reading,
        };
        counted.give_back(&self.caller);
        if let Some(agent) = &self.agent {
            state.agents.remove(agent);
        }
        state.start_next();
    }
}

/// A job's queue entry. Dropping it removes it from the queue.
#[derive(Debug)]
pub(super) struct QueuedJob {
    admission: Arc<Admission>,
    job_id: JobId,
    caller: Principal,
    agent: Option<String>,
    /// Its position in the queue when it was added, from 1.
    pub(super) position: u32,
    /// Whether the agent that it needs was in use when it was added.
    pub(super) is_for_agent: bool,
    turn: Option<oneshot::Receiver<()>>,
}

impl QueuedJob {
    fn permit(&self) -> Permit {
        Permit {
            admission: self.admission.clone(),
            caller: self.caller.clone(),
            agent: self.agent.clone(),
            counts: PermitState::Working,
        }
    }

    /// Waits until the job may start and returns its permit; waits forever if the admission is closed before that. Returns
    /// `None` if an earlier call has returned the permit, or if the job's entry is no longer in the queue. Cancel safe: a
    /// permit that was granted meanwhile is returned by the next call.
    pub(super) async fn turn(&mut self) -> Option<Permit> {
        let given = self.turn.as_mut()?.await;
        self.turn = None;
        given.is_ok().then(|| self.permit())
    }
}

impl Drop for QueuedJob {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else { return };
        self.admission.state().waiting.remove(&self.job_id);
        if turn.try_recv().is_ok() {
            // The permit was granted at the same moment; dropping it passes it to the next job.
            drop(self.permit());
        }
    }
}

impl Admission {
    pub(super) fn new(bounds: AdmissionBounds) -> Self {
        let state = AdmissionState {
            max_queued: bounds.queued,
            running: Quota::new(bounds.running),
            resting: Quota::new(bounds.resting),
            reading: Quota::new(bounds.running),
            promised: Quota::new(bounds.queued),
            agents: BTreeSet::new(),
            waiting: FairQueue::default(),
            is_closed: false,
        };
        Self { state: Mutex::new(state) }
    }

    /// Replaces the bounds. What runs, rests or waits already stays; queued jobs for which there is room now start.
    pub(super) fn set_bounds(&self, bounds: AdmissionBounds) {
        let mut state = self.state();
        state.max_queued = bounds.queued;
        state.running.set_bounds(bounds.running);
        state.resting.set_bounds(bounds.resting);
        state.reading.set_bounds(bounds.running);
        state.promised.set_bounds(bounds.queued);
        state.start_next();
    }

    fn state(&self) -> MutexGuard<'_, AdmissionState> {
        lock(&self.state)
    }

    /// Reserves the right to run or to queue, before anything is stored.
    ///
    /// # Errors
    /// [`Reason::QueueFull`], [`Reason::ShuttingDown`]; both with a retry delay.
    pub(super) fn reserve(self: &Arc<Self>, caller: &Principal) -> Result<Reservation> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Error::new(
                Reason::ShuttingDown,
                "the gateway is shutting down and takes no new jobs",
            )
            .retry_after(Duration::from_secs(5)));
        }
        let quota::Bounds { most, most_per_caller } = state.max_queued;
        // Jobs that can start at once take no room in the queue.
        let room = state.running.room(caller);
        let taken = state.waiting.len() + state.promised.total();
        let own = state.waiting.len_of(caller) + state.promised.held_by(caller);
        let full = |message: String| Error::new(Reason::QueueFull, message).retry_after(RETRY_AFTER);
        if taken >= most.saturating_add(room) {
            let (running, waiting) = (state.running.total(), state.waiting.len());
            return Err(full(format!(
                "{running} jobs run and {waiting} wait, which is all this gateway takes; try again later"
            )));
        }
        if own > 0 && taken >= state.max_queued.for_holders().saturating_add(room) {
            return Err(full(format!(
                "{own} of your jobs wait already, and the last quarter of the queue is for callers who have none there; try again later"
            )));
        }
        if most_per_caller.is_some_and(|most| own >= most.saturating_add(room)) {
            return Err(full(format!(
                "{own} of your jobs wait already, which is all a caller may have; try again later"
            )));
        }
        state.promised.take(caller);
        Ok(Reservation { admission: self.clone(), caller: caller.clone(), is_kept: false })
    }

    /// Admits a job that was accepted earlier, without checking the queue's bounds.
    pub(super) fn admit(
        self: &Arc<Self>,
        caller: &Principal,
        job_id: &JobId,
        needs: JobRequirements,
    ) -> Admitted {
        let mut state = self.state();
        let JobRequirements { agent, is_reading } = needs;
        let (admission, owner) = (self.clone(), caller.clone());
        let now = |agent, counts| Admitted::Now(Permit { admission, caller: owner, agent, counts });
        if is_reading && !state.is_closed && state.reading.room(caller) > 0 {
            state.reading.take(caller);
            return now(None, PermitState::Reading);
        }
        let is_free = state.is_free(agent.as_ref());
        if !state.is_closed && state.waiting.len_of(caller) == 0 && state.running.room(caller) > 0 && is_free
        {
            state.begin(caller, agent.clone());
            return now(agent, PermitState::Working);
        }
        let (turn, receiver) = oneshot::channel();
        state.waiting.push(caller, job_id.clone(), Queued { agent: agent.clone(), turn });
        let position = state.waiting.position(job_id).unwrap_or(state.waiting.len());
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        // Jobs of the same caller ahead of it may wait for an agent that this job does not need.
        state.start_next();
        Admitted::Later(QueuedJob {
            admission: self.clone(),
            job_id: job_id.clone(),
            caller: caller.clone(),
            agent,
            position,
            is_for_agent: !is_free,
            turn: Some(receiver),
        })
    }

    /// Returns the job's position in the queue, from 1, or `None` if it is not queued.
    pub(super) fn position(&self, job_id: &JobId) -> Option<u32> {
        u32::try_from(self.state().waiting.position(job_id)?).ok()
    }

    /// Refuses new jobs and starts no more queued ones.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
    }

    /// Returns how many jobs have started and not ended, and how many are queued.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        let begun = state.running.total() + state.resting.total() + state.reading.total();
        (begun, state.waiting.len())
    }
}

impl AdmissionState {
    fn is_free(&self, agent: Option<&String>) -> bool {
        agent.is_none_or(|needed| !self.agents.contains(needed))
    }

    fn begin(&mut self, caller: &Principal, agent: Option<String>) {
        self.running.take(caller);
        self.agents.extend(agent);
    }

    /// Starts queued jobs in turn as long as permits and agents are free.
    fn start_next(&mut self) {
        while !self.is_closed && !self.running.is_full() {
            let Self { waiting, running, agents, .. } = self;
            let next = waiting.pop_where(|caller, queued| {
                running.room(caller) > 0 && queued.agent.as_ref().is_none_or(|agent| !agents.contains(agent))
            });
            let Some((caller, Queued { agent, turn })) = next else { return };
            // If this job has just given up, nothing was started and the next one is tried.
            if turn.send(()).is_ok() {
                self.begin(&caller, agent);
            }
        }
    }
}

impl Reservation {
    /// Turns the reservation of a job that is now stored into a start or a queue entry.
    pub(super) fn redeem(mut self, job_id: &JobId, needs: JobRequirements) -> Admitted {
        self.is_kept = true;
        self.admission.state().promised.give_back(&self.caller);
        self.admission.admit(&self.caller, job_id, needs)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_kept {
            self.admission.state().promised.give_back(&self.caller);
        }
    }
}

#[cfg(test)]
mod tests;
