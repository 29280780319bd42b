//! What may be found when a store is opened: jobs that did not end, and damage.

use std::fmt;

use super::{Claim, JobId};
use crate::{
    error::{Error, Reason},
    pb::storage::JobRecord,
};

/// A job that has not ended and whose holder is gone.
#[derive(Debug)]
pub struct Unfinished {
    /// The job, and the right to write to it.
    pub claim: Claim,
    /// What was accepted.
    pub record: JobRecord,
    /// The highest sequence that any reader can have seen.
    pub last_sequence: u32,
}

/// A part of the store that can no longer be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The job; `None` for the catalogue itself.
    pub job_id: Option<JobId>,
    /// The first and last lost sequence; `None` if the damage is no range of events, as with a damaged record or a lost job.
    pub lost: Option<(u32, u32)>,
    /// A description of the damage.
    pub what: String,
}

impl Damage {
    /// Returns the error for a reader of the damaged part, with the sequence to continue after if events are lost.
    pub fn to_error(&self) -> Error {
        let error = match self.lost {
            Some((first, last)) => Error::new(
                Reason::DataLoss,
                format!(
                    "events {first} to {last} are damaged in the store and cannot be read; read on after sequence {last}"
                ),
            )
            .with_sequence(last),
            None => Error::new(Reason::DataLoss, "the job's record is damaged in the store"),
        };
        let error = error.because(&self.what);
        match &self.job_id {
            Some(job_id) => error.for_job(job_id.as_str()),
            None => error,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.job_id, self.lost) {
            (Some(job_id), Some((first, last))) => {
                write!(f, "{job_id}: events {first} to {last}: {}", self.what)
            }
            (Some(job_id), None) => write!(f, "{job_id}: {}", self.what),
            (None, _) => write!(f, "catalogue: {}", self.what),
        }
    }
}
