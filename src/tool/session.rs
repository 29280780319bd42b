//! `start_interactive_session`: the engine's process stays open, and each of its prompts becomes a question.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CallContext, ToolResult, arguments::SessionArguments, parts::Parts, result::AgentSession};
use crate::{
    engine::{EngineRun, Exit, MAX_LINE_CHARACTERS, RunUpdate},
    error::{Error, Reason, Result},
};

pub(super) async fn run(
    parts: &Parts,
    context: &CallContext,
    arguments: &SessionArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    if !parts.driver.capabilities().asks {
        let message = format!("the engine {} has no dialogues", parts.driver.name());
        return Err(Error::new(Reason::Unsupported, message));
    }
    let _use = parts.use_workspace().await;
    let conversation_id = context.conversation(arguments.conversation_id.as_deref());
    let _in_use = parts.conversations.begin_use(&context.caller, &conversation_id);
    let agent_id = arguments.agent_id.as_str();
    let _turn = parts.wait_for_agent(context, Some(&conversation_id), agent_id).await?;
    let mut request = parts.agent_request(context, agent_id, Some(&conversation_id)).await?;
    request.input.clone_from(&arguments.initial_input);
    request.timeout_seconds = arguments.timeout;
    let mut run = parts.driver.start_session(request).await?;
    let inputs = lead(parts, context, &mut *run).await?;
    let ended = run.finish().await;
    *exit = Some(ended.exit);
    let outcome = ended.outcome?;
    if !outcome.created_agents.is_empty() {
        parts.agents_changed();
    }
    let session = AgentSession {
        session_id: context.job_id.clone(),
        agent_id: agent_id.to_owned(),
        conversation_id,
        is_open: false,
        output: outcome.output.clone(),
        is_truncated: outcome.is_truncated,
        prompt: None,
        input_id: None,
        inputs,
    };
    Ok(ToolResult { is_truncated: session.is_truncated, ..ToolResult::new(outcome.output, &session)? })
}

/// Passes output on and asks whenever the engine waits for input, until it ends. Returns how many answers the engine was given.
async fn lead(parts: &Parts, context: &CallContext, run: &mut dyn EngineRun) -> Result<u32> {
    let mut inputs = 0;
    while let Some(event) = run.next().await? {
        match event {
            RunUpdate::Output(chunk) => context.tell(chunk).await,
            RunUpdate::Question(prompt) => match ask(parts, context, run, prompt).await? {
                Some(Value::String(line)) => {
                    inputs += 1;
                    run.answer(Some(line));
                }
                Some(_) => run.answer(None),
                None => break,
            },
        }
    }
    Ok(inputs)
}

/// Asks while the engine's output is still read. Returns `None` when the engine ended before there was an answer.
async fn ask(
    parts: &Parts,
    context: &CallContext,
    run: &mut dyn EngineRun,
    prompt: String,
) -> Result<Option<Value>> {
    let settings = &parts.limits;
    let timeout = Duration::from_secs(settings.session_input_timeout_seconds.into());
    let schema = json!({
        "type": ["string", "null"],
        "maxLength": MAX_LINE_CHARACTERS,
        "description": "a line for the agent; null ends the session",
    });
    let default = settings.session_default_input.clone().map_or(Value::Null, Value::from);
    let mut answer = std::pin::pin!(context.ask(prompt, schema, default, timeout));
    let mut has_answer = false;
    loop {
        tokio::select! {
            answer = &mut answer, if !has_answer => match answer {
                // The run itself notices the cancellation or its time limit, and ends its process tree first.
                Err(error) if matches!(error.reason(), Reason::Cancelled | Reason::TimedOut) => has_answer = true,
                answer => return answer.map(Some),
            },
            event = run.next() => match event? {
                Some(RunUpdate::Output(chunk)) => context.tell(chunk).await,
                // It asks one question at a time.
                Some(RunUpdate::Question(_)) => {}
                None => return Ok(None),
            },
        }
    }
}
