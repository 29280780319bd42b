//! `execute_agent_stateless` and `execute_agent_contextual`.

use std::path::PathBuf;

use super::{
    CallContext, Done,
    arguments::{ContextualArguments, OutputFormat, StatelessArguments},
    engine_run::{EngineRun, failed},
    result::AgentAnswer,
    settings,
    toolbox::Inner,
};
use crate::{
    engine::{Exit, Finished, Kind, read_outcome},
    error::{Error, Reason, Result},
};

/// One run of an agent.
pub(super) struct Run<'a> {
    pub(super) agent_id: &'a str,
    pub(super) input_text: &'a str,
    pub(super) timeout: Option<u32>,
    pub(super) format: OutputFormat,
    pub(super) conversation_id: Option<String>,
    pub(super) clears_history: bool,
}

pub(super) async fn stateless(
    inner: &Inner,
    context: &CallContext,
    arguments: &StatelessArguments,
    exit: &mut Option<Exit>,
) -> Result<Done> {
    check_directory(inner, arguments.cwd.as_deref())?;
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
) -> Result<Done> {
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
) -> Result<Done> {
    let _use = inner.workspace_use.read().await;
    let _in_use = run.conversation_id.as_ref().map(|id| inner.use_conversation(&context.caller, id));
    let root = prepare_root(inner, context, &run).await?;
    let _turn = inner.wait_for_agent(context, &root, run.agent_id).await?;
    let kind = inner.config.engine.kind;
    let mut flags = vec![format!("--agent={}", run.agent_id), format!("--input={}", run.input_text)];
    if run.conversation_id.is_some() {
        flags.push("--chat".into());
    }
    if run.clears_history {
        flags.push("--clear".into());
    }
    // A real engine tells its outcome in JSON only; the bundled one streams its answer as text.
    if kind == Kind::Conductor || run.format == OutputFormat::Json {
        flags.push("--output=json".into());
    }
    flags.extend(setting_flags(inner, context).await?);
    if let Some(timeout) = run.timeout {
        flags.push(format!("--timeout={timeout}"));
    }
    let wanted = EngineRun { flags, timeout: run.timeout, has_input: false, is_agent: true };
    let finished = inner.run_engine(context, &root, wanted, exit).await?;
    answer(kind, run, &finished)
}

/// The engine works in its own root: a caller that names that one gets what it asks for, another one is told so.
fn check_directory(inner: &Inner, directory: Option<&str>) -> Result<()> {
    let root = &inner.config.engine.root;
    match directory {
        None | Some("") => Ok(()),
        Some(path)
            if PathBuf::from(path)
                .canonicalize()
                .is_ok_and(|path| root.canonicalize().is_ok_and(|root| root == path)) =>
        {
            Ok(())
        }
        Some(_) => Err(Error::new(
            Reason::Unsupported,
            "this engine runs in its own root and cannot work in another directory; leave cwd out",
        )
        .at("arguments.cwd")),
    }
}

/// The caller's settings as flags.
pub(super) async fn setting_flags(inner: &Inner, context: &CallContext) -> Result<Vec<String>> {
    let settings = settings::of(inner, context).await?;
    let environment = settings.environment.map(|name| format!("--environment={name}"));
    let project = settings.project.map(|name| format!("--project={name}"));
    Ok(environment.into_iter().chain(project).collect())
}

fn answer(kind: Kind, run: Run<'_>, finished: &Finished) -> Result<Done> {
    let (output, document) = match (kind, read_outcome(&finished.stdout, run.input_text)) {
        // It says 0 for failures too, but never another status for a success.
        (_, _) if finished.exit != Exit::Code(0) => return Err(failed(finished)),
        (Kind::Conductor, Some(outcome)) if outcome.is_success => (outcome.output, Some(outcome.document)),
        (Kind::Conductor, Some(outcome)) => {
            let message = outcome.output.trim();
            let message = if message.is_empty() { "the engine failed and did not say why" } else { message };
            return Err(Error::new(Reason::EngineFailed, message));
        }
        (Kind::Conductor, None) => {
            return Err(failed(finished).because("no outcome line"));
        }
        (Kind::Bundled, Some(outcome)) if run.format == OutputFormat::Json => {
            (outcome.output, Some(outcome.document))
        }
        (Kind::Bundled, _) => (String::from_utf8_lossy(&finished.stdout).trim_end().to_owned(), None),
    };
    let answer = AgentAnswer {
        agent_id: run.agent_id.to_owned(),
        output: output.clone(),
        is_truncated: kind == Kind::Bundled && finished.is_stdout_cut,
        conversation_id: run.conversation_id,
        document: document.filter(|_| run.format == OutputFormat::Json),
    };
    Ok(Done { is_truncated: answer.is_truncated, ..Done::new(output, &answer)? })
}

/// The root to run in: the engine's own, or the caller's private one for a conversation.
pub(super) async fn prepare_root(inner: &Inner, context: &CallContext, run: &Run<'_>) -> Result<PathBuf> {
    let agent_id = run.agent_id.to_owned();
    let caller = context.caller.clone();
    let conversation_id = run.conversation_id.clone();
    inner
        .blocking(move |config| {
            let Ok(workspace) = config.workspace() else {
                // Agents that are not kept in files: the engine itself says whether there is such an agent.
                return match conversation_id {
                    None => Ok(config.engine.root.clone()),
                    Some(_) => Err(Error::new(
                        Reason::Unsupported,
                        "conversations need an engine that keeps its agents in files",
                    )),
                };
            };
            super::agents::find(&workspace, &agent_id)?;
            let Some(conversation_id) = conversation_id else { return Ok(config.engine.root.clone()) };
            let directory = config.open_conversation(&caller, &conversation_id);
            let private = directory.and_then(|directory| workspace.private_root(&directory));
            private.map(|private| private.root).map_err(|error| {
                Error::new(Reason::ToolFailed, "the conversation's directory cannot be written")
                    .because(error)
            })
        })
        .await
}
