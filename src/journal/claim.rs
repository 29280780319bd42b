//! The right to write to a job.

use super::JobId;

/// The right to write to a job. The epoch rises whenever the job is taken over; writes under an older epoch are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job_id: JobId,
    /// The epoch, counted from 1.
    pub epoch: u64,
}
