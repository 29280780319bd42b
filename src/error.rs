//! The error reasons, and the one table that maps each reason to gRPC, HTTP and the exit status.
//!
//! Modules return [`Error`]; each door maps it by [`Reason::codes`] and nothing else. An error is logged where it is handled,
//! with its cause, which no client sees.

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

/// How one reason is reported through each door.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// The stable name that every door reports.
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
            /// All reasons, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// Returns the reason's row of the table.
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
    // Refused requests: nothing was accepted, except with INPUT_REQUIRED and, if the store timed out, perhaps
    // STORE_UNAVAILABLE.
    /// A field holds a value that is not allowed.
    InvalidArgument => "INVALID_ARGUMENT", InvalidArgument, 400, 64, false;
    /// The body is not JSON, or a field has the wrong type.
    MalformedBody => "MALFORMED_BODY", InvalidArgument, 422, 64, false;
    /// No task was given.
    NoTask => "NO_TASK", InvalidArgument, 400, 64, false;
    /// The catalogue has no tool of that name.
    UnknownTool => "UNKNOWN_TOOL", InvalidArgument, 400, 64, false;
    /// The page that sent the request may not use this gateway, or the request's host name is not one of the gateway's.
    OriginNotAllowed => "ORIGIN_NOT_ALLOWED", PermissionDenied, 403, 77, false;
    /// The request does not identify its caller.
    Unauthenticated => "UNAUTHENTICATED", Unauthenticated, 401, 77, false;
    /// The request is larger than allowed.
    TooLarge => "TOO_LARGE", InvalidArgument, 413, 64, false;
    /// The body has an unsupported media type.
    UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, 415, 64, false;
    /// No route exists at this path.
    RouteNotFound => "ROUTE_NOT_FOUND", Unimplemented, 404, 64, false;
    /// The path does not support this method.
    MethodNotAllowed => "METHOD_NOT_ALLOWED", Unimplemented, 405, 64, false;
    /// The request's body did not arrive in time.
    RequestTimedOut => "REQUEST_TIMED_OUT", DeadlineExceeded, 408, 75, true;
    /// No job has this id, or it was removed, or it belongs to another caller.
    JobNotFound => "JOB_NOT_FOUND", NotFound, 404, 66, false;
    /// The caller has no conversation with this id.
    ConversationNotFound => "CONVERSATION_NOT_FOUND", NotFound, 404, 66, false;
    /// The cursor lies beyond the last event of the job's log.
    CursorBeyondLog => "CURSOR_BEYOND_LOG", OutOfRange, 400, 64, false;
    /// The idempotency key was already used with a different request.
    IdempotencyConflict => "IDEMPOTENCY_CONFLICT", AlreadyExists, 409, 65, false;
    /// The job has not ended yet.
    JobNotEnded => "JOB_NOT_ENDED", FailedPrecondition, 409, 65, true;
    /// The job ended without a result.
    NoResult => "NO_RESULT", FailedPrecondition, 409, 65, false;
    /// The job is still running and waits for an answer from its caller.
    InputRequired => "INPUT_REQUIRED", FailedPrecondition, 409, 75, false;
    /// The job has no open question.
    NoOpenQuestion => "NO_OPEN_QUESTION", FailedPrecondition, 409, 65, false;
    /// This engine or configuration does not support the request.
    Unsupported => "UNSUPPORTED", FailedPrecondition, 409, 65, false;
    /// The queue is full.
    QueueFull => "QUEUE_FULL", ResourceExhausted, 429, 75, true;
    /// The call would remove or overwrite something and was not confirmed.
    ConfirmationRequired => "CONFIRMATION_REQUIRED", FailedPrecondition, 409, 65, false;
    /// The caller was asked whether the call may be made and did not agree, or did not answer in time.
    Declined => "DECLINED", FailedPrecondition, 409, 65, false;
    /// The gateway already keeps as many MCP sessions as it may.
    TooManySessions => "TOO_MANY_SESSIONS", ResourceExhausted, 503, 75, true;
    /// The caller, or all callers together, already have the most requests in progress; or a reader's stream was ended to
    /// make room for another caller's request.
    TooManyStreams => "TOO_MANY_STREAMS", ResourceExhausted, 429, 75, true;
    /// The gateway already has as many connections as it may.
    TooManyConnections => "TOO_MANY_CONNECTIONS", Unavailable, 503, 75, true;
    /// Others are using what this call needs exclusively.
    Busy => "BUSY", Aborted, 409, 75, true;
    /// The gateway is shutting down.
    ShuttingDown => "SHUTTING_DOWN", Unavailable, 503, 75, true;
    /// The store cannot read or write now.
    StoreUnavailable => "STORE_UNAVAILABLE", Unavailable, 503, 75, true;
    /// The gateway cannot start with what its configuration names, now or later.
    Misconfigured => "MISCONFIGURED", FailedPrecondition, 500, 78, false;
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
    /// The engine has no agent with this id.
    AgentNotFound => "AGENT_NOT_FOUND", NotFound, 422, 66, false;
    /// The tool ran and failed.
    ToolFailed => "TOOL_FAILED", Aborted, 502, 1, false;
    /// The command was not understood, or would have changed something.
    CommandNotUnderstood => "COMMAND_NOT_UNDERSTOOD", FailedPrecondition, 422, 65, false;
    /// The model's server could not be reached or is overloaded, even after retries.
    ModelUnavailable => "MODEL_UNAVAILABLE", Aborted, 502, 69, true;
    /// The model's server rejected the request.
    ModelRefused => "MODEL_REFUSED", Aborted, 502, 78, false;
    /// The model's answer was unusable.
    ModelFailed => "MODEL_FAILED", Aborted, 502, 1, true;
    /// The model's server took too long.
    ModelTimedOut => "MODEL_TIMED_OUT", DeadlineExceeded, 504, 124, true;
    /// The agent took the most steps that it may without reaching an answer.
    StepLimit => "STEP_LIMIT", Aborted, 502, 1, false;
    /// The events of running jobs already take as much of the store as they may.
    LogLimit => "LOG_LIMIT", ResourceExhausted, 502, 1, true;
    /// The agent used the most tokens that it may without reaching an answer.
    TokenLimit => "TOKEN_LIMIT", Aborted, 502, 1, false;
    /// The agent's model calls reached the most that they may cost, or their cost is unknown, without reaching an answer.
    CostLimit => "COST_LIMIT", Aborted, 502, 1, false;
    /// The model kept making invalid tool calls.
    TooManyToolErrors => "TOO_MANY_TOOL_ERRORS", Aborted, 502, 1, false;
    /// The job ran for longer than allowed.
    TimedOut => "TIMED_OUT", DeadlineExceeded, 504, 124, true;
    /// The job waited in the queue for longer than allowed.
    QueueTimedOut => "QUEUE_TIMED_OUT", DeadlineExceeded, 504, 124, true;
    /// Somebody cancelled the job.
    Cancelled => "CANCELLED", Cancelled, 409, 130, false;
    /// The gateway's process ended while the job ran.
    Interrupted => "INTERRUPTED", Aborted, 500, 75, true;
    /// The gateway was shut down while the job ran.
    Shutdown => "SHUTDOWN", Aborted, 500, 75, true;
    /// A bug or an unexpected failure of the gateway.
    Internal => "INTERNAL", Internal, 500, 70, false;
}

