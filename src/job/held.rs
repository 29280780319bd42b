//! A job that its client holds: it is cancelled when the client leaves before its end.

use std::fmt;

use super::{CancelledBy, JobId, JobService};
use crate::caller::Caller;

/// Cancels its job when it is dropped before it was let go. Made together with the job, so that a client that leaves while
/// it submits counts too.
pub struct HeldJob {
    service: JobService,
    caller: Caller,
    job_id: JobId,
    is_held: bool,
}

impl HeldJob {
    pub(super) fn new(service: JobService, caller: Caller, job_id: JobId) -> Self {
        Self { service, caller, job_id, is_held: true }
    }

    /// The job may go on, or has ended.
    pub fn let_go(mut self) {
        self.is_held = false;
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
            self.service.cancel_now(&self.caller, &self.job_id, CancelledBy::Disconnect);
        }
    }
}
