//! How a process ends, and within which limits it runs.

use std::time::Duration;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited by itself with this status.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// Unknown, because the supervisor was lost and the process with it.
    Lost,
}

impl Exit {
    pub(super) fn of(code: Option<i32>, signal: Option<i32>) -> Self {
        match (code, signal) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Lost,
        }
    }
}

/// The limits of a run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The maximum duration.
    pub timeout: Duration,
    /// The time between TERM and KILL.
    pub kill_grace: Duration,
    /// The output limit of each stream, in bytes; what exceeds it is read and dropped.
    pub max_output_bytes: u32,
    /// How many bytes of the end of standard output are kept for its reader, even beyond the output limit.
    pub max_kept_bytes: usize,
}
