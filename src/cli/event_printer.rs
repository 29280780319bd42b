//! Prints a job's events: the answer on standard output, everything else on standard error; or JSON lines.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use super::{
    choices::choices,
    job_ids::short,
    print::{answer, styled_to_stderr, to_stdout},
    terminal::{Colour, coloured, in_words},
};
use crate::{
    edge::http::write_event,
    error::Reason,
    pb::{Job, JobEvent, JobState, OutputStream, Timestamp, job::Outcome, job_event::Payload},
    text::shown,
};

/// After this much silence a terminal shows what is going on, and for how long.
const SILENCE_ON_TERMINALS: Duration = Duration::from_secs(2);
/// The same where standard error is no terminal, as in a log.
const SILENCE_IN_LOGS: Duration = Duration::from_secs(30);
/// How much of what was streamed is kept to tell whether it was the answer.
const MAX_STREAMED_BYTES: usize = 1024 * 1024;

/// What of a job is printed, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum EventFormat {
    /// For people: the answer on standard output, the rest on standard error.
    #[default]
    Human,
    /// The answer only.
    Quiet,
    /// Each event as a line of JSON on standard output.
    Json,
}

/// Prints a job's events and records how the job ended.
#[derive(Debug)]
pub(super) struct EventPrinter {
    format: EventFormat,
    /// Whether the answer is shown as it comes: only on a terminal, where it need not be told apart from the rest.
    streams: bool,
    is_in_line: bool,
    has_live_line: bool,
    /// What was streamed since the last step or call began, and whether it is all of it.
    streamed: String,
    /// How many bytes were streamed since then.
    streamed_bytes: usize,
    answered_here: bool,
    /// The flags with which another command reaches the gateway of the job.
    reaching: String,
    outcome: Option<(JobState, Option<Reason>)>,
    last_reason: Option<Reason>,
    wants_whole: Option<String>,
    last_sequence: u32,
    doing: String,
    /// Whether a person is typing, whose line must not be written over.
    is_asking: bool,
    since: Instant,
    last_printed: Instant,
    /// The times of the job's first event and of the last one that was printed.
    first_and_last: Option<(Timestamp, Timestamp)>,
}

impl EventPrinter {
    pub(super) fn new(format: EventFormat) -> Self {
        let now = Instant::now();
        Self {
            format,
            streams: format == EventFormat::Human && io::stdout().is_terminal(),
            is_in_line: false,
            has_live_line: false,
            streamed: String::new(),
            streamed_bytes: 0,
            answered_here: false,
            reaching: String::new(),
            outcome: None,
            last_reason: None,
            wants_whole: None,
            last_sequence: 0,
            doing: "waiting for the job".to_owned(),
            is_asking: false,
            since: now,
            last_printed: now,
            first_and_last: None,
        }
    }

    /// Sets that questions are answered on this program's standard input.
    pub(super) fn answered_here(mut self) -> Self {
        self.answered_here = true;
        self
    }

    /// Sets the flags with which another command reaches the gateway of the job, each after a space.
    pub(super) fn reaching(mut self, flags: String) -> Self {
        self.reaching = flags;
        self
    }

    /// Sets the sequence behind which the printing begins.
    pub(super) fn after(mut self, sequence: u32) -> Self {
        self.last_sequence = sequence;
        self
    }

    /// Takes the outcome from the job's record, for when the job's last event was not among those printed.
    pub(super) fn ended(&mut self, job: &Job) {
        let reason = match &job.outcome {
            Some(Outcome::Error(error)) => Reason::from_name(&error.reason),
            _ => None,
        };
        self.outcome = Some((job.state(), reason));
        self.remark(&format!("{} is {}; it has no further events", job.job_id, job.state().short_name()));
    }

    /// Returns, once, the id of the job whose answer was too long for its event and is still to be printed.
    pub(super) fn wants_whole(&mut self) -> Option<String> {
        self.wants_whole.take()
    }

    /// Returns whether the end of the job was seen.
    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    /// Returns the sequence of the last event that was printed.
    pub(super) fn last_sequence(&self) -> u32 {
        self.last_sequence
    }

