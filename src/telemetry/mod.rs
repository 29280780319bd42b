//! Telemetry: counters, durations and traces, which every room may record.
//!
//! *Lives here:* the trace context that a job carries, spans, the registry of metrics and its text. *May:* be used by every
//! room. *May not:* know a room, or do anything per token. `logging.rs` and the HTTP door export what is recorded here.

mod activity;
mod metrics;
mod span;
mod trace_context;

pub(crate) use activity::Activity;
pub(crate) use metrics::{TokenKind, count_request, count_tokens, exposition, observe_queue_wait};
pub(crate) use span::Span;
pub(crate) use trace_context::TraceContext;
