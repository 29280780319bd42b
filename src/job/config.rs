//! The `jobs` section of the configuration.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admission::AdmissionBounds;
use crate::{journal::Retention, quota};

/// How many jobs run and wait, for how long, and how long ended ones are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobsConfig {
    /// The most jobs that run at the same time. The last quarter, rounded down, is reserved for callers that have none
    /// running, so a single caller gets at most three quarters. A job that waits for a person does not count.
    pub max_running: u32,
    /// The most jobs of one caller that run at the same time; null sets no separate bound.
    pub max_running_per_caller: Option<u32>,
    /// The most started jobs that wait for a person's answer, or for an agent that another run uses; further ones count as
    /// running while they wait. The last quarter is reserved for callers that have none waiting.
    pub max_awaiting_input: u32,
    /// The most such jobs of one caller; null sets no separate bound.
    pub max_awaiting_input_per_caller: Option<u32>,
    /// The most jobs in the queue; a further one is refused with a retry delay. Callers are served in turn. The last quarter
    /// is reserved for callers that have none queued.
    pub max_queued: u32,
    /// The most queued jobs of one caller; null sets no separate bound.
    pub max_queued_per_caller: Option<u32>,
    /// The longest time that a job may work, in seconds; a task may set a shorter one. The wait for another run of its agent is not counted, and lasts at most as long again.
    pub timeout_seconds: u32,
    /// The time after which an ended job is removed, in seconds.
    pub retention_seconds: u32,
    /// The most bytes that ended jobs may take; beyond it the oldest jobs of the caller that uses most are removed.
    pub retention_max_bytes: u64,
    /// The same for each caller alone; null sets no separate bound.
    pub retention_max_bytes_per_caller: Option<u64>,
    /// The most ended jobs that are kept; beyond it the oldest jobs of the caller that has most are removed.
    pub retention_max_jobs: u32,
    /// The same for each caller alone; null sets no separate bound.
    pub retention_max_jobs_per_caller: Option<u32>,
    /// The most bytes that the events of all running jobs may take; a job that would exceed it fails. The last quarter is
    /// reserved for callers that use at most a sixteenth.
    pub max_log_bytes: u64,
    /// The same for the running jobs of one caller; null sets no separate bound.
    pub max_log_bytes_per_caller: Option<u64>,
    /// The most bytes of a running job's latest events that are kept in memory for its readers.
    pub tail_bytes: u32,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            max_running: 16,
            max_running_per_caller: None,
            max_awaiting_input: 64,
            max_awaiting_input_per_caller: None,
            max_queued: 1000,
            max_queued_per_caller: None,
            timeout_seconds: 3600,
            retention_seconds: 7 * 24 * 3600,
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

impl JobsConfig {
    pub(super) fn bounds(&self) -> AdmissionBounds {
        let bounds = |most: u32, most_per_caller: Option<u32>| quota::Bounds {
            most: most as usize,
            most_per_caller: most_per_caller.map(|most| most as usize),
        };
        AdmissionBounds {
            running: bounds(self.max_running, self.max_running_per_caller),
            resting: bounds(self.max_awaiting_input, self.max_awaiting_input_per_caller),
            queued: bounds(self.max_queued, self.max_queued_per_caller),
        }
    }

    /// Returns the bounds on the logs of running jobs, in bytes.
    pub fn log_bytes(&self) -> quota::Bounds {
        let bytes = |most: u64| usize::try_from(most).unwrap_or(usize::MAX);
        quota::Bounds {
            most: bytes(self.max_log_bytes),
            most_per_caller: self.max_log_bytes_per_caller.map(bytes),
        }
    }

    /// Returns the limits that retention enforces.
    pub fn retention(&self) -> Retention {
        Retention {
            max_age: Duration::from_secs(self.retention_seconds.into()),
            max_bytes: self.retention_max_bytes,
            max_jobs: self.retention_max_jobs as usize,
            max_bytes_per_owner: self.retention_max_bytes_per_caller,
            max_jobs_per_owner: self.retention_max_jobs_per_caller.map(|most| most as usize),
        }
    }

    /// Returns the interval at which retention runs: a quarter of the maximum age, from 250 ms to 30 s.
    pub(super) fn retention_interval(&self) -> Duration {
        (self.retention().max_age / 4).clamp(Duration::from_millis(250), Duration::from_secs(30))
    }
}