    pub(super) fn event(&mut self, event: &JobEvent) {
        self.last_sequence = event.sequence;
        if let Some(time) = event.event_time {
            match &mut self.first_and_last {
                Some((_, last)) => *last = time,
                // Of a job that is read from its middle it is not known when it began.
                None if event.sequence == 1 => self.first_and_last = Some((time, time)),
                None => {}
            }
        }
        if self.format == EventFormat::Json {
            let mut line = Vec::new();
            if write_event(&mut line, event).is_some() {
                line.push(b'\n');
                to_stdout(&String::from_utf8_lossy(&line));
            }
        }
        let Some(payload) = &event.payload else { return };
        self.is_asking &= !matches!(payload, Payload::InputReceived(_) | Payload::EndOfStream(_));
        match payload {
            Payload::Error(error) => self.last_reason = Reason::from_name(&error.reason),
            Payload::EndOfStream(end) => self.outcome = Some((end.state(), self.last_reason)),
            _ => {}
        }
        if self.format != EventFormat::Json {
            self.human(&event.job_id, payload);
        }
    }

    /// Shows what is going on after a while of silence. Called about once a second.
    pub(super) fn tick(&mut self) {
        let is_terminal = io::stderr().is_terminal();
        let silence = if is_terminal { SILENCE_ON_TERMINALS } else { SILENCE_IN_LOGS };
        let is_silent = self.last_printed.elapsed() >= silence;
        if self.format != EventFormat::Human
            || self.has_ended()
            || self.is_in_line
            || self.is_asking
            || !is_silent
        {
            return;
        }
        let line =
            format!("… {}, {}", self.doing, in_words(Duration::from_secs(self.since.elapsed().as_secs())));
        if is_terminal {
            styled_to_stderr(&format!("\r\x1b[K{}", coloured(&line, Colour::Dim)));
            self.has_live_line = true;
        } else {
            styled_to_stderr(&format!("{line}\n"));
            self.last_printed = Instant::now();
        }
    }

    /// Says something beside the events: on standard error, unless only the answer or JSON is wanted.
    pub(super) fn remark(&mut self, text: &str) {
        self.say(text, Colour::Dim);
    }

    fn say(&mut self, text: &str, colour: Colour) {
        if self.format == EventFormat::Human {
            self.line(text, colour);
        }
    }

    /// Says what has to be seen whatever the format is.
    pub(super) fn warn(&mut self, text: &str) {
        self.line(text, Colour::Yellow);
    }

    fn line(&mut self, text: &str, colour: Colour) {
        self.begin_output();
        if std::mem::take(&mut self.is_in_line) {
            to_stdout("\n");
        }
        styled_to_stderr(&format!("{}\n", coloured(&shown(text), colour)));
    }

    fn begin_output(&mut self) {
        if std::mem::take(&mut self.has_live_line) {
            styled_to_stderr("\r\x1b[K");
        }
        self.last_printed = Instant::now();
    }

    fn now_doing(&mut self, what: &str) {
        self.doing = shown(what);
        self.since = Instant::now();
    }

    /// Prints a part of what may become the answer.
    fn stream(&mut self, text: &str) {
        self.streamed_bytes += text.len();
        if self.streamed.len() + text.len() <= MAX_STREAMED_BYTES {
            self.streamed.push_str(text);
        }
        if self.streams {
            self.begin_output();
            to_stdout(&shown(text));
            self.is_in_line = !text.ends_with('\n');
        }
    }

    fn begin_streaming(&mut self) {
        self.streamed.clear();
        self.streamed_bytes = 0;
    }

    /// Prints what is no answer: dim, on standard error.
    fn aside(&mut self, text: &str) {
        if self.format == EventFormat::Human {
            self.begin_output();
            if std::mem::take(&mut self.is_in_line) {
                to_stdout("\n");
            }
            styled_to_stderr(&coloured(&shown(text), Colour::Dim));
        }
    }

