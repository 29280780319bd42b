//! A run that is a dialogue: it is watched for waiting at its input, and each of its prompts becomes a question.

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    DriverConfig, Ended, EngineRun, RunOutcome, RunUpdate,
    command_line::Started,
    dialogue::{came_too_soon, rule},
    failure::failed,
    root::RunRoot,
};
use crate::{
    engine::{Exit, OutputChunk, StdinState, Stream},
    error::Result,
};

/// How often to check whether the engine waits for input.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// An engine that is found sleeping in a read of its input for this long asks something.
const READ_TIME: Duration = Duration::from_millis(50);
/// An engine that only sleeps, without a child process and without output, is taken to ask after this time.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// An engine that has a connection may be waiting for its model, so it gets this time instead.
const CONNECTED_TIME: Duration = Duration::from_secs(60);
/// A prompt is cut to this many bytes.
const MAX_PROMPT_BYTES: usize = 2000;
/// Allows for the difference between the engine's clock and ours.
pub(super) const PAUSE_MARGIN: Duration = Duration::from_millis(200);
/// How often input that the engine has dropped is given again.
const MAX_REPETITIONS: u32 = 3;

/// The end of what the engine has printed since its last input.
#[derive(Default)]
struct RecentOutput(String);

impl RecentOutput {
    fn push(&mut self, chunk: &OutputChunk) {
        if chunk.stream == Stream::Stdout {
            self.0.push_str(&chunk.text);
            let over = self.0.len().saturating_sub(2 * MAX_PROMPT_BYTES);
            self.0.drain(..self.0.ceil_char_boundary(over));
        }
    }

    /// Returns the last line that is neither empty nor a rule: a prompt usually ends without a line break.
    fn prompt(&self) -> String {
        let line = self.0.lines().rev().find(|line| !line.trim().is_empty() && rule(line).is_none());
        let line = line.unwrap_or("the agent waits for input");
        line.trim()[..line.trim().floor_char_boundary(MAX_PROMPT_BYTES)].to_owned()
    }
}

/// How one kind of engine conducts a dialogue.
pub(super) trait Dialect: Send {
    /// Separates the answers in the output from the rest.
    fn push(&mut self, chunk: OutputChunk) -> Vec<OutputChunk>;
    /// Returns what is held back of the output.
    fn flush(&mut self) -> Vec<OutputChunk>;
    /// Notes that an input was answered.
    fn asks_again(&mut self);
    /// Returns the answers together; `None` where all output is the answer.
    fn answers(&self) -> Option<String>;
    /// Returns words in the form in which the engine takes them for text.
    fn literal(&self, words: &str) -> String;
    /// Returns the pause that the engine needs between two inputs.
    fn pause(&self) -> Duration;
    /// Whether the engine may wait for input without being found in a read of it.
    fn may_ask_while_idle(&self) -> bool;
}

pub(super) struct SessionRun {
    started: Started,
    config: DriverConfig,
    cancel: CancellationToken,
    dialect: Box<dyn Dialect>,
    root: Option<RunRoot>,
    agent_id: String,
    recent: RecentOutput,
    /// Output that was read and not returned yet.
    pieces: VecDeque<OutputChunk>,
    question: Option<String>,
    /// Whether a question was returned and not answered yet.
    is_asked: bool,
    is_over: bool,
    /// The first input, which is given before anybody is asked.
    first: Option<String>,
    /// The line to be given next, and not before when.
    next_line: Option<(String, Instant)>,
    /// The latest input, and when it was given.
    given: Option<(String, Instant)>,
    /// How often the latest input was given again.
    repetitions: u32,
    quiet_since: Instant,
    reads_since: Option<Instant>,
}

impl SessionRun {
    pub(super) fn new(
        started: Started,
        config: DriverConfig,
        cancel: CancellationToken,
        dialect: Box<dyn Dialect>,
        (root, agent_id, first): (Option<RunRoot>, String, Option<String>),
    ) -> Self {
        Self {
            started,
            config,
            cancel,
            dialect,
            root,
            agent_id,
            recent: RecentOutput::default(),
            pieces: VecDeque::new(),
            question: None,
            is_asked: false,
            is_over: false,
            first,
            next_line: None,
            given: None,
            repetitions: 0,
            quiet_since: Instant::now(),
            reads_since: None,
        }
    }

    fn take(&mut self, chunk: OutputChunk) {
        self.recent.push(&chunk);
        self.pieces.extend(self.dialect.push(chunk));
    }

