//! Printing: events in a form for people, or as JSON lines.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use super::choices::choices;
use crate::{
    edge::http::write_event,
    error::Reason,
    pb::{Job, JobEvent, JobState, OutputStream, job::Outcome, job_event::Payload, task},
    text::shown,
};

/// Whether some output could not be written.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// Prints to standard output at once. A reader that is gone is no reason to stop; a full disk shows in the exit status.
pub(super) fn to_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
        && !IS_CUT.swap(true, Ordering::Relaxed)
    {
        to_stderr(&format!("standard output takes no more: {error}\n"));
    }
}

/// Returns whether standard output took everything, apart from a reader that is gone.
pub(super) fn is_whole() -> bool {
    !IS_CUT.load(Ordering::Relaxed)
}

/// Prints to standard error. Foreign text has been cleaned before; it is cleaned once more in case that was forgotten.
pub(super) fn to_stderr(text: &str) {
    let text = shown(text);
    let _unheard = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a job's events and records how the job ended.
#[derive(Debug, Default)]
pub(super) struct EventPrinter {
    is_json: bool,
    is_in_line: bool,
    has_streamed: bool,
    answered_here: bool,
    outcome: Option<(JobState, Option<Reason>)>,
    last_reason: Option<Reason>,
    wants_whole: Option<String>,
}

impl EventPrinter {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, ..Self::default() }
    }

    /// Sets that questions are answered on this program's standard input.
    pub(super) fn answered_here(mut self) -> Self {
        self.answered_here = true;
        self
    }

    /// Takes the outcome from the job's record, for when the job's last event was not among those printed.
    pub(super) fn ended(&mut self, job: &Job) {
        let reason = match &job.outcome {
            Some(Outcome::Error(error)) => Reason::from_name(&error.reason),
            _ => None,
        };
        self.outcome = Some((job.state(), reason));
        if !self.is_json {
            self.remark(&format!("{} is {}; it has no further events", job.job_id, job.state().short_name()));
        }
    }

    /// Returns, once, the id of the job whose answer was too long for its event and is still to be printed.
    pub(super) fn wants_whole(&mut self) -> Option<String> {
        self.wants_whole.take()
    }

    /// Returns whether the end of the job was seen.
    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn event(&mut self, event: &JobEvent) {
        if self.is_json {
            let mut line = Vec::new();
            if write_event(&mut line, event).is_some() {
                line.push(b'\n');
                to_stdout(&String::from_utf8_lossy(&line));
            }
        }
        let Some(payload) = &event.payload else { return };
        match payload {
            Payload::Error(error) => self.last_reason = Reason::from_name(&error.reason),
            Payload::EndOfStream(end) => self.outcome = Some((end.state(), self.last_reason)),
            _ => {}
        }
        if !self.is_json {
            self.human(event.sequence, &event.job_id, payload);
        }
    }

    fn remark(&mut self, text: &str) {
        if std::mem::take(&mut self.is_in_line) {
            to_stdout("\n");
        }
        to_stderr(&format!("{}\n", shown(text)));
    }

    fn human(&mut self, sequence: u32, job_id: &str, payload: &Payload) {
        match payload {
            Payload::JobStarted(started) => {
                self.remark(&format!("[{sequence}] started (engine: {})", started.engine))
            }
            Payload::StatusUpdate(update) => self.remark(&format!("[{sequence}] {}", update.message)),
            Payload::OnChainStart(start) if start.model.is_empty() => {
                self.remark(&format!("[{sequence}] planner: {}", start.planner))
            }
            Payload::OnChainStart(start) => self.remark(&format!(
                "[{sequence}] planner: {} ({}: {})",
                start.planner, start.provider, start.model
            )),
            Payload::OnToolStart(start) => {
                let arguments = start.arguments.as_ref().map(|json| json.text.clone()).unwrap_or_default();
                let arguments: String = arguments.chars().take(200).collect();
                self.remark(&format!("[{sequence}] {} {arguments}", start.tool));
            }
            Payload::OnToolOutput(output) => {
                let text = shown(&output.text);
                if output.stream() == OutputStream::Log {
                    // What an engine prints besides its answer is shown only with `--json`.
                } else if output.stream() == OutputStream::Stderr {
                    self.remark(text.trim_end());
                } else {
                    to_stdout(&text);
                    self.is_in_line = !text.ends_with('\n');
                    self.has_streamed = true;
                }
                if output.is_truncated {
                    self.remark("… output limit reached, the rest is not shown");
                }
            }
            Payload::OnLlmNewToken(token) => {
                to_stdout(&shown(&token.text));
                self.is_in_line = !token.text.ends_with('\n');
                self.has_streamed = true;
            }
            Payload::OnToolEnd(end) => {
                let outcome = if end.is_error { "failed" } else { "done" };
                self.remark(&format!("[{sequence}] {} {outcome} in {} ms", end.tool, end.duration_ms));
            }
            // A longer answer is read completely, and printed, once the job has ended.
            Payload::Result(result)
                if !self.has_streamed && result.result_bytes as usize > result.result.len() =>
            {
                self.remark(&format!("[{sequence}] {}", result.message));
                self.wants_whole = Some(job_id.to_owned());
            }
            Payload::Result(result) if self.has_streamed => {
                self.remark(&format!("[{sequence}] {}", result.message));
            }
            Payload::Result(result) => {
                self.remark(&format!("[{sequence}] {}", result.message));
                answer(&result.result);
            }
            Payload::Error(error) => {
                self.remark(&format!("[{sequence}] {}: {}", error.reason, error.message))
            }
            Payload::EndOfStream(end) => {
                self.remark(&format!("[{sequence}] {}", end.state().short_name().to_lowercase()));
            }
            Payload::InputRequired(asked) => {
                let choices = choices(asked.schema.as_ref());
                let way = match self.answered_here {
                    true => "type the answer".to_owned(),
                    false => format!("answer: conductor-gateway jobs answer {job_id} TEXT"),
                };
                self.remark(&format!("[{sequence}] asks: {}{choices} [{way}]", asked.prompt));
            }
            Payload::InputReceived(received) if received.is_default => {
                self.remark(&format!("[{sequence}] nobody answered in time; the default was taken"))
            }
            Payload::InputReceived(received) => {
                self.remark(&format!("[{sequence}] answered by {}", received.caller))
            }
            _ => {}
        }
    }

    /// Returns the exit status for the job's outcome; 75 (EX_TEMPFAIL) if its end was not seen.
    pub(super) fn exit_status(&self) -> u8 {
        match self.outcome {
            Some((JobState::Succeeded, _)) => 0,
            Some((_, Some(reason))) => reason.codes().exit,
            Some((_, None)) => 1,
            None => 75,
        }
    }
}

