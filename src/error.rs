//! The error reasons, and the one table from a reason to gRPC, HTTP and the exit status.
//!
//! Rooms answer with [`Error`]; each door maps it by [`Reason::codes`] and nothing else. An error is logged
//! where it is handled, with its cause, which no client sees.

use std::{fmt, time::Duration};

/// The gRPC status codes that the table names (numbers by the gRPC specification, `statuscodes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // named as in the specification
pub enum GrpcCode {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// How one reason looks through each door.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// The stable name that every door prints.
    pub name: &'static str,
    /// The gRPC status.
    pub grpc: GrpcCode,
    /// The HTTP status.
    pub http: u16,
    /// The exit status of the command line (sysexits.h where it has one).
    pub exit: u8,
    /// Whether the same request may succeed later.
    pub is_retryable: bool,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $reason:ident => $name:literal, $grpc:ident, $http:literal, $exit:literal, $retry:literal;)*) => {
        /// Why something failed; docs/errors.md has a heading for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])* $reason,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// The table.
            pub const fn codes(self) -> Codes {
                match self {
                    $(Self::$reason => Codes {
                        name: $name, grpc: GrpcCode::$grpc, http: $http, exit: $exit, is_retryable: $retry,
                    },)*
                }
            }
        }
    };
}

reasons! {
    // Refused requests: nothing was accepted.
    /// A field holds a value that it may not hold.
    InvalidArgument => "INVALID_ARGUMENT", InvalidArgument, 400, 64, false;
    /// The body is not JSON, or a field has the wrong type.
    MalformedBody => "MALFORMED_BODY", InvalidArgument, 422, 64, false;
    /// No task was given.
    NoTask => "NO_TASK", InvalidArgument, 400, 64, false;
    /// The catalogue has no tool of that name.
    UnknownTool => "UNKNOWN_TOOL", InvalidArgument, 400, 64, false;
    /// The page that sends the request may not use this gateway, or the host name is not one of its own.
    OriginNotAllowed => "ORIGIN_NOT_ALLOWED", PermissionDenied, 403, 77, false;
    /// The request does not say who calls.
    Unauthenticated => "UNAUTHENTICATED", Unauthenticated, 401, 77, false;
    /// The request is larger than allowed.
    TooLarge => "TOO_LARGE", InvalidArgument, 413, 64, false;
    /// The body is of another media type.
    UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, 415, 64, false;
    /// The path has no such page.
    RouteNotFound => "ROUTE_NOT_FOUND", Unimplemented, 404, 64, false;
    /// The path is not asked with this method.
    MethodNotAllowed => "METHOD_NOT_ALLOWED", Unimplemented, 405, 64, false;
    /// The request's body did not come in time.
    RequestTimedOut => "REQUEST_TIMED_OUT", DeadlineExceeded, 408, 75, true;
    /// No job of that id, or it was removed, or it is somebody else's.
    JobNotFound => "JOB_NOT_FOUND", NotFound, 404, 66, false;
    /// The caller has no conversation of that id.
    ConversationNotFound => "CONVERSATION_NOT_FOUND", NotFound, 404, 66, false;
    /// The cursor lies beyond the job's log.
    CursorBeyondLog => "CURSOR_BEYOND_LOG", OutOfRange, 400, 64, false;
    /// The idempotency key was used with another request.
    IdempotencyConflict => "IDEMPOTENCY_CONFLICT", AlreadyExists, 409, 65, false;
    /// The job has not ended yet.
    JobNotEnded => "JOB_NOT_ENDED", FailedPrecondition, 409, 65, true;
    /// The job ended without a result.
    NoResult => "NO_RESULT", FailedPrecondition, 409, 65, false;
    /// The job goes on and waits for an answer of yours.
    InputRequired => "INPUT_REQUIRED", FailedPrecondition, 409, 75, false;
    /// The job asks nothing.
    NoOpenQuestion => "NO_OPEN_QUESTION", FailedPrecondition, 409, 65, false;
    /// This engine or configuration cannot do that.
    Unsupported => "UNSUPPORTED", FailedPrecondition, 409, 65, false;
    /// The queue is full.
    QueueFull => "QUEUE_FULL", ResourceExhausted, 429, 75, true;
    /// The call would remove or overwrite something and was not confirmed.
    ConfirmationRequired => "CONFIRMATION_REQUIRED", FailedPrecondition, 409, 65, false;
    /// There are as many MCP sessions as this gateway keeps.
    TooManySessions => "TOO_MANY_SESSIONS", ResourceExhausted, 503, 75, true;
    /// As many requests are in progress as this caller, or all of them, may have; or a reader's stream has ended for another
    /// caller's request.
    TooManyStreams => "TOO_MANY_STREAMS", ResourceExhausted, 429, 75, true;
    /// There are as many connections as this gateway keeps.
    TooManyConnections => "TOO_MANY_CONNECTIONS", Unavailable, 503, 75, true;
    /// Others are using what this call needs for itself.
    Busy => "BUSY", Aborted, 409, 75, true;
    /// The gateway is shutting down.
    ShuttingDown => "SHUTTING_DOWN", Unavailable, 503, 75, true;
    /// The store does not take or give data now.
    StoreUnavailable => "STORE_UNAVAILABLE", Unavailable, 503, 75, true;
    /// The gateway cannot be reached.
    Unreachable => "UNREACHABLE", Unavailable, 503, 69, true;
    // Broken streams.
    /// A part of the job's log is damaged.
    DataLoss => "DATA_LOSS", DataLoss, 500, 74, false;
    // Outcomes of jobs.
    /// The engine ran and failed.
    EngineFailed => "ENGINE_FAILED", Aborted, 502, 1, false;
    /// The engine could not be started.
    EngineNotStarted => "ENGINE_NOT_STARTED", Aborted, 502, 69, true;
    /// The supervisor of the engine's processes was lost; the run was stopped.
    SupervisorLost => "SUPERVISOR_LOST", Aborted, 502, 1, true;
    /// The engine has no agent of that id.
    AgentNotFound => "AGENT_NOT_FOUND", NotFound, 502, 66, false;
    /// The tool ran and failed.
    ToolFailed => "TOOL_FAILED", Aborted, 502, 1, false;
    /// The command was not understood, or would change something.
    CommandNotUnderstood => "COMMAND_NOT_UNDERSTOOD", FailedPrecondition, 502, 65, false;
    /// The model's server could not be reached or is overloaded, however often it was asked.
    ModelUnavailable => "MODEL_UNAVAILABLE", Aborted, 502, 69, true;
    /// The model's server does not accept the request.
    ModelRefused => "MODEL_REFUSED", Aborted, 502, 78, false;
    /// The model's answer was none that could be used.
    ModelFailed => "MODEL_FAILED", Aborted, 502, 1, true;
    /// The model's server took too long.
    ModelTimedOut => "MODEL_TIMED_OUT", DeadlineExceeded, 504, 124, true;
    /// The agent took as many steps as it may and had no answer.
    StepLimit => "STEP_LIMIT", Aborted, 502, 1, false;
    /// The events of running jobs take as much of the store as they may.
    LogLimit => "LOG_LIMIT", ResourceExhausted, 502, 1, true;
    /// The agent used as many tokens as it may and had no answer.
    TokenLimit => "TOKEN_LIMIT", Aborted, 502, 1, false;
    /// The agent's model calls cost as much as they may, or what they cost is not known, and it had no answer.
    CostLimit => "COST_LIMIT", Aborted, 502, 1, false;
    /// The model went on calling tools wrongly.
    TooManyToolErrors => "TOO_MANY_TOOL_ERRORS", Aborted, 502, 1, false;
    /// The job ran for longer than allowed.
    TimedOut => "TIMED_OUT", DeadlineExceeded, 504, 124, true;
    /// The job waited for longer than allowed.
    QueueTimedOut => "QUEUE_TIMED_OUT", DeadlineExceeded, 504, 124, true;
    /// Somebody cancelled the job.
    Cancelled => "CANCELLED", Cancelled, 409, 130, false;
    /// The gateway died while the job ran.
    Interrupted => "INTERRUPTED", Aborted, 500, 75, true;
    /// The gateway was shut down while the job ran.
    Shutdown => "SHUTDOWN", Aborted, 500, 75, true;
    /// A fault of the gateway.
    Internal => "INTERNAL", Internal, 500, 70, false;
}

