//! `execute_agent_stateless` and `execute_agent_contextual`.

use std::path::PathBuf;

use super::{
    CallContext, ToolResult,
    arguments::{ContextualArguments, OutputFormat, StatelessArguments},
    engine_run::{EngineRun, failed},
    result::AgentAnswer,
    toolbox::Inner,
};
use crate::{
    engine::{Exit, Finished, Kind, read_outcome, unreadable},
    error::{Error, Reason, Result},
    text::bounded,
};

/// The most refusals that are returned as notes; all of them are in the log.
const MAX_NOTES: usize = 20;

/// One run of an agent.
struct Run<'a> {
    agent_id: &'a str,
    input_text: &'a str,
    timeout: Option<u32>,
    format: OutputFormat,
    conversation_id: Option<String>,
    clears_history: bool,
}

pub(super) async fn stateless(
    inner: &Inner,
    context: &CallContext,
    arguments: &StatelessArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    check_directory(inner, arguments.cwd.clone()).await?;
    let run = Run {
        agent_id: &arguments.agent_id,
        input_text: &arguments.input_text,
        timeout: arguments.timeout,
        format: arguments.output_format,
        conversation_id: None,
        clears_history: false,
    };
    execute(inner, context, run, exit).await
}

pub(super) async fn contextual(
    inner: &Inner,
    context: &CallContext,
    arguments: &ContextualArguments,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let run = Run {
        agent_id: &arguments.agent_id,
        input_text: &arguments.input_text,
        timeout: arguments.timeout,
        format: OutputFormat::Text,
        conversation_id: Some(context.conversation(arguments.conversation_id.as_deref())),
        clears_history: arguments.clear_history,
    };
    execute(inner, context, run, exit).await
}

async fn execute(
    inner: &Inner,
    context: &CallContext,
    run: Run<'_>,
    exit: &mut Option<Exit>,
) -> Result<ToolResult> {
    let _use = inner.workspace_use.clone().read_owned().await;
    let _in_use = run.conversation_id.as_ref().map(|id| inner.conversations.begin_use(&context.caller, id));
    let _turn = inner.wait_for_agent(context, run.conversation_id.as_deref(), run.agent_id).await?;
    let prepared = inner.prepare(context, run.agent_id, run.conversation_id.as_deref()).await?;
    let kind = inner.config.engine.kind;
    let mut flags = vec![format!("--agent={}", run.agent_id)];
    if run.conversation_id.is_some() {
        flags.push("--chat".into());
    }
    if run.clears_history {
        flags.push("--clear".into());
    }
    // A real engine reports its outcome only in JSON; the bundled one streams its answer as text.
    if kind == Kind::Conductor || run.format == OutputFormat::Json {
        flags.push("--output=json".into());
    }
    flags.extend(setting_flags(inner, context).await?);
    let wanted = EngineRun {
        flags,
        input: Some(run.input_text.to_owned()),
        timeout: run.timeout,
        is_spoken_to: false,
        is_agent: true,
    };
    let finished = inner.run_engine(context, &prepared.root, wanted, exit).await?;
    let (created_agents, refused) = inner.settle(&prepared, Some(run.agent_id)).await;
    let mut notes: Vec<String> =
        refused.iter().take(MAX_NOTES).map(|why| format!("not taken: {}", bounded(why, 300))).collect();
    if finished.is_concluded() {
        notes.push(
            "the engine had said its outcome and did not end; it was ended, and the outcome counts"
                .to_owned(),
        );
    }
    let (input_text, format) = (run.input_text.to_owned(), run.format);
    let max_bytes = inner.config.conductor.max_answer_bytes() as usize;
    // A long answer takes time to parse, so that is done off the runtime.
    let (output, document, is_truncated) =
        inner.blocking(move |_| answer(kind, &input_text, format, &finished, max_bytes)).await?;
    let answer = AgentAnswer {
        agent_id: run.agent_id.to_owned(),
        output: output.clone(),
        is_truncated,
        conversation_id: run.conversation_id,
        created_agents,
        notes,
        document,
    };
    Ok(ToolResult { is_truncated: answer.is_truncated, ..ToolResult::new(output, &answer)? })
}

/// Accepts only the engine's own root, because the engine cannot work in another directory.
async fn check_directory(inner: &Inner, directory: Option<String>) -> Result<()> {
    let Some(directory) = directory.filter(|directory| !directory.is_empty()) else { return Ok(()) };
    inner
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

/// Returns the caller's settings as flags.
pub(super) async fn setting_flags(inner: &Inner, context: &CallContext) -> Result<Vec<String>> {
    let settings = inner.conversations.settings(&context.caller).await?;
    let environment = settings.environment.map(|name| format!("--environment={name}"));
    let project = settings.project.map(|name| format!("--project={name}"));
    Ok(environment.into_iter().chain(project).collect())
}

type AgentOutput = (String, Option<serde_json::Value>, bool);

fn answer(
    kind: Kind,
    input: &str,
    format: OutputFormat,
    finished: &Finished,
    max_bytes: usize,
) -> Result<AgentOutput> {
    // A real engine exits with 0 for failures too, but never with another status for a success. The status of an engine
    // that was ended after it had printed its outcome does not count.
    let is_ended_well = finished.exit == Exit::Code(0) || finished.is_concluded();
    if !is_ended_well {
        return Err(failed(finished));
    }
    if kind == Kind::Bundled && format == OutputFormat::Text {
        let output = String::from_utf8_lossy(&finished.stdout).trim_end().to_owned();
        return Ok((output, None, finished.is_stdout_cut));
    }
    let too_long = || {
        let message = format!(
            "the engine answered more than {max_bytes} bytes, which is all that is kept; raise conductor.max_output_bytes, or let the agent write a file"
        );
        Error::new(Reason::EngineFailed, message)
    };
    match read_outcome(&finished.stdout, input) {
        Some(outcome) if outcome.output.len() > max_bytes => Err(too_long()),
        Some(outcome) if outcome.is_success => {
            let document = (format == OutputFormat::Json).then_some(outcome.document);
            Ok((outcome.output, document, false))
        }
        Some(outcome) => {
            let message = outcome.output.trim();
            let message = if message.is_empty() { "the engine failed and did not say why" } else { message };
            Err(Error::new(Reason::EngineFailed, message))
        }
        None if finished.is_stdout_cut => Err(too_long()),
        None => match unreadable(&finished.stdout, input) {
            Some(why) => {
                Err(Error::new(Reason::EngineFailed, format!("the engine ended without an outcome: {why}")))
            }
            None => Err(failed(finished).because("no outcome line")),
        },
    }
}
