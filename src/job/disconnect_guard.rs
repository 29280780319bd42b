//! Disconnect guards: a job is cancelled when the last client that holds it leaves before its end, unless someone wants it to
//! go on.

use std::fmt;

use super::{CancelledBy, JobId, JobService, client_holds::ClientHolds};
use crate::principal::Principal;

/// The disconnect guard of one client. Created together with the job, or when a client joins an existing job by idempotency
/// key, so that a client that disconnects during the submission counts too. Dropping it without [`DisconnectGuard::release`] means
/// leaving.
pub struct DisconnectGuard {
    service: JobService,
    caller: Principal,
    job_id: JobId,
    is_held: bool,
}

impl JobService {
    /// Adds a client to those of a job. Returns its disconnect guard if it asked for one and the job has not ended.
    pub(super) fn join(&self, caller: &Principal, job_id: &JobId, is_held: bool) -> Option<DisconnectGuard> {
        let live = self.find_live(caller, job_id)?;
        live.holds(|holds| holds.join(is_held));
        let (service, caller, job_id) = (self.clone(), caller.clone(), job_id.clone());
        is_held.then(|| DisconnectGuard { service, caller, job_id, is_held })
    }

    fn leave(&self, caller: &Principal, job_id: &JobId) {
        let Some(live) = self.find_live(caller, job_id) else { return };
        if live.holds(ClientHolds::leave) {
            live.request_cancel(CancelledBy::Disconnect);
        }
    }
}

impl DisconnectGuard {
    /// Releases the guard without cancelling: the job has ended, or may go on even if every other holder leaves.
    pub fn release(mut self) {
        self.is_held = false;
        if let Some(live) = self.service.find_live(&self.caller, &self.job_id) {
            live.holds(|holds| holds.join(false));
        }
    }
}

impl fmt::Debug for DisconnectGuard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DisconnectGuard").field("job_id", &self.job_id).finish_non_exhaustive()
    }
}

impl Drop for DisconnectGuard {
    fn drop(&mut self) {
        if self.is_held {
            self.service.leave(&self.caller, &self.job_id);
        }
    }
}