impl Reason {
    /// Returns the stable name.
    pub const fn name(self) -> &'static str {
        self.codes().name
    }

    /// Returns the HTTP status for a job that failed for this reason: 422 where the caller can mend it, 504 where it took too
    /// long, 502 where the engine, the model or a tool failed.
    pub const fn http_of_failed_job(self) -> u16 {
        let codes = self.codes();
        match codes.http {
            504 => 504,
            400 | 404 | 409 | 413 | 422 if !codes.is_retryable => 422,
            _ => 502,
        }
    }

    /// Returns the reason with this stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

/// An error: a reason, a message that tells the client what to do, and a cause for the log only.
#[derive(Clone, Debug)]
pub struct Error(Box<ErrorParts>);

#[derive(Clone, Debug)]
struct ErrorParts {
    reason: Reason,
    message: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    job_id: Option<String>,
    sequence: Option<u32>,
    cause: Option<String>,
}

impl Error {
    /// Creates an error with a message for the client.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorParts {
            reason,
            message: message.into(),
            field: None,
            retry_after: None,
            job_id: None,
            sequence: None,
            cause: None,
        }))
    }

    /// Creates an [`Reason::InvalidArgument`] error for a field, named by its path.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidArgument, message).at(field)
    }

    /// The job that something was done for was cancelled.
    pub fn cancelled() -> Self {
        Self::new(Reason::Cancelled, "the job was cancelled")
    }

    /// Creates an [`Reason::Internal`] error; the cause is logged, and the client sees a generic message.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Reason::Internal, "the gateway failed at this request; its log says why").because(cause)
    }

    /// Names the invalid field.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Sets the delay after which a retry makes sense.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Names the job that the error concerns.
    #[must_use]
    pub fn for_job(mut self, job_id: impl Into<String>) -> Self {
        self.0.job_id = Some(job_id.into());
        self
    }

    /// Sets the sequence that the error concerns: the last one of the log, or the cursor to resume from.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u32) -> Self {
        self.0.sequence = Some(sequence);
        self
    }

    /// Sets the cause, which only the log shows.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// Returns the reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// Returns the message for the client.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the path of the invalid field, if one is named.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// Returns the delay after which a retry makes sense.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the id of the job that the error concerns.
    pub fn job_id(&self) -> Option<&str> {
        self.0.job_id.as_deref()
    }

    /// Returns the sequence that the error concerns.
    pub fn sequence(&self) -> Option<u32> {
        self.0.sequence
    }

    /// Returns the cause, for the log only.
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

/// The result of most calls between modules.
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