    fn result(&mut self, job_id: &str, text: &str, whole_bytes: u32) {
        if std::mem::take(&mut self.is_in_line) {
            to_stdout("\n");
        }
        self.begin_output();
        // On a terminal the answer was shown as it came.
        let is_cut = whole_bytes as usize > text.len();
        // Of a longer one the event has the beginning only; an engine may end it with a line feed of its own.
        let is_whole = is_cut && self.streamed_bytes.abs_diff(whole_bytes as usize) <= 2;
        if self.streams && (is_whole || self.streamed.trim() == text.trim()) {
            return;
        }
        match is_cut {
            // It is read completely, and printed, once the job has ended.
            true => self.wants_whole = Some(job_id.to_owned()),
            false => answer(text),
        }
    }

    fn human(&mut self, job_id: &str, payload: &Payload) {
        match payload {
            Payload::JobStarted(started) => {
                self.now_doing("working");
                self.remark(&format!("job {} started (engine: {})", short(job_id), started.engine));
            }
            Payload::StatusUpdate(update) => {
                self.now_doing(&update.message);
                self.remark(&update.message);
            }
            Payload::OnChainStart(start) if start.model.is_empty() => {
                self.remark(&format!("planner: {}", start.planner));
            }
            Payload::OnChainStart(start) => {
                self.remark(&format!("planner: {} ({}: {})", start.planner, start.provider, start.model));
            }
            Payload::OnLlmStart(_) => {
                self.begin_streaming();
                self.now_doing("the model is thinking");
            }
            Payload::OnToolStart(start) => {
                self.begin_streaming();
                let arguments = start.arguments.as_ref().map(|json| json.text.as_str()).unwrap_or_default();
                let arguments: String = arguments.chars().take(200).collect();
                self.now_doing(&start.tool);
                self.remark(&format!("{} {arguments}", start.tool));
            }
            Payload::OnToolOutput(output) => {
                match output.stream() {
                    OutputStream::Stdout if self.streams => self.stream(&output.text),
                    _ => self.aside(&output.text),
                }
                if output.is_truncated {
                    self.remark("… output limit reached, the rest is not shown");
                }
            }
            Payload::OnLlmNewToken(token) if token.is_reasoning => self.aside(&token.text),
            Payload::OnLlmNewToken(token) => self.stream(&token.text),
            Payload::OnToolEnd(end) => {
                let outcome = if end.is_error { "failed" } else { "done" };
                let took = in_words(Duration::from_millis(end.duration_ms.into()));
                self.now_doing("working");
                self.remark(&format!("{} {outcome} in {took}", end.tool));
            }
            Payload::Result(result) => {
                match result.is_truncated && result.result_bytes as usize <= result.result.len() {
                    true => self.warn(&result.message),
                    false => self.remark(&result.message),
                }
                self.result(job_id, &result.result, result.result_bytes);
            }
            Payload::Error(error) => {
                self.line(&format!("{}: {}", error.reason, error.message), Colour::Red);
            }
            Payload::EndOfStream(end) => {
                let state = end.state();
                let colour = if state == JobState::Succeeded { Colour::Green } else { Colour::Red };
                // Between the events, because those of an ended job are read in no time.
                let took = self.first_and_last.map_or_else(String::new, |(first, last)| {
                    let milliseconds = last.unix_millis().saturating_sub(first.unix_millis());
                    format!(" after {}", in_words(Duration::from_millis(milliseconds)))
                });
                self.say(&format!("{}{took}", state.short_name().to_lowercase()), colour);
            }
            Payload::InputRequired(asked) => {
                let choices = choices(asked.schema.as_ref());
                let way = match self.answered_here {
                    true => "type the answer".to_owned(),
                    false => {
                        format!(
                            "answer: conductor-gateway jobs answer {} TEXT{}",
                            short(job_id),
                            self.reaching
                        )
                    }
                };
                self.now_doing("waiting for an answer");
                self.is_asking = self.answered_here && io::stdin().is_terminal();
                self.warn(&format!("asks: {}{choices} [{way}]", asked.prompt));
            }
            Payload::InputReceived(received) if received.is_default => {
                self.remark("nobody answered in time; the default was taken");
            }
            Payload::InputReceived(received) => {
                self.remark(&format!("answered by {}", received.caller));
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