    /// Returns an answer as one line, because a line break would end it.
    fn one_line(&self, words: &str) -> String {
        self.dialect.literal(&words.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " "))
    }

    /// Returns whether the engine waits for input.
    async fn asks(&mut self) -> bool {
        let now = Instant::now();
        let attention = self.started.run.attention().await;
        self.reads_since = (attention == StdinState::Reads).then(|| self.reads_since.unwrap_or(now));
        match attention {
            StdinState::Reads => self.reads_since.is_some_and(|since| now - since >= READ_TIME),
            StdinState::Idles if self.dialect.may_ask_while_idle() => {
                let quiet = now - self.quiet_since;
                quiet >= CONNECTED_TIME || (quiet >= IDLE_TIME && !self.started.run.is_connected().await)
            }
            StdinState::Idles | StdinState::Elsewhere => false,
        }
    }

    /// Handles a wait for input: gives again what the engine has dropped, or asks.
    fn take_turn(&mut self) {
        self.pieces.extend(self.dialect.flush());
        if let Some((line, _)) = self.given.clone()
            && let Some(pause) = came_too_soon(&self.recent.0)
            && self.repetitions < MAX_REPETITIONS
        {
            self.repetitions += 1;
            self.next_line = Some((line, Instant::now() + pause + PAUSE_MARGIN));
        } else {
            if self.given.is_some() {
                self.dialect.asks_again();
            }
            match self.first.take() {
                Some(first) => self.next_line = Some((self.one_line(&first), Instant::now())),
                None => {
                    self.question = Some(self.recent.prompt());
                    self.is_asked = true;
                }
            }
        }
        self.recent = RecentOutput::default();
        (self.quiet_since, self.reads_since) = (Instant::now(), None);
    }
}

#[async_trait]
impl EngineRun for SessionRun {
    async fn next(&mut self) -> Result<Option<RunUpdate>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(RunUpdate::Output(piece)));
            }
            if let Some(question) = self.question.take() {
                return Ok(Some(RunUpdate::Question(question)));
            }
            if self.is_over {
                return Ok(None);
            }
            if let Some((line, _)) = self.next_line.take_if(|(_, at)| *at <= Instant::now()) {
                self.given = Some((line.clone(), Instant::now()));
                self.started.run.say(&format!("{line}\n")).await;
                (self.quiet_since, self.reads_since) = (Instant::now(), None);
            }
            let due = self.next_line.as_ref().map(|(_, at)| *at);
            let looks = due.is_none() && !self.is_asked;
            let chunk = tokio::select! {
                // A line that is due first; then output, so that a prompt has been read before it is asked. `next` is cancel safe,
                // the other branches only wait.
                biased;
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
                chunk = self.started.run.next(&self.cancel) => chunk,
                () = tokio::time::sleep(LOOK_AGAIN), if looks => {
                    if self.asks().await {
                        self.take_turn();
                    }
                    continue;
                }
            };
            match chunk {
                Some(chunk) => {
                    (self.quiet_since, self.reads_since) = (Instant::now(), None);
                    self.take(chunk);
                }
                None => {
                    self.is_over = true;
                    self.pieces.extend(self.dialect.flush());
                }
            }
        }
    }

    fn answer(&mut self, line: Option<String>) {
        self.is_asked = false;
        (self.quiet_since, self.reads_since) = (Instant::now(), None);
        match line {
            Some(line) => {
                self.repetitions = 0;
                let pause = self.dialect.pause();
                let at = self.given.as_ref().map_or_else(Instant::now, |(_, at)| *at + pause);
                self.next_line = Some((self.one_line(&line), at));
            }
            None => self.started.run.close_input(),
        }
    }

    async fn finish(self: Box<Self>) -> Ended {
        let answers = self.dialect.answers();
        let (exit, concluded) = self.started.conclude();
        let finished = match concluded {
            Ok(finished) => finished,
            Err(error) => return Ended { exit, outcome: Err(error) },
        };
        let (created_agents, _) = match &self.root {
            Some(root) => root.settle(&self.config, Some(&self.agent_id)).await,
            None => Default::default(),
        };
        if finished.exit != Exit::Code(0) {
            return Ended { exit, outcome: Err(failed(&finished)) };
        }
        let output = answers.unwrap_or_else(|| String::from_utf8_lossy(&finished.stdout).into_owned());
        let outcome = RunOutcome {
            output: output.trim_end().to_owned(),
            is_truncated: finished.is_stdout_cut,
            created_agents,
            ..RunOutcome::default()
        };
        Ended { exit, outcome: Ok(outcome) }
    }
}
