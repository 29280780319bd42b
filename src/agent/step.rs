//! One model call: its tokens are written as they come, and it is tried again while nobody has seen any of them.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt;
use tokio::time::Instant;

use super::{
    TaskExecutor,
    chain::{Chain, LlmCall},
};
use crate::{
    error::{Error, Reason, Result},
    llm::{self, FailureKind, Model, ModelFailure, ModelRequest, ModelTurn, Piece},
    pb::{JobState, StatusReason},
    sync::back_off,
    telemetry::{Activity, Span},
};

/// The pause before the first retry, which then doubles, and the longest one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Why a call has no answer.
enum StepFailure {
    /// The model or its server failed.
    Failed(ModelFailure),
    /// The job was cancelled, or is past its deadline.
    Ended(Error),
    /// A fault of ours.
    Broken(Error),
}

impl StepFailure {
    /// Returns the name of the reason, for the span of the call.
    fn name(&self) -> &'static str {
        match self {
            Self::Failed(failure) => reason_of(failure.kind).name(),
            Self::Ended(error) | Self::Broken(error) => error.reason().name(),
        }
    }
}

fn reason_of(kind: FailureKind) -> Reason {
    match kind {
        FailureKind::Unreachable | FailureKind::Unavailable => Reason::ModelUnavailable,
        FailureKind::TimedOut => Reason::ModelTimedOut,
        FailureKind::Refused => Reason::ModelRefused,
        FailureKind::Malformed => Reason::ModelFailed,
    }
}

impl TaskExecutor<'_> {
    /// Asks the model, and retries where that is worth it, within the time limit of one step.
    pub(super) async fn step(
        &self,
        model: &dyn Model,
        step: u32,
        request: &ModelRequest,
        chain: &mut Chain<'_>,
    ) -> Result<ModelTurn> {
        let config = &self.planner.config;
        let until = self.limit.end().min(Instant::now() + config.step_timeout());
        let mut attempt = 1;
        loop {
            let mut call = chain.llm(step, attempt).await?;
            let provider = model.identity().provider;
            let span = Span::begin(Activity::Chat, provider, self.trace, &self.job_id);
            let asked = ModelRequest { trace: Some(span.context()), ..request.clone() };
            let answered = self.ask_once(model, asked, until, &mut call).await;
            span.end(answered.as_ref().map_or_else(StepFailure::name, |_| "ok"));
            let stopped = match answered {
                Ok(mut turn) => match llm::repair(&mut turn, request) {
                    Ok(repaired) => {
                        call.end(&turn, repaired).await?;
                        return Ok(turn);
                    }
                    Err(failure) => {
                        call.used(turn.usage);
                        StepFailure::Failed(failure)
                    }
                },
                Err(stopped) => stopped,
            };
            let has_forwarded = call.has_forwarded();
            let failure = match stopped {
                StepFailure::Broken(error) => return Err(error),
                StepFailure::Ended(error) => {
                    call.fail(if error.reason() == Reason::Cancelled { "cancelled" } else { "error" })
                        .await?;
                    return Err(error);
                }
                StepFailure::Failed(failure) => failure,
            };
            call.fail("error").await?;
            let wait = failure.retry_after.unwrap_or_else(|| back_off(attempt, FIRST_WAIT, LONGEST_WAIT));
            let is_worth_it = failure.is_retryable()
                && !has_forwarded
                && attempt < config.max_attempts
                && wait <= Duration::from_secs(config.max_retry_wait_seconds.into())
                && Instant::now() + wait < until;
            if !is_worth_it {
                return Err(to_error(&failure, attempt, has_forwarded));
            }
            attempt += 1;
            let message =
                format!("{}; attempt {attempt} in {:.1} seconds", failure.message, wait.as_secs_f64());
            chain.tools().status(JobState::Running, StatusReason::ModelRetry, None, message).await?;
            tokio::select! {
                // Cancel safe: both branches only wait.
                biased;
                () = tokio::time::sleep(wait) => {}
                () = self.cancel.cancelled() => return Err(Error::cancelled()),
            }
        }
    }

    async fn ask_once(
        &self,
        model: &dyn Model,
        request: ModelRequest,
        until: Instant,
        call: &mut LlmCall<'_, '_>,
    ) -> Result<ModelTurn, StepFailure> {
        // Dropping the pieces ends the request, and the model's server notices that.
        let mut pieces = model.ask(request);
        // Made once and not for each token.
        let (mut cancelled, mut late) =
            (pin!(self.cancel.cancelled()), pin!(tokio::time::sleep_until(until)));
        loop {
            let piece = tokio::select! {
                // Pieces first, so that a token that was read is written.
                biased;
                piece = pieces.next() => piece,
                () = &mut cancelled => return Err(StepFailure::Ended(Error::cancelled())),
                () = &mut late => return Err(self.too_late()),
            };
            // A server that never pauses would keep the timer's branch from ever being polled.
            if Instant::now() >= until {
                return Err(self.too_late());
            }
            match piece {
                Some(Ok(Piece::Text(text))) if text.is_empty() => {}
                Some(Ok(Piece::Text(text))) => call.token(text, false).await.map_err(StepFailure::Broken)?,
                Some(Ok(Piece::Reasoning(text))) => {
                    call.token(text, true).await.map_err(StepFailure::Broken)?
                }
                Some(Ok(Piece::Used(usage))) => call.used(usage),
                Some(Ok(Piece::End(turn))) => return Ok(turn),
                Some(Err(failure)) => return Err(StepFailure::Failed(failure)),
                None => {
                    let message = "the model's answer ended without an end";
                    return Err(StepFailure::Failed(ModelFailure::new(FailureKind::Malformed, message)));
                }
            }
            // A model that never pauses must not keep a cancellation from being noticed.
            if self.cancel.is_cancelled() {
                return Err(StepFailure::Ended(Error::cancelled()));
            }
        }
    }

    fn too_late(&self) -> StepFailure {
        if self.limit.has_passed() {
            return StepFailure::Ended(timed_out());
        }
        let seconds = self.planner.config.step_timeout_seconds;
        let message = format!("the model took longer than {seconds} seconds for one answer");
        StepFailure::Failed(ModelFailure::new(FailureKind::TimedOut, message))
    }
}

pub(super) fn timed_out() -> Error {
    Error::new(Reason::TimedOut, "the job's time is over; give it more time, or less to do")
}

fn to_error(failure: &ModelFailure, attempts: u32, has_forwarded: bool) -> Error {
    let reason = reason_of(failure.kind);
    let mut message = failure.message.clone();
    if let Some(wait) = failure.retry_after {
        message += &format!("; it asks to be left alone for {} seconds", wait.as_secs());
    }
    if attempts > 1 {
        message += &format!("; {attempts} attempts were made");
    } else if has_forwarded && failure.is_retryable() {
        message += "; a part of the answer was shown already, so that it was not tried again";
    }
    let error = Error::new(reason, message);
    match failure.retry_after {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}
