//! `start_interactive_session`: the engine's process stays open, and each of its prompts becomes a question.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    CallContext, Done,
    arguments::SessionArguments,
    dialogue::{Dialogue, came_too_soon, disarmed, rule},
    engine_run::{EngineRun, failed},
    execute,
    result::AgentSession,
    toolbox::Inner,
};
use crate::{
    engine::{Attention, Chunk, Exit, Kind, Stream},
    error::{Reason, Result},
};

/// How often it is looked whether the engine waits for input.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// An engine that sleeps in a read of its input, seen twice within this time, asks something.
const READ_TIME: Duration = Duration::from_millis(50);
/// One that only sleeps, without a child and without a word, is taken to ask after this time.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// One that has a connection may wait for its model, which takes its time.
const CONNECTED_TIME: Duration = Duration::from_secs(60);
/// A prompt is shown up to this length.
const MAX_PROMPT_BYTES: usize = 2000;
/// The engine's clock and ours.
const PAUSE_MARGIN: Duration = Duration::from_millis(200);
/// What the engine has forgotten is given again so often.
const MAX_AGAIN: u32 = 3;
/// A line must fit a pipe, so that telling it never waits for the engine.
pub(super) const MAX_LINE_BYTES: u32 = 60_000;

/// The end of what the engine printed since it was last told something.
#[derive(Default)]
struct Recent(String);

impl Recent {
    fn push(&mut self, chunk: &Chunk) {
        if chunk.stream == Stream::Stdout {
            self.0.push_str(&chunk.text);
            let over = self.0.len().saturating_sub(2 * MAX_PROMPT_BYTES);
            self.0.drain(..self.0.ceil_char_boundary(over));
        }
    }

    /// The last line with something in it: a prompt usually ends without a line break.
    fn prompt(&self) -> String {
        let line = self.0.lines().rev().find(|line| !line.trim().is_empty() && rule(line).is_none());
        let line = line.unwrap_or("the agent waits for input");
        line.trim()[..line.trim().floor_char_boundary(MAX_PROMPT_BYTES)].to_owned()
    }
}

/// What is known of a dialogue while it lasts.
struct Talk<'a> {
    inner: &'a Inner,
    context: &'a CallContext,
    dialogue: Dialogue,
    recent: Recent,
    inputs: u32,
    /// What it is told before anybody is asked.
    first: Option<String>,
    /// What it was told last, and when.
    told: Option<(String, Instant)>,
    /// How often that was given again.
    again: u32,
}

pub(super) async fn run(
    inner: &Inner,
    context: &CallContext,
    arguments: &SessionArguments,
    exit: &mut Option<Exit>,
) -> Result<Done> {
    let _use = inner.workspace_use.clone().read_owned().await;
    let conversation_id = context.conversation(arguments.conversation_id.as_deref());
    let _in_use = inner.conversations.begin_use(&context.caller, &conversation_id);
    let agent_id = arguments.agent_id.as_str();
    let _turn = inner.wait_for_agent(context, Some(&conversation_id), agent_id).await?;
    let prepared = inner.prepare(context, agent_id, Some(&conversation_id)).await?;
    let mut flags = vec![format!("--agent={agent_id}"), "--chat".into(), "--interactive".into()];
    flags.extend(execute::setting_flags(inner, context).await?);
    // A real engine reads its first words where it reads the others; on its command line everybody would read them too.
    let (input, first) = match inner.config.engine.kind {
        Kind::Bundled => (arguments.initial_input.clone(), None),
        Kind::Conductor => (None, arguments.initial_input.clone()),
    };
    let wanted = EngineRun { flags, input, timeout: arguments.timeout, is_spoken_to: true, is_agent: true };
    let mut started = inner.start_engine(context, &prepared.root, wanted).await?;
    let mut talk = Talk {
        inner,
        context,
        dialogue: Dialogue::default(),
        recent: Recent::default(),
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
    Ok(Done { is_truncated: session.is_truncated, ..Done::new(output, &session)? })
}

impl Inner {
    /// A caller's words as the engine is told them: what is typed is text, unless the configuration says otherwise.
    fn spoken(&self, words: &str) -> String {
        let takes_commands =
            self.config.conductor.session_commands || self.config.engine.kind == Kind::Bundled;
        if takes_commands { words.to_owned() } else { disarmed(words) }
    }

    /// How long a real engine wants between two inputs.
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

impl Talk<'_> {
    /// Passes output on, told apart.
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

    /// Passes output on and asks whenever the engine waits, until it ends. Answers with the number of answers.
    async fn lead(&mut self, run: &mut crate::engine::Run) -> Result<u32> {
        let mut quiet_since = Instant::now();
        let mut reads_since = None;
        loop {
            let chunk = tokio::select! {
                // Output first: a prompt is asked when it was read. `next` is cancel safe, the rest only waits.
                biased;
                chunk = run.next(&self.context.cancel) => chunk,
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    let now = Instant::now();
                    let attention = run.attention().await;
                    reads_since = (attention == Attention::Reads).then(|| reads_since.unwrap_or(now));
                    let asks = match attention {
                        Attention::Reads => reads_since.is_some_and(|since| now - since >= READ_TIME),
                        // The bundled engine reads when it asks, and only then.
                        _ if self.inner.config.engine.kind == Kind::Bundled => false,
                        Attention::Idles => {
                            let quiet = now - quiet_since;
                            quiet >= CONNECTED_TIME || (quiet >= IDLE_TIME && !run.is_connected().await)
                        }
                        Attention::Elsewhere => false,
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

    /// The engine waits: it is told again what it has forgotten, or somebody is asked. Answers whether the dialogue goes on.
    async fn turn(&mut self, run: &mut crate::engine::Run) -> Result<bool> {
        self.flush().await;
        if let Some((line, _)) = self.told.clone()
            && let Some(pause) = came_too_soon(&self.recent.0)
            && self.again < MAX_AGAIN
        {
            self.again += 1;
            self.recent = Recent::default();
            return self.say(run, line, Instant::now() + pause + PAUSE_MARGIN).await;
        }
        if self.told.is_some() {
            self.dialogue.asks_again();
        }
        if let Some(first) = self.first.take() {
            self.recent = Recent::default();
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

    /// One answer is one line.
    fn one_line(&self, words: &str) -> String {
        self.inner.spoken(&words.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " "))
    }

    /// Tells the engine a line, no sooner than it wants. Answers whether it still runs.
    async fn say(&mut self, run: &mut crate::engine::Run, line: String, until: Instant) -> Result<bool> {
        if until > Instant::now() {
            loop {
                let chunk = tokio::select! {
                    // The wait first: once it is over nothing has to be read before. `next` is cancel safe.
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

    /// Asks while the engine's output is still read. `None`: the engine ended before there was an answer.
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
        self.recent = Recent::default();
        let context = self.context;
        let mut answer = std::pin::pin!(context.ask(prompt, schema, default, timeout));
        loop {
            tokio::select! {
                answer = &mut answer => return match answer {
                    // The run itself sees the cancellation, or its time limit, and ends its tree first.
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
