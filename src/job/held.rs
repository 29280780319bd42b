//! A job that its clients hold: it is cancelled when the last of them leaves before its end, and nobody wants it to go on.

use std::fmt;

use super::{CancelledBy, JobId, JobService};
use crate::principal::Principal;

/// One client's hold. Made together with the job, or when a client joins an earlier one by its idempotency key, so that a client
/// that leaves while it submits counts too. Dropping it before it was let go is leaving.
pub struct HeldJob {
    service: JobService,
    caller: Principal,
    job_id: JobId,
    is_held: bool,
}

/// Who holds a job that has not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holds {
    holders: usize,
    /// Somebody submitted it, or joined, without a hold: it goes on whoever leaves.
    is_wanted: bool,
}

impl Holds {
    pub(super) fn join(&mut self, is_held: bool) {
        match is_held {
            true => self.holders += 1,
            false => self.is_wanted = true,
        }
    }

    /// One holder is gone. Answers whether that ends the job.
    pub(super) fn leave(&mut self) -> bool {
        self.holders -= 1;
        self.holders == 0 && !self.is_wanted
    }
}

impl JobService {
    /// Counts a client among those of a job. Answers with its hold, where it wants one and the job has not ended.
    pub(super) fn join(&self, caller: &Principal, job_id: &JobId, is_held: bool) -> Option<HeldJob> {
        let live = self.find_live(caller, job_id)?;
        live.holds(|holds| holds.join(is_held));
        let (service, caller, job_id) = (self.clone(), caller.clone(), job_id.clone());
        is_held.then(|| HeldJob { service, caller, job_id, is_held })
    }

    fn leave(&self, caller: &Principal, job_id: &JobId) {
        let Some(live) = self.find_live(caller, job_id) else { return };
        if live.holds(Holds::leave) {
            live.request_cancel(CancelledBy::Disconnect);
        }
    }
}

impl HeldJob {
    /// The job may go on, or has ended.
    pub fn let_go(mut self) {
        self.is_held = false;
        if let Some(live) = self.service.find_live(&self.caller, &self.job_id) {
            live.holds(|holds| holds.join(false));
        }
    }
}

impl fmt::Debug for HeldJob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HeldJob").field("job_id", &self.job_id).finish_non_exhaustive()
    }
}

impl Drop for HeldJob {
    fn drop(&mut self) {
        if self.is_held {
            self.service.leave(&self.caller, &self.job_id);
        }
    }
}
