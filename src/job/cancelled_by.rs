//! Who ended a job before its time.

/// Who asked a job to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelledBy {
    /// A caller, named by its subject.
    Caller(String),
    /// The last client that held the job disconnected.
    Disconnect,
    /// The gateway's shutdown.
    Shutdown,
}
