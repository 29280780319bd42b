//! The `jobs` section.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::admission::Bounds;
use crate::{journal::Retention, quota};

/// How many jobs run and wait, how long, and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Jobs that run at the same time. The last quarter, rounded down, is for callers of whom none runs, so that one caller alone
    /// has three quarters. A job that waits for a person does not count.
    pub max_running: u32,
    /// Jobs of one caller that run at the same time; null: no bound of its own.
    pub max_running_per_caller: Option<u32>,
    /// Jobs that have begun and wait for a person's answer, or for an agent that another run has; one more counts as running
    /// meanwhile. The last quarter is for callers of whom none waits so.
    pub max_awaiting_input: u32,
    /// Such jobs of one caller; null: no bound of its own.
    pub max_awaiting_input_per_caller: Option<u32>,
    /// Jobs that may wait; one more is refused with a retry hint. Callers are served in turn; the last quarter is for those of
    /// whom none waits.
    pub max_queued: u32,
    /// Jobs of one caller that may wait; null: no bound of its own.
    pub max_queued_per_caller: Option<u32>,
    /// The longest time a job may run, in seconds; a task may ask for less.
    pub timeout_seconds: u32,
    /// Ended jobs are removed after this many seconds.
    pub retention_seconds: u32,
    /// While ended jobs take more than this many bytes, the oldest of whoever takes most are removed.
    pub retention_max_bytes: u64,
    /// The same for each caller alone; null: callers share what there is.
    pub retention_max_bytes_per_caller: Option<u64>,
    /// While there are more ended jobs than this, the oldest of whoever has most are removed.
    pub retention_max_jobs: u32,
    /// The same for each caller alone; null: callers share what there is.
    pub retention_max_jobs_per_caller: Option<u32>,
    /// How many bytes the events of running jobs take together; a job that would take more fails. The last quarter is for callers
    /// who have less than a sixteenth.
    pub max_log_bytes: u64,
    /// Those of one caller's running jobs; null: no bound of its own.
    pub max_log_bytes_per_caller: Option<u64>,
    /// How many bytes of a running job's latest events are kept in memory for its readers.
    pub tail_bytes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_running: 16,
            max_running_per_caller: None,
            max_awaiting_input: 64,
            max_awaiting_input_per_caller: None,
            max_queued: 1000,
            max_queued_per_caller: None,
            timeout_seconds: 3600,
            retention_seconds: 24 * 3600,
            retention_max_bytes: 10 * 1024 * 1024 * 1024,
            retention_max_bytes_per_caller: None,
            retention_max_jobs: 100_000,
            retention_max_jobs_per_caller: None,
            max_log_bytes: 10 * 1024 * 1024 * 1024,
            max_log_bytes_per_caller: None,
            tail_bytes: 1024 * 1024,
        }
    }
}

impl Config {
    pub(super) fn bounds(&self) -> Bounds {
        let bounds = |most: u32, most_per_caller: Option<u32>| quota::Bounds {
            most: most as usize,
            most_per_caller: most_per_caller.map(|most| most as usize),
        };
        Bounds {
            running: bounds(self.max_running, self.max_running_per_caller),
            resting: bounds(self.max_awaiting_input, self.max_awaiting_input_per_caller),
            queued: bounds(self.max_queued, self.max_queued_per_caller),
        }
    }

    /// What the logs of running jobs may take.
    pub fn log_bytes(&self) -> quota::Bounds {
        let bytes = |most: u64| usize::try_from(most).unwrap_or(usize::MAX);
        quota::Bounds {
            most: bytes(self.max_log_bytes),
            most_per_caller: self.max_log_bytes_per_caller.map(bytes),
        }
    }

    /// What retention allows.
    pub fn retention(&self) -> Retention {
        Retention {
            max_age: Duration::from_secs(self.retention_seconds.into()),
            max_bytes: self.retention_max_bytes,
            max_jobs: self.retention_max_jobs as usize,
            max_bytes_per_owner: self.retention_max_bytes_per_caller,
            max_jobs_per_owner: self.retention_max_jobs_per_caller.map(|most| most as usize),
        }
    }

    /// How often retention looks.
    pub(super) fn retention_interval(&self) -> Duration {
        (self.retention().max_age / 4).clamp(Duration::from_millis(250), Duration::from_secs(30))
    }
}
