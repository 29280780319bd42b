//! The one writer of a job's events: it keeps their order, and splits and cuts what is too large.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::truncate::{cut_json, cut_text};
use crate::{
    engine::{Exit, OutputChunk, Stream},
    error::{Error, Reason, Result},
    journal::Appender,
    pb::{
        EndOfStream, ErrorEvent, InputReceived, InputRequired, JobStarted, JobState, Json, OutputStream,
        ResultEvent, StatusReason, StatusUpdate, Task, Timestamp, ToolEnd, ToolOutput, ToolStart,
        job_event::Payload,
    },
    secret::mask_secrets,
    tool::{CompletedCall, Question, ToolResult},
};

/// Larger texts and documents are cut, so that an event with one of each stays within its size limit.
pub(crate) const MAX_TEXT_BYTES: usize = 96 * 1024;

/// How a job ended.
#[derive(Clone, Debug)]
pub enum JobOutcome {
    /// With a result.
    Succeeded(ToolResult),
    /// Without a result; the caller's name is set where somebody asked for the cancellation.
    Failed(Error, Option<String>),
    /// Because the gateway was shut down.
    Interrupted(Error),
}

impl JobOutcome {
    /// Returns `ok`, or the name of the reason.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "ok",
            Self::Failed(error, _) | Self::Interrupted(error) => error.reason().name(),
        }
    }

    /// Returns the job's terminal state.
    pub fn state(&self) -> JobState {
        match self {
            Self::Succeeded(_) => JobState::Succeeded,
            Self::Failed(error, _) if error.reason() == Reason::Cancelled => JobState::Cancelled,
            Self::Failed(..) => JobState::Failed,
            Self::Interrupted(_) => JobState::Interrupted,
        }
    }
}

/// Called for every event when it has its sequence number, before it can be stored. Returns the job's new state where
/// the event changes it. Must not block.
pub(crate) type AppendObserver = Arc<dyn Fn(u32, &Payload) -> Option<JobState> + Send + Sync>;

/// Writes one job's events. `finish` consumes it, so that nothing can follow the last event.
pub struct Writer {
    appender: Appender,
    appended: AppendObserver,
    next_tool_call: u32,
    next_input: u32,
}

impl Writer {
    /// Creates a writer for a job's log.
    pub fn new(appender: Appender, appended: AppendObserver) -> Self {
        Self { appender, appended, next_tool_call: 1, next_input: 1 }
    }

    pub(super) async fn append(&mut self, payload: Payload) -> Result<()> {
        self.appender.append(&payload, |sequence| (self.appended)(sequence, &payload)).await?;
        Ok(())
    }

    /// Waits until everything written is stored.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] when that takes longer than `deadline`.
    pub async fn flushed(&self, deadline: Duration) -> Result<()> {
        self.appender.flushed(deadline).await
    }

    /// Writes that the job's state has changed.
    ///
    /// # Errors
    /// As every method: [`Reason::Internal`] for a fault of ours, [`Reason::LogLimit`] where there is no room; the job
    /// then ends with it.
    pub async fn status(
        &mut self,
        state: JobState,
        reason: StatusReason,
        queue_position: Option<u32>,
        message: impl Into<String>,
    ) -> Result<()> {
        let update = StatusUpdate {
            message: message.into(),
            state: state as i32,
            queue_position,
            reason: reason as i32,
        };
        self.append(Payload::StatusUpdate(update)).await
    }

    /// Writes that the job has started.
    pub async fn started(&mut self, task: &Task, engine: &str) -> Result<()> {
        let message = "the job has started".to_owned();
        let task = Some(masked(task.clone()));
        let started = JobStarted { message, task, engine: engine.to_owned() };
        self.append(Payload::JobStarted(started)).await
    }

    /// Returns the id that the next question will have.
    pub(super) fn next_input_id(&self) -> String {
        format!("input_{}", self.next_input)
    }

    /// Writes a question, and returns its id.
    pub async fn input_required(&mut self, question: &Question, tool_call_id: &str) -> Result<String> {
        let input_id = self.next_input_id();
        self.next_input += 1;
        let mut prompt = question.prompt.clone();
        cut_text(&mut prompt, MAX_TEXT_BYTES);
        let required = InputRequired {
            input_id: input_id.clone(),
            prompt,
            schema: Some(Json::from_value(&question.schema)),
            expire_time: Some(Timestamp::now().after(question.timeout)),
            default_value: Some(Json::from_value(&question.default)),
            tool_call_id: tool_call_id.to_owned(),
        };
        self.append(Payload::InputRequired(required)).await?;
        Ok(input_id)
    }

    /// Writes that a question has its answer; without a `caller` it is the default.
    pub async fn input_received(&mut self, input_id: &str, caller: Option<&str>) -> Result<()> {
        let received = InputReceived {
            input_id: input_id.to_owned(),
            caller: caller.unwrap_or_default().to_owned(),
            is_default: caller.is_none(),
        };
        self.append(Payload::InputReceived(received)).await
    }

