//! How a call from outside becomes a job: the interface between the MCP handler and the room that owns jobs.

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    error::Result,
    principal::Principal,
    telemetry::TraceContext,
    tool::{Call, CompletedCall},
};

/// A call from outside that runs the engine or changes something.
#[derive(Clone, Debug)]
pub struct InboundCall {
    /// Who calls.
    pub caller: Principal,
    /// The call.
    pub call: Call,
    /// Its arguments, as they were given.
    pub arguments: Value,
    /// The caller's idempotency key; empty where it gave none.
    pub idempotency_key: String,
    /// The trace that the call belongs to, if it named one.
    pub trace: Option<TraceContext>,
}

/// What is reported of such a job while it runs.
#[derive(Clone, Debug)]
pub enum JobUpdate {
    /// A message for people: that the job waits, or has started.
    Message(String),
    /// The engine printed this.
    Output(String),
    /// The job asks a question.
    Question(JobQuestion),
}

/// The open question of a job.
#[derive(Clone, Debug)]
pub struct JobQuestion {
    /// The id to answer with.
    pub input_id: String,
    /// What is asked.
    pub prompt: String,
    /// The answer that is taken when nobody gives one.
    pub default: Value,
    /// The sequence number of the event that asks.
    pub sequence: u32,
}

/// Runs calls from outside as jobs, which are listed, limited, cancelled and recorded like any other.
#[async_trait]
pub trait ToolRunner: Send + Sync {
    /// Submits a call and returns its job's id.
    ///
    /// # Errors
    /// As for any submission; nothing was accepted then.
    async fn submit(&self, call: InboundCall) -> Result<String>;

    /// Sends the updates after the event `after_sequence` to `watch`, waiting while it is full, until the job has ended. The
    /// outcome is read from those same events, so `after_sequence` must precede the result; a long text is cut, see
    /// [`ToolRunner::result`]. Dropping the future leaves the job running.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`]; [`crate::error::Reason::StoreUnavailable`]; [`crate::error::Reason::DataLoss`];
    /// [`crate::error::Reason::Shutdown`] if the gateway stops first. That the job failed is reported in
    /// [`CompletedCall::result`].
    async fn follow(
        &self,
        caller: &Principal,
        job_id: &str,
        after_sequence: u32,
        watch: mpsc::Sender<JobUpdate>,
    ) -> Result<CompletedCall>;

    /// Asks a job to end and waits at most 30 seconds for that. Failures are ignored, also if there is no such job.
    async fn cancel(&self, caller: &Principal, job_id: &str);

    /// Returns a job's open question, and the call that the job runs.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`]; [`crate::error::Reason::NoOpenQuestion`].
    async fn asked(&self, caller: &Principal, job_id: &str) -> Result<(JobQuestion, Call)>;

    /// Returns the whole answer of a job that has succeeded.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`]; [`crate::error::Reason::NoResult`];
    /// [`crate::error::Reason::JobNotEnded`].
    async fn result(&self, caller: &Principal, job_id: &str) -> Result<String>;

    /// Answers a job's open question.
    ///
    /// # Errors
    /// As `asked`; [`crate::error::Reason::InvalidArgument`] when the answer does not match the question's schema.
    async fn answer(&self, caller: &Principal, job_id: &str, input_id: &str, value: Value) -> Result<()>;
}
