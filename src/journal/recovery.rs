//! What a start may find: jobs that did not end, and damage.

use std::fmt;

use super::{Claim, JobId};
use crate::{
    error::{Error, Reason},
    pb::storage::JobRecord,
};

/// A job that had not ended when whoever held it did.
#[derive(Debug)]
pub struct Unfinished {
    /// The job, and the right to write to it.
    pub claim: Claim,
    /// What was accepted.
    pub record: JobRecord,
    /// The last sequence that any reader can have seen.
    pub last_sequence: u32,
}

/// Something of a job that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The job, or nothing for the catalogue itself.
    pub job_id: Option<JobId>,
    /// The sequences that are lost, first and last; nothing where the events are whole.
    pub lost: Option<(u32, u32)>,
    /// What was found.
    pub what: String,
}

impl Damage {
    /// The error that a reader of that part gets: what is lost, and the cursor to go on from.
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
