//! `start_interactive_session`: the engine's process stays open, and each of its prompts becomes a question.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    CallContext, Done,
    arguments::SessionArguments,
    engine_run::{EngineRun, failed},
    execute::{self, Run},
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
        let line =
            self.0.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("the agent waits for input");
        line.trim()[..line.trim().floor_char_boundary(MAX_PROMPT_BYTES)].to_owned()
    }
}

pub(super) async fn run(
    inner: &Inner,
    context: &CallContext,
    arguments: &SessionArguments,
    exit: &mut Option<Exit>,
) -> Result<Done> {
    let _use = inner.workspace_use.read().await;
    let conversation_id = context.conversation(arguments.conversation_id.as_deref());
    let run = Run {
        agent_id: &arguments.agent_id,
        input_text: arguments.initial_input.as_deref().unwrap_or_default(),
        timeout: arguments.timeout,
        format: super::arguments::OutputFormat::Text,
        conversation_id: Some(conversation_id.clone()),
        clears_history: false,
    };
    let _in_use = inner.use_conversation(&context.caller, &conversation_id);
    let root = execute::prepare_root(inner, context, &run).await?;
    let _turn = inner.wait_for_agent(context, &root, &arguments.agent_id).await?;
    let mut flags = vec![format!("--agent={}", arguments.agent_id), "--chat".into(), "--interactive".into()];
    flags.extend(arguments.initial_input.as_ref().map(|input| format!("--input={input}")));
    flags.extend(execute::setting_flags(inner, context).await?);
    let wanted = EngineRun { flags, timeout: arguments.timeout, has_input: true, is_agent: true };
    let mut started = inner.start_engine(context, &root, wanted).await?;
    let inputs = talk(inner, context, &mut started.run).await?;
    let finished = started.conclude(exit)?;
    if finished.exit != Exit::Code(0) {
        return Err(failed(&finished));
    }
    let output = String::from_utf8_lossy(&finished.stdout).trim_end().to_owned();
    let session = AgentSession {
        session_id: context.job_id.clone(),
        agent_id: arguments.agent_id.clone(),
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

/// Passes output on and asks whenever the engine waits, until it ends. Answers with the number of answers.
async fn talk(inner: &Inner, context: &CallContext, run: &mut crate::engine::Run) -> Result<u32> {
    let settings = &inner.config.conductor;
    let timeout = Duration::from_secs(settings.session_input_timeout_seconds.into());
    let schema = json!({
        "type": ["string", "null"],
        "maxLength": MAX_LINE_BYTES,
        "description": "a line for the agent; null ends the session",
    });
    let default = settings.session_default_input.clone().map_or(Value::Null, Value::from);
    let mut recent = Recent::default();
    let mut inputs = 0;
    let mut quiet_since = Instant::now();
    let mut reads_since = None;
    loop {
        let chunk = tokio::select! {
            // Output first: a prompt is asked when it was read. `next` is cancel safe, the rest only waits.
            biased;
            chunk = run.next(&context.cancel) => chunk,
            () = tokio::time::sleep(LOOK_AGAIN) => {
                let now = Instant::now();
                let attention = run.attention();
                reads_since = (attention == Attention::Reads).then(|| reads_since.unwrap_or(now));
                let asks = match attention {
                    Attention::Reads => reads_since.is_some_and(|since| now - since >= READ_TIME),
                    // The bundled engine reads when it asks, and only then.
                    _ if inner.config.engine.kind == Kind::Bundled => false,
                    Attention::Idles => {
                        let quiet = now - quiet_since;
                        quiet >= CONNECTED_TIME || (quiet >= IDLE_TIME && !run.is_connected())
                    }
                    Attention::Elsewhere => false,
                };
                if !asks {
                    continue;
                }
                let answer = ask(context, run, &mut recent, (&schema, &default, timeout)).await?;
                (quiet_since, reads_since) = (Instant::now(), None);
                match answer {
                    Some(Value::String(line)) => {
                        inputs += 1;
                        // One answer is one line.
                        let line = line.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " ");
                        run.say(&format!("{line}\n")).await;
                    }
                    Some(_) => run.close_input(),
                    None => return Ok(inputs),
                }
                continue;
            }
        };
        let Some(chunk) = chunk else { return Ok(inputs) };
        (quiet_since, reads_since) = (Instant::now(), None);
        recent.push(&chunk);
        context.tell(chunk).await;
    }
}

/// Asks while the engine's output is still read. `None`: the engine ended before there was an answer.
async fn ask(
    context: &CallContext,
    run: &mut crate::engine::Run,
    recent: &mut Recent,
    (schema, default, timeout): (&Value, &Value, Duration),
) -> Result<Option<Value>> {
    let prompt = recent.prompt();
    *recent = Recent::default();
    let mut answer = std::pin::pin!(context.ask(prompt, schema.clone(), default.clone(), timeout));
    loop {
        tokio::select! {
            answer = &mut answer => return match answer {
                // The run itself sees the cancellation, or its time limit, and ends its tree first.
                Err(error) if matches!(error.reason(), Reason::Cancelled | Reason::TimedOut) => {
                    while let Some(chunk) = run.next(&context.cancel).await {
                        context.tell(chunk).await;
                    }
                    Ok(None)
                }
                answer => answer.map(Some),
            },
            chunk = run.next(&context.cancel) => match chunk {
                Some(chunk) => {
                    recent.push(&chunk);
                    context.tell(chunk).await;
                }
                None => return Ok(None),
            },
        }
    }
}
