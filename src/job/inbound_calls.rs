//! Runs tool calls of MCP clients as jobs: the implementation of [`ToolRunner`] for the MCP handler.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{CancelledBy, JobService, Submission};
use crate::{
    engine::Exit,
    error::{Error, Reason, Result},
    journal::JobId,
    mcp::{InboundCall, JobQuestion, JobUpdate, ToolRunner},
    pb::{Door, Job, Json, StatusReason, Task, TaskOptions, ToolCall, job_event::Payload, task},
    principal::Principal,
    tool::{Call, CompletedCall, ToolResult},
};

/// How long a cancellation waits for the call's processes to end before the client gets its response.
const CANCEL_TIME: Duration = Duration::from_secs(30);

fn value_of(json: Option<&Json>) -> Value {
    json.and_then(|json| json.to_value().ok()).unwrap_or(Value::Null)
}

/// Returns the tool call that a job makes.
fn call_of(job: &Job) -> Result<Call> {
    let not_a_session = || Error::new(Reason::NoOpenQuestion, "the job is no session");
    match job.task.as_ref().and_then(|task| task.task.as_ref()) {
        Some(task::Task::ToolCall(call)) => Call::read(&call.tool, call.arguments.as_ref()),
        _ => Err(not_a_session()),
    }
}

/// The outcome of a job, collected from its events while it is followed.
#[derive(Default)]
struct FollowedOutcome {
    exit: Option<Exit>,
    result: Option<Result<ToolResult>>,
    duration: Duration,
}

impl FollowedOutcome {
    fn observe(&mut self, payload: &Payload) {
        match payload {
            Payload::OnToolEnd(end) => {
                self.exit = end.exit_code.map(Exit::Code).or(end.signal.map(Exit::Signal));
                self.duration = Duration::from_millis(end.duration_ms.into());
            }
            Payload::Result(result) => {
                self.result = Some(Ok(ToolResult {
                    text: result.result.clone(),
                    value: value_of(result.structured.as_ref()),
                    is_truncated: result.is_truncated,
                }));
            }
            Payload::Error(error) => {
                let reason = Reason::from_name(&error.reason).unwrap_or(Reason::Internal);
                self.result = Some(Err(Error::new(reason, error.message.clone())));
            }
            _ => {}
        }
    }

    fn completed(self) -> CompletedCall {
        let result = self.result.unwrap_or_else(|| Err(Error::internal("a job ended without an outcome")));
        CompletedCall { result, exit: self.exit, duration: self.duration }
    }
}

/// Returns what the client of a running call is shown of an event, if anything.
fn to_update(sequence: u32, payload: &Payload) -> Option<JobUpdate> {
    match payload {
        Payload::JobStarted(_) => Some(JobUpdate::Message("the job has started".to_owned())),
        Payload::StatusUpdate(update) if update.reason() == StatusReason::Queued => {
            let position = update.queue_position.unwrap_or(1);
            Some(JobUpdate::Message(format!("{} (number {position} in the queue)", update.message)))
        }
        Payload::StatusUpdate(update) => Some(JobUpdate::Message(update.message.clone())),
        Payload::OnToolOutput(output) => Some(JobUpdate::Output(output.text.clone())),
        Payload::InputRequired(asked) => Some(JobUpdate::Question(JobQuestion {
            input_id: asked.input_id.clone(),
            prompt: asked.prompt.clone(),
            default: value_of(asked.default_value.as_ref()),
            sequence,
        })),
        _ => None,
    }
}

#[async_trait]
impl ToolRunner for JobService {
    async fn submit(&self, call: InboundCall) -> Result<String> {
        let tool_call = ToolCall {
            tool: call.call.tool().as_str().to_owned(),
            arguments: Some(Json::from_value(&call.arguments)),
        };
        let submission = Submission {
            caller: call.caller,
            door: Door::Mcp,
            task: Some(Task { task: Some(task::Task::ToolCall(tool_call)) }),
            options: TaskOptions { idempotency_key: call.idempotency_key, ..TaskOptions::default() },
            is_held: false,
            trace: call.trace,
        };
        Ok(self.submit(submission).await?.job_id.to_string())
    }

    async fn follow(
        &self,
        caller: &Principal,
        job_id: &str,
        after_sequence: u32,
        watch: mpsc::Sender<JobUpdate>,
    ) -> Result<CompletedCall> {
        let mut follower = self.follow(caller, &JobId::parse(job_id)?, after_sequence).await?;
        let mut outcome = FollowedOutcome::default();
        loop {
            let slice = tokio::select! {
                // Available events are delivered before the stream is closed. `next` is cancel safe.
                biased;
                slice = follower.next() => slice?,
                () = self.closing().cancelled() => {
                    return Err(Error::new(Reason::Shutdown, "the gateway is shutting down; look for the job after its restart"));
                }
            };
            let Some(slice) = slice else { return Ok(outcome.completed()) };
            for index in slice.from..slice.batch.len() {
                let Some(event) = slice.batch.decode(index) else { continue };
                let Some(payload) = event.payload else { continue };
                outcome.observe(&payload);
                if let Some(told) = to_update(event.sequence, &payload) {
                    // The job goes on if nobody watches it.
                    let _unwatched = watch.send(told).await;
                }
            }
        }
    }

    async fn cancel(&self, caller: &Principal, job_id: &str) {
        let Ok(job_id) = JobId::parse(job_id) else { return };
        let by = CancelledBy::Caller(caller.name().to_owned());
        if let Err(error) = self.cancel(caller, &job_id, by, CANCEL_TIME).await {
            tracing::debug!(%error, "a call's job could not be cancelled");
        }
    }

    async fn asked(&self, caller: &Principal, job_id: &str) -> Result<(JobQuestion, Call)> {
        let job = self.get(caller, &JobId::parse(job_id)?).await?;
        let call = call_of(&job)?;
        let question = job.question.ok_or_else(|| {
            let message = format!("the session {job_id} does not wait for input; it may have ended");
            Error::new(Reason::NoOpenQuestion, message)
        })?;
        let asked = JobQuestion {
            input_id: question.input_id,
            prompt: question.prompt,
            default: value_of(question.default_value.as_ref()),
            sequence: question.sequence,
        };
        Ok((asked, call))
    }

    async fn result(&self, caller: &Principal, job_id: &str) -> Result<String> {
        self.result_text(caller, &JobId::parse(job_id)?).await
    }

    async fn answer(&self, caller: &Principal, job_id: &str, input_id: &str, value: Value) -> Result<()> {
        self.send_input(caller, &JobId::parse(job_id)?, input_id, value).await.map(|_| ())
    }
}
