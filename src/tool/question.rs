//! The questions that a call asks while it runs, and how it gets their answers.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::{CallContext, Progress, Question};
use crate::error::{Error, Reason, Result};

impl CallContext {
    /// Asks a question and returns its answer, or `default` when the question is dropped. Without a receiver of
    /// progress, returns `default` at once.
    ///
    /// # Errors
    /// [`Reason::Cancelled`]; [`Reason::TimedOut`] when the job's own deadline passes first.
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
            // Cancel safe: every branch only waits.
            biased;
            answer = answer => Ok(answer.unwrap_or(default)),
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            () = tokio::time::sleep_until(self.deadline) => {
                Err(Error::new(Reason::TimedOut, "the job's time was over before there was an answer"))
            }
        }
    }
}