    /// Writes that a tool call begins, and returns its id.
    pub async fn tool_start(&mut self, tool: &str, arguments: &str, step: u32) -> Result<String> {
        let tool_call_id = format!("call_{}", self.next_tool_call);
        self.next_tool_call += 1;
        let mut arguments = crate::text::read_json(arguments).unwrap_or(Value::Null);
        mask_secrets(&mut arguments);
        let (text, is_truncated) = cut_json(arguments, 2 * MAX_TEXT_BYTES);
        let start = ToolStart {
            tool_call_id: tool_call_id.clone(),
            tool: tool.to_owned(),
            arguments: Some(Json { text }),
            step,
            is_truncated,
        };
        self.append(Payload::OnToolStart(start)).await?;
        Ok(tool_call_id)
    }

    /// Writes a tool's output. It is never cut: one read is far smaller than an event may be.
    pub async fn tool_output(&mut self, tool_call_id: &str, chunk: OutputChunk) -> Result<()> {
        let stream = match chunk.stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
            Stream::Log => OutputStream::Log,
        };
        let output = ToolOutput {
            tool_call_id: tool_call_id.to_owned(),
            stream: stream as i32,
            text: chunk.text,
            byte_offset: chunk.byte_offset,
            invalid_bytes: chunk.invalid_bytes,
            is_truncated: chunk.is_truncated,
        };
        self.append(Payload::OnToolOutput(output)).await
    }

    /// Writes that a tool call has ended.
    pub async fn tool_end(
        &mut self,
        tool_call_id: &str,
        tool: &str,
        completed: &CompletedCall,
    ) -> Result<()> {
        let mut end = ToolEnd {
            tool_call_id: tool_call_id.to_owned(),
            tool: tool.to_owned(),
            duration_ms: u32::try_from(completed.duration.as_millis()).unwrap_or(u32::MAX),
            ..ToolEnd::default()
        };
        match completed.exit {
            Some(Exit::Code(code)) => end.exit_code = Some(code),
            Some(Exit::Signal(signal)) => end.signal = Some(signal),
            Some(Exit::Lost) | None => {}
        }
        match &completed.result {
            Ok(done) => {
                let bytes = serde_json::to_string(&done.value).map_or(0, |text| text.len());
                let (text, is_cut) = cut_json(done.value.clone(), MAX_TEXT_BYTES);
                end.result = Some(Json { text });
                end.result_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                end.is_truncated = is_cut || done.is_truncated;
            }
            Err(error) => {
                end.is_error = true;
                end.error = in_full(error);
                end.is_truncated = cut_text(&mut end.error, MAX_TEXT_BYTES);
            }
        }
        self.append(Payload::OnToolEnd(end)).await
    }

    /// Appends the outcome and the last event, texts over 96 KiB cut. Does not wait until they are stored; the returned appender
    /// is for [`Journal::finish`](crate::journal::Journal::finish).
    ///
    /// # Errors
    /// As [`Writer::status`]; the writer is gone then, so the job has to be abandoned.
    pub async fn finish(mut self, outcome: &JobOutcome) -> Result<Appender> {
        let (payload, message) = match outcome {
            JobOutcome::Succeeded(done) => {
                let mut result = done.text.clone();
                let is_text_cut = cut_text(&mut result, MAX_TEXT_BYTES);
                let (text, is_cut) = cut_json(done.value.clone(), MAX_TEXT_BYTES);
                let message = match done.is_truncated {
                    false => "the job has succeeded".to_owned(),
                    true => "the job has succeeded, but its answer is cut: the model reached the most tokens of one answer \
                             (agent.max_tokens), or the output its limit"
                        .to_owned(),
                };
                let result = ResultEvent {
                    result,
                    structured: Some(Json { text }),
                    is_truncated: is_text_cut || is_cut || done.is_truncated,
                    message: message.clone(),
                    result_bytes: u32::try_from(done.text.len()).unwrap_or(u32::MAX),
                };
                (Payload::Result(result), message)
            }
            JobOutcome::Failed(error, cancelled_by) => (
                error_event(error, cancelled_by.as_deref()),
                if error.reason() == Reason::Cancelled {
                    "the job was cancelled"
                } else {
                    "the job has failed"
                }
                .to_owned(),
            ),
            JobOutcome::Interrupted(error) => {
                (error_event(error, None), "the job was interrupted".to_owned())
            }
        };
        self.append(payload).await?;
        self.append(Payload::EndOfStream(EndOfStream { state: outcome.state() as i32, message })).await?;
        Ok(self.appender)
    }
}

/// Returns a task as it may be shown: secrets in its arguments are masked, as they are in the events of its call.
pub(crate) fn masked(mut task: Task) -> Task {
    if let Some(crate::pb::task::Task::ToolCall(call)) = &mut task.task
        && let Some(arguments) = &mut call.arguments
        && let Ok(mut value) = arguments.to_value()
    {
        mask_secrets(&mut value);
        *arguments = Json::from_value(&value);
    }
    task
}

/// Returns the error's message, with the field that is wrong where there is one.
fn in_full(error: &Error) -> String {
    match error.field() {
        Some(field) => format!("{field}: {}", error.message()),
        None => error.message().to_owned(),
    }
}

fn error_event(error: &Error, cancelled_by: Option<&str>) -> Payload {
    let mut message = in_full(error);
    cut_text(&mut message, MAX_TEXT_BYTES);
    Payload::Error(ErrorEvent {
        reason: error.reason().name().to_owned(),
        message,
        is_retryable: error.reason().codes().is_retryable,
        cancelled_by: cancelled_by.unwrap_or_default().to_owned(),
        details: error.field().map(|field| Json::from_value(&serde_json::json!({"field": field}))),
    })
}
