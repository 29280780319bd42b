//! A span: something with a beginning and an end, which is counted, timed and put into its trace.

use tokio::time::Instant;

use super::{Activity, TraceContext, metrics};

/// The target of the log's lines for spans; `telemetry.log: info,span=debug` shows them.
const TARGET: &str = "span";

/// A span that has begun. It ends with [`Span::end`]; one that is dropped before ends as `abandoned`.
#[derive(Debug)]
pub(crate) struct Span {
    activity: Activity,
    subject: &'static str,
    parent: TraceContext,
    context: TraceContext,
    job_id: String,
    begun: Instant,
    has_ended: bool,
}

impl Span {
    /// Begins a span below `parent`. `subject` is one of few, because it becomes a label of the metrics.
    pub(crate) fn begin(
        activity: Activity,
        subject: &'static str,
        parent: TraceContext,
        job_id: &str,
    ) -> Self {
        let (context, job_id) = (parent.child(), job_id.to_owned());
        Self { activity, subject, parent, context, job_id, begun: Instant::now(), has_ended: false }
    }

    /// Returns the context for what is done within this span.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// Ends the span. `outcome` is `ok`, or the name of a reason.
    pub(crate) fn end(mut self, outcome: &'static str) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: &'static str) {
        self.has_ended = true;
        let took = self.begun.elapsed();
        metrics::observe(self.activity, self.subject, outcome, took);
        tracing::debug!(
            target: TARGET,
            name = self.activity.name(),
            subject = self.subject,
            trace_id = self.context.trace_id(),
            span_id = self.context.span_id(),
            parent_span_id = self.parent.span_id(),
            job_id = self.job_id,
            outcome,
            duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "span"
        );
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if !self.has_ended {
            self.record("abandoned");
        }
    }
}
