//! What a call asks while it runs, and whoever answers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{CallContext, Progress};
use crate::error::{Error, Reason, Result};

/// A question of a running call.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub prompt: String,
    /// The JSON Schema that an answer has to fit.
    pub schema: Value,
    /// The answer that is taken when nobody gives one in time.
    pub default: Value,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Value>,
}

impl Question {
    /// The schema of a yes or no.
    pub fn yes_or_no() -> Value {
        json!({"type": "boolean"})
    }
}

impl CallContext {
    /// Asks, and waits for the answer or the default. Where nobody listens the default is taken at once.
    ///
    /// # Errors
    /// [`Reason::Cancelled`]; [`Reason::TimedOut`] at the job's own deadline.
    pub async fn ask(
        &self,
        prompt: impl Into<String>,
        schema: Value,
        default: Value,
        timeout: Duration,
    ) -> Result<Value> {
        let (reply, answer) = oneshot::channel();
        let question = Question { prompt: prompt.into(), schema, default: default.clone(), timeout, reply };
        if self.progress.send(Progress::Question(question)).await.is_err() {
            return Ok(default);
        }
        tokio::select! {
            // Every branch only waits.
            biased;
            answer = answer => Ok(answer.unwrap_or(default)),
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            () = tokio::time::sleep_until(self.deadline) => {
                Err(Error::new(Reason::TimedOut, "the job's time was over before there was an answer"))
            }
        }
    }
}
