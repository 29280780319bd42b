//! Computes a job's state as a fold over its events, with the same result while it runs, when it is read later, and after a
//! restart.

use crate::pb::{
    InputQuestion, Job, JobError, JobResult, JobState, StatusReason, Timestamp, Usage, job::Outcome,
    job_event::Payload,
};

/// Returns whether an event changes the job's state beyond `last_sequence`.
pub(super) fn changes_snapshot(payload: &Payload) -> bool {
    match payload {
        Payload::StatusUpdate(update) => update.reason() == StatusReason::CancelRequested,
        Payload::OnChainStart(_)
        | Payload::OnLlmStart(_)
        | Payload::OnLlmNewToken(_)
        | Payload::OnLlmEnd(_)
        | Payload::OnToolStart(_)
        | Payload::OnToolOutput(_) => false,
        Payload::JobStarted(_)
        | Payload::OnChainEnd(_)
        | Payload::OnToolEnd(_)
        | Payload::InputRequired(_)
        | Payload::InputReceived(_)
        | Payload::Result(_)
        | Payload::Error(_)
        | Payload::EndOfStream(_) => true,
    }
}

/// Applies one event, which was written at `time`, to the job's state.
pub(crate) fn apply(job: &mut Job, sequence: u32, time: Timestamp, payload: &Payload) {
    job.last_sequence = sequence;
    match payload {
        Payload::JobStarted(_) => {
            job.set_state(JobState::Running);
            job.start_time = Some(time);
        }
        Payload::StatusUpdate(update) if update.reason() == StatusReason::CancelRequested => {
            job.cancel_request_time.get_or_insert(time);
        }
        Payload::OnChainEnd(end) => job.usage = end.usage.clone(),
        Payload::OnToolEnd(_) => {
            let usage = job.usage.get_or_insert_with(Usage::default);
            usage.tool_calls = Some(usage.tool_calls.unwrap_or(0) + 1);
        }
        Payload::InputRequired(asked) => {
            job.set_state(JobState::InputRequired);
            job.question = Some(InputQuestion {
                input_id: asked.input_id.clone(),
                prompt: asked.prompt.clone(),
                schema: asked.schema.clone(),
                expire_time: asked.expire_time,
                default_value: asked.default_value.clone(),
                sequence,
            });
        }
        Payload::InputReceived(_) => {
            job.set_state(JobState::Running);
            job.question = None;
        }
        Payload::Result(result) => {
            job.outcome = Some(Outcome::Result(JobResult {
                text: result.result.clone(),
                structured: result.structured.clone(),
                is_truncated: result.is_truncated,
                message: result.message.clone(),
                result_bytes: result.result_bytes,
            }));
        }
        Payload::Error(error) => {
            job.outcome = Some(Outcome::Error(JobError {
                reason: error.reason.clone(),
                message: error.message.clone(),
                is_retryable: error.is_retryable,
                cancelled_by: error.cancelled_by.clone(),
                details: error.details.clone(),
            }));
        }
        Payload::EndOfStream(end) => {
            job.set_state(end.state());
            job.end_time = Some(time);
            job.question = None;
        }
        _ => {}
    }
}
