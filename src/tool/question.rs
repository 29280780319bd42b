//! The questions that a call asks while it runs, and how it gets their answers.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::{CallContext, Progress, Question};
use crate::error::{Error, Reason, Result};

impl CallContext {
    /// Asks a question and returns the answer. Returns `default` when the question is dropped unanswered, and at once when
    /// nobody receives the call's progress. The receiver of the progress answers with `default` once `timeout` has passed.
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
        // Nobody receives a question that was not sent, and so it is dropped without an answer.
        let answered = async {
            let _unheard = self.progress.send(Progress::Question(question)).await;
            answer.await
        };
        tokio::select! {
            // Cancel safe: what is dropped here is asked no more.
            biased;
            answer = answered => Ok(answer.unwrap_or(default)),
            () = self.cancel.cancelled() => Err(Error::cancelled()),
            () = self.limit.passed() => {
                Err(Error::new(Reason::TimedOut, "the job's time was over before there was an answer"))
            }
        }
    }
}