/// Formats one line about a job.
pub(super) fn job_line(job: &Job) -> String {
    let task = match job.task.as_ref().and_then(|task| task.task.as_ref()) {
        Some(task::Task::Command(command)) => command.clone(),
        Some(task::Task::AgentRun(run)) => format!("{}: {}", run.agent_id, run.input_text),
        Some(task::Task::ToolCall(call)) => call.tool.clone(),
        None => String::new(),
    };
    let task: String = shown(&task).replace('\n', " ").chars().take(60).collect();
    let created = job.create_time.map(|time| time.to_string()).unwrap_or_default();
    format!("{}  {:<11}  {created}  {task}\n", shown(&job.job_id), job.state().short_name())
}

/// Formats everything about a job.
pub(super) fn job_details(job: &Job) -> String {
    let mut text = job_line(job);
    if let Some(position) = job.queue_position {
        text += &format!("  position in the queue: {position}\n");
    }
    text += &format!("  events: {}\n", job.last_sequence);
    if let Some(question) = &job.question {
        let choices = shown(&choices(question.schema.as_ref()));
        let expires = question.expire_time.map(|time| format!(", until {time}")).unwrap_or_default();
        let prompt = shown(&question.prompt);
        text += &format!("  asks: {prompt}{choices} ({}{expires})\n", shown(&question.input_id));
    }
    match &job.outcome {
        Some(Outcome::Result(result)) => text += &format!("{}\n", shown(&result.text)),
        Some(Outcome::Error(error)) => {
            text += &format!("  {}: {}\n", shown(&error.reason), shown(&error.message))
        }
        None => {}
    }
    text
}

/// Formats foreign text as a single line that ends with a line feed.
pub(super) fn shown_line(line: &str) -> String {
    format!("{}\n", shown(line.trim_end_matches('\n')).replace('\n', " "))
}

/// Formats a value as a line of JSON, with hidden characters escaped.
pub(super) fn json_line(value: &impl serde::Serialize) -> String {
    let mut line = Vec::new();
    match crate::text::write_json(&mut line, value) {
        Ok(()) => line.push(b'\n'),
        // A value that cannot be rendered is a defect, which the empty line shows.
        Err(_) => line = vec![b'\n'],
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Prints an answer: without what moves the cursor on a terminal, unchanged for a program.
pub(super) fn answer(text: &str) {
    let text = if io::stdout().is_terminal() { shown(text) } else { text.to_owned() };
    to_stdout(&text);
    if !text.ends_with('\n') {
        to_stdout("\n");
    }
}
