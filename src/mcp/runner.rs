//! How a call from outside becomes a job: the seam between the MCP handler and the room that owns jobs.

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    error::Result,
    principal::Principal,
    tool::{Call, Completed},
};

/// A call from outside that runs the engine or changes something.
#[derive(Clone, Debug)]
pub struct OutsideCall {
    /// Who calls.
    pub caller: Principal,
    /// The call.
    pub call: Call,
    /// Its arguments, as they were given.
    pub arguments: Value,
    /// The caller's idempotency key; empty where it gave none.
    pub idempotency_key: String,
}

/// What a job of such a call tells while it runs.
#[derive(Clone, Debug)]
pub enum Watched {
    /// Something for people: it waits, it started, it printed this.
    Said(String),
    /// The engine printed this.
    Output(String),
    /// It asks something.
    Asked(Asked),
}

/// The open question of a job.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The id to answer with.
    pub input_id: String,
    /// What is asked.
    pub prompt: String,
    /// The answer that is taken when nobody gives one.
    pub default: Value,
    /// The event that asks.
    pub sequence: u32,
}

/// Runs calls from outside as jobs: listed, limited, cancelled and recorded like any other.
#[async_trait]
pub trait ToolRunner: Send + Sync {
    /// Takes a call in. Answers with its job.
    ///
    /// # Errors
    /// As any submission; nothing was accepted then.
    async fn submit(&self, call: OutsideCall) -> Result<String>;

    /// Follows a job behind `after_sequence` until it has ended, telling what happens. Dropping it leaves the job alone.
    ///
    /// # Errors
    /// As any follower. A job that ran and failed is no error here.
    async fn follow(
        &self,
        caller: &Principal,
        job_id: &str,
        after_sequence: u32,
        watch: mpsc::Sender<Watched>,
    ) -> Result<Completed>;

    /// Asks a job to end, and waits until nothing of it is left or a moment has passed.
    async fn cancel(&self, caller: &Principal, job_id: &str);

    /// The open question of a job, and the call that it runs.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`]; [`crate::error::Reason::NoOpenQuestion`].
    async fn asked(&self, caller: &Principal, job_id: &str) -> Result<(Asked, Call)>;

    /// The whole answer of a job that has succeeded.
    ///
    /// # Errors
    /// [`crate::error::Reason::JobNotFound`]; [`crate::error::Reason::NoResult`]; [`crate::error::Reason::JobNotEnded`].
    async fn result(&self, caller: &Principal, job_id: &str) -> Result<String>;

    /// Answers a job's open question.
    ///
    /// # Errors
    /// As above; [`crate::error::Reason::InvalidArgument`] when the answer does not fit.
    async fn answer(&self, caller: &Principal, job_id: &str, input_id: &str, value: Value) -> Result<()>;
}