impl Reason {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        self.codes().name
    }

    /// The reason of a stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

/// One failure: a reason, a text for the client that says what to do, and a cause for the log.
#[derive(Clone, Debug)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    reason: Reason,
    message: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    job_id: Option<String>,
    sequence: Option<u32>,
    cause: Option<String>,
}

impl Error {
    /// A failure with a text for the client.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            reason,
            message: message.into(),
            field: None,
            retry_after: None,
            job_id: None,
            sequence: None,
            cause: None,
        }))
    }

    /// A bad value in a field, named by its path.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidArgument, message).at(field)
    }

    /// The job that something was done for was cancelled.
    pub fn cancelled() -> Self {
        Self::new(Reason::Cancelled, "the job was cancelled")
    }

    /// A fault of our own; the client is told no more than that.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Reason::Internal, "the gateway failed at this request; its log says why").because(cause)
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says when a retry is worth it.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Names the job that it is about.
    #[must_use]
    pub fn for_job(mut self, job_id: impl Into<String>) -> Self {
        self.0.job_id = Some(job_id.into());
        self
    }

    /// Gives the sequence that it is about: the log's last one, or the cursor to go on from.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u32) -> Self {
        self.0.sequence = Some(sequence);
        self
    }

    /// Adds the cause, for the log only.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The field that is wrong.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// When a retry is worth it.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The job that it is about.
    pub fn job_id(&self) -> Option<&str> {
        self.0.job_id.as_deref()
    }

    /// The sequence that it is about.
    pub fn sequence(&self) -> Option<u32> {
        self.0.sequence
    }

    /// The cause, for the log.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

/// The result of most calls between rooms.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), Some(*reason));
        }
    }
}
