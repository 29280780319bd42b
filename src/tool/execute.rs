//! `execute_agent_stateless` and `execute_agent_contextual`.

use std::path::PathBuf;

use super::{
    CallContext, ToolResult,
    arguments::{ContextualArguments, OutputFormat, StatelessArguments},
    engine_run::follow,
    parts::Parts,
    result::AgentAnswer,
};
use crate::{
    engine::Exit,
    error::{Error, Reason, Result},
};

/// One run of an agent.
struct RunParameters<'a> {
    agent_id: &'a str,
    input_text: &'a str,
    timeout: Option<u32>,
    format: OutputFormat,
    conversation_id: Option<String>,
    clears_history: bool,
}

pub(super) async fn stateless(
    parts: &Parts,
    context: &CallContext,
    arguments: &StatelessArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    check_directory(parts, arguments.cwd.clone()).await?;
    let run = RunParameters {
        agent_id: &arguments.agent_id,
        input_text: &arguments.input_text,
        timeout: arguments.timeout,
        format: arguments.output_format,
        conversation_id: None,
        clears_history: false,
    };
    execute(parts, context, run, exit).await
}

pub(super) async fn contextual(
    parts: &Parts,
    context: &CallContext,
    arguments: &ContextualArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let run = RunParameters {
        agent_id: &arguments.agent_id,
        input_text: &arguments.input_text,
        timeout: arguments.timeout,
        format: OutputFormat::Text,
        conversation_id: Some(context.conversation(arguments.conversation_id.as_deref())),
        clears_history: arguments.clear_history,
    };
    execute(parts, context, run, exit).await
}

async fn execute(
    parts: &Parts,
    context: &CallContext,
    run: RunParameters<'_>,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let _use = parts.use_workspace().await;
    let _in_use = run.conversation_id.as_ref().map(|id| parts.conversations.begin_use(&context.caller, id));
    let _turn = parts.wait_for_agent(context, run.conversation_id.as_deref(), run.agent_id).await?;
    let mut request = parts.agent_request(context, run.agent_id, run.conversation_id.as_deref()).await?;
    request.input = Some(run.input_text.to_owned());
    request.wants_document = run.format == OutputFormat::Json;
    request.clears_history = run.clears_history;
    request.timeout_seconds = run.timeout;
    let outcome = follow(parts.driver.start(request).await?, context, exit).await?;
    if !outcome.created_agents.is_empty() {
        parts.agents_changed();
    }
    let answer = AgentAnswer {
        agent_id: run.agent_id.to_owned(),
        output: outcome.output.clone(),
        is_truncated: outcome.is_truncated,
        conversation_id: run.conversation_id,
        created_agents: outcome.created_agents,
        notes: outcome.notes,
        document: outcome.document,
    };
    Ok(ToolResult { is_truncated: answer.is_truncated, ..ToolResult::new(outcome.output, &answer)? })
}

/// Accepts only the engine's own root, because the engine cannot work in another directory.
async fn check_directory(parts: &Parts, directory: Option<String>) -> Result<()> {
    let Some(directory) = directory.filter(|directory| !directory.is_empty()) else { return Ok(()) };
    parts
        .blocking(move |config| {
            let root = config.engine.root.canonicalize().ok();
            if root.is_some() && PathBuf::from(directory).canonicalize().ok() == root {
                return Ok(());
            }
            let message =
                "this engine runs in its own root and cannot work in another directory; leave cwd out";
            Err(Error::new(Reason::Unsupported, message).at("arguments.cwd"))
        })
        .await
}
