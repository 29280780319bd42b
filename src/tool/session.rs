//! `start_interactive_session`: the engine's process stays open, and each of its prompts becomes a question.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    CallContext, ToolResult,
    arguments::SessionArguments,
    dialogue::{Dialogue, came_too_soon, disarmed, rule},
    engine_run::{EngineRun, failed},
    execute,
    result::AgentSession,
    toolbox::Inner,
};
use crate::{
    engine::{Chunk, Exit, Kind, StdinState, Stream},
    error::{Reason, Result},
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
const PAUSE_MARGIN: Duration = Duration::from_millis(200);
/// How often input that the engine has dropped is given again.
const MAX_AGAIN: u32 = 3;
/// The longest line that is asked for, in characters (`maxLength`). An answer has at most 64 KiB, which fit a pipe, so
/// that writing a line does not wait for the engine.
pub(super) const MAX_LINE_BYTES: u32 = 60_000;

/// The end of what the engine has printed since its last input.
#[derive(Default)]
struct RecentOutput(String);

impl RecentOutput {
    fn push(&mut self, chunk: &Chunk) {
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

/// The state of a dialogue.
struct SessionDriver<'a> {
    inner: &'a Inner,
    context: &'a CallContext,
    dialogue: Dialogue,
    recent: RecentOutput,
    inputs: u32,
    /// The first input, which is given before anybody is asked.
    first: Option<String>,
    /// The latest input, and when it was given.
    told: Option<(String, Instant)>,
    /// How often the latest input was given again.
    again: u32,
}

pub(super) async fn run(
    inner: &Inner,
    context: &CallContext,
    arguments: &SessionArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let _use = inner.workspace_use.clone().read_owned().await;
    let conversation_id = context.conversation(arguments.conversation_id.as_deref());
    let _in_use = inner.conversations.begin_use(&context.caller, &conversation_id);
    let agent_id = arguments.agent_id.as_str();
    let _turn = inner.wait_for_agent(context, Some(&conversation_id), agent_id).await?;
    let prepared = inner.prepare(context, agent_id, Some(&conversation_id)).await?;
    let mut flags = vec![format!("--agent={agent_id}"), "--chat".into(), "--interactive".into()];
    flags.extend(execute::setting_flags(inner, context).await?);
    // A real engine gets its first input on standard input like all others: its command line can be read by everybody.
    let (input, first) = match inner.config.engine.kind {
        Kind::Bundled => (arguments.initial_input.clone(), None),
        Kind::Conductor => (None, arguments.initial_input.clone()),
    };
    let wanted = EngineRun { flags, input, timeout: arguments.timeout, is_spoken_to: true, is_agent: true };
    let mut started = inner.start_engine(context, &prepared.root, wanted).await?;
    let mut talk = SessionDriver {
        inner,
        context,
        dialogue: Dialogue::default(),
        recent: RecentOutput::default(),
        inputs: 0,
        first,
        told: None,
        again: 0,
    };
    let inputs = talk.lead(&mut started.run).await?;
    talk.flush().await;
    let answers = talk.dialogue.answers().map(str::to_owned);
    let finished = started.conclude(exit)?;
    inner.settle(&prepared, Some(agent_id)).await;
    if finished.exit != Exit::Code(0) {
        return Err(failed(&finished));
    }
    let output = answers.unwrap_or_else(|| String::from_utf8_lossy(&finished.stdout).into_owned());
    let output = output.trim_end().to_owned();
    let session = AgentSession {
        session_id: context.job_id.clone(),
        agent_id: agent_id.to_owned(),
        conversation_id,
        is_open: false,
        output: output.clone(),
        is_truncated: finished.is_stdout_cut,
        prompt: None,
        input_id: None,
        inputs,
    };
    Ok(ToolResult { is_truncated: session.is_truncated, ..ToolResult::new(output, &session)? })
}

impl Inner {
    /// Returns a caller's words as they are given to the engine: as plain text, unless the configuration allows
    /// commands.
    fn spoken(&self, words: &str) -> String {
        let takes_commands =
            self.config.conductor.session_commands || self.config.engine.kind == Kind::Bundled;
        if takes_commands { words.to_owned() } else { disarmed(words) }
    }

    /// Returns the pause that a real engine needs between two inputs.
    fn session_pause(&self) -> Duration {
        match self.config.engine.kind {
            Kind::Bundled => Duration::ZERO,
            Kind::Conductor => {
                let seconds = self.config.conductor.session_pause_seconds;
                if seconds == 0 { Duration::ZERO } else { Duration::from_secs(seconds.into()) + PAUSE_MARGIN }
            }
        }
    }
}

impl SessionDriver<'_> {
    /// Passes output on, with the answers separated from the rest.
    async fn hear(&mut self, chunk: Chunk) {
        self.recent.push(&chunk);
        let pieces = match self.inner.config.engine.kind {
            Kind::Bundled => vec![chunk],
            Kind::Conductor => self.dialogue.push(chunk),
        };
        for piece in pieces {
            self.context.tell(piece).await;
        }
    }

    async fn flush(&mut self) {
        for piece in self.dialogue.flush() {
            self.context.tell(piece).await;
        }
    }

    /// Passes output on and asks whenever the engine waits for input, until it ends. Returns how many answers the
    /// engine was given.
    async fn lead(&mut self, run: &mut crate::engine::Run) -> Result<u32> {
        let mut quiet_since = Instant::now();
        let mut reads_since = None;
        loop {
            let chunk = tokio::select! {
                // Output first, so that a prompt has been read before it is asked. `next` is cancel safe, the other
                // branch only waits.
                biased;
                chunk = run.next(&self.context.cancel) => chunk,
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    let now = Instant::now();
                    let attention = run.attention().await;
                    reads_since = (attention == StdinState::Reads).then(|| reads_since.unwrap_or(now));
                    let asks = match attention {
                        StdinState::Reads => reads_since.is_some_and(|since| now - since >= READ_TIME),
                        // The bundled engine reads its input only when it asks.
                        _ if self.inner.config.engine.kind == Kind::Bundled => false,
                        StdinState::Idles => {
                            let quiet = now - quiet_since;
                            quiet >= CONNECTED_TIME || (quiet >= IDLE_TIME && !run.is_connected().await)
                        }
                        StdinState::Elsewhere => false,
                    };
                    if !asks {
                        continue;
                    }
                    if !self.turn(run).await? {
                        return Ok(self.inputs);
                    }
                    (quiet_since, reads_since) = (Instant::now(), None);
                    continue;
                }
            };
            let Some(chunk) = chunk else { return Ok(self.inputs) };
            (quiet_since, reads_since) = (Instant::now(), None);
            self.hear(chunk).await;
        }
    }

    /// Handles a wait for input: gives again what the engine has dropped, or asks somebody. Returns whether the
    /// dialogue continues.
    async fn turn(&mut self, run: &mut crate::engine::Run) -> Result<bool> {
        self.flush().await;
        if let Some((line, _)) = self.told.clone()
            && let Some(pause) = came_too_soon(&self.recent.0)
            && self.again < MAX_AGAIN
        {
            self.again += 1;
            self.recent = RecentOutput::default();
            return self.say(run, line, Instant::now() + pause + PAUSE_MARGIN).await;
        }
        if self.told.is_some() {
            self.dialogue.asks_again();
        }
        if let Some(first) = self.first.take() {
            self.recent = RecentOutput::default();
            return self.say(run, self.one_line(&first), Instant::now()).await;
        }
        match self.ask(run).await? {
            Some(Value::String(line)) => {
                self.inputs += 1;
                self.again = 0;
                let pause = self.inner.session_pause();
                let until = self.told.as_ref().map_or_else(Instant::now, |(_, at)| *at + pause);
                return self.say(run, self.one_line(&line), until).await;
            }
            Some(_) => run.close_input(),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Returns an answer as one line, because a line break would end it.
    fn one_line(&self, words: &str) -> String {
        self.inner.spoken(&words.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " "))
    }

    /// Gives the engine a line, not before `until`. Returns whether the engine still runs.
    async fn say(&mut self, run: &mut crate::engine::Run, line: String, until: Instant) -> Result<bool> {
        if until > Instant::now() {
            loop {
                let chunk = tokio::select! {
                    // The wait first: once it is over no more output has to be read before the line. `next` is cancel
                    // safe.
                    biased;
                    () = tokio::time::sleep_until(until) => break,
                    chunk = run.next(&self.context.cancel) => chunk,
                };
                match chunk {
                    Some(chunk) => self.hear(chunk).await,
                    None => return Ok(false),
                }
            }
        }
        run.say(&format!("{line}\n")).await;
        self.told = Some((line, Instant::now()));
        Ok(true)
    }

    /// Asks while the engine's output is still read. Returns `None` when the engine ended before there was an answer.
    async fn ask(&mut self, run: &mut crate::engine::Run) -> Result<Option<Value>> {
        let settings = &self.inner.config.conductor;
        let timeout = Duration::from_secs(settings.session_input_timeout_seconds.into());
        let schema = json!({
            "type": ["string", "null"],
            "maxLength": MAX_LINE_BYTES,
            "description": "a line for the agent; null ends the session",
        });
        let default = settings.session_default_input.clone().map_or(Value::Null, Value::from);
        let prompt = self.recent.prompt();
        self.recent = RecentOutput::default();
        let context = self.context;
        let mut answer = std::pin::pin!(context.ask(prompt, schema, default, timeout));
        loop {
            tokio::select! {
                answer = &mut answer => return match answer {
                    // The run itself notices the cancellation or its time limit, and ends its process tree first.
                    Err(error) if matches!(error.reason(), Reason::Cancelled | Reason::TimedOut) => {
                        while let Some(chunk) = run.next(&context.cancel).await {
                            self.hear(chunk).await;
                        }
                        Ok(None)
                    }
                    answer => answer.map(Some),
                },
                chunk = run.next(&context.cancel) => match chunk {
                    Some(chunk) => self.hear(chunk).await,
                    None => return Ok(None),
                },
            }
        }
    }
}
