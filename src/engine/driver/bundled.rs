//! The bundled engine: its output is the answer as it comes, its exit status is reliable, and its agents think with the gateway's model.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    AgentDetails, AgentRequest, Agents, Capabilities, Driver, DriverConfig, EngineRun, Findings, Memory,
    RunContext, RunOutcome,
    command_line::CommandLine,
    failure::{failed, last_words},
    find_agent,
    report::{Conclude, PlainRun, answer_in_outcome, first_number, listed, marked},
    session::{Dialect, SessionRun},
    shared::nothing_installed,
};
use crate::{
    engine::{Exit, Finished, MAX_ARGUMENT_BYTES, OutputChunk, workspace::DEFAULT_STORAGE_PATH},
    error::{Error, Reason, Result},
};

/// Making the root of a conversation takes no longer than this.
const COPY_TIME: Duration = Duration::from_secs(600);
/// Installing its templates takes no longer than this.
const SEED_TIME: Duration = Duration::from_secs(30);

/// Runs the bundled engine.
#[derive(Debug)]
pub(super) struct BundledDriver {
    config: DriverConfig,
}

impl BundledDriver {
    pub(super) fn new(config: DriverConfig) -> Self {
        Self { config }
    }

    /// Returns where an agent runs: in the engine's own root, or in that of its conversation.
    async fn root(&self, agent_id: &str, memory: Option<Memory>) -> Result<PathBuf> {
        let agent_id = agent_id.to_owned();
        self.config
            .files_for(COPY_TIME, move |config| {
                let workspace = config.workspace()?;
                find_agent(&workspace, &agent_id)?;
                let Some(memory) = memory else { return Ok(config.engine.root.clone()) };
                let unwritable = |error: std::io::Error| {
                    Error::new(Reason::ToolFailed, "the run's directory cannot be written").because(error)
                };
                let path = memory().map_err(unwritable)?;
                workspace.run_root(&path, &agent_id, None).map_err(unwritable)?;
                Ok(path)
            })
            .await
    }

    /// Runs the engine with one flag in its own root.
    async fn report(
        &self,
        context: RunContext,
        flag: String,
        conclude: Conclude,
    ) -> Result<Box<dyn EngineRun>> {
        let command_line = CommandLine { flags: vec![flag], ..CommandLine::default() };
        let started = self.config.start_in(&context, &self.config.engine.root, command_line).await?;
        let config = self.config.clone();
        Ok(Box::new(PlainRun { started, config, cancel: context.cancel, watch: None, conclude }))
    }
}

/// The flags of an agent's run, its input apart: that goes to standard input, because a command line can be read by everybody.
fn command_line(request: &AgentRequest) -> CommandLine {
    let mut flags = vec![format!("--agent={}", request.agent_id)];
    if request.memory.is_some() {
        flags.push("--chat".into());
    }
    if request.clears_history {
        flags.push("--clear".into());
    }
    flags.extend(request.environment.as_ref().map(|name| format!("--environment={name}")));
    flags.extend(request.project.as_ref().map(|name| format!("--project={name}")));
    flags.extend(request.input.as_ref().map(|input| format!("--input-bytes={}", input.len())));
    CommandLine {
        flags,
        input: request.input.clone(),
        is_agent: true,
        timeout_seconds: request.timeout_seconds,
        ..CommandLine::default()
    }
}

#[async_trait]
impl Driver for BundledDriver {
    fn name(&self) -> &'static str {
        self.config.engine.kind.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            streams: true,
            serializes_stateless_runs: false,
            exit_is_truthful: true,
            asks: true,
            max_input_bytes: MAX_ARGUMENT_BYTES,
        }
    }

    /// Installs the templates in a workspace that nobody has used yet.
    async fn prepare(&self) -> Result<()> {
        let root = &self.config.engine.root;
        if root.join("config.yaml").exists() || root.join(DEFAULT_STORAGE_PATH).exists() {
            return Ok(());
        }
        let finished =
            self.config.run_quietly("--install=all".to_owned(), Instant::now() + SEED_TIME).await?;
        if finished.exit == Exit::Code(0) {
            return Ok(());
        }
        let said = last_words(&finished);
        let message = format!("the bundled engine's workspace could not be filled: {said}");
        Err(Error::new(Reason::EngineNotStarted, message))
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn EngineRun>> {
        let mut command_line = command_line(&request);
        if request.wants_document {
            command_line.flags.push("--output=json".into());
        }
        let AgentRequest { agent_id, memory, input, wants_document, context, .. } = request;
        let root = self.root(&agent_id, memory).await?;
        let started = self.config.start_in(&context, &root, command_line).await?;
        let (config, kept) = (self.config.clone(), self.config.clone());
        let input = input.unwrap_or_default();
        let conclude = Box::new(move |finished| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move {
                let max_bytes = config.limits.max_answer_bytes() as usize;
                // An answer may be long, and is read off the runtime.
                config.files(move |_| answer(&finished, &input, wants_document, max_bytes)).await
            })
        });
        Ok(Box::new(PlainRun { started, config: kept, cancel: context.cancel, watch: None, conclude }))
    }

    async fn start_session(&self, request: AgentRequest) -> Result<Box<dyn EngineRun>> {
        let mut command_line = command_line(&request);
        command_line.flags.push("--interactive".into());
        command_line.keeps_input_open = true;
        let AgentRequest { agent_id, memory, context, .. } = request;
        let root = self.root(&agent_id, memory).await?;
        let started = self.config.start_in(&context, &root, command_line).await?;
        let config = self.config.clone();
        let run =
            SessionRun::new(started, config, context.cancel, Box::new(PlainDialect), (None, agent_id, None));
        Ok(Box::new(run))
    }

    async fn validate(&self, context: RunContext) -> Result<Box<dyn EngineRun>> {
        let conclude = Box::new(|finished| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move { findings(&finished) })
        });
        self.report(context, "--validate".to_owned(), conclude).await
    }

    async fn list_templates(&self, context: RunContext) -> Result<Box<dyn EngineRun>> {
        let conclude = Box::new(|finished| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move { listed(&finished) })
        });
        self.report(context, "--install=list".to_owned(), conclude).await
    }

    async fn install(&self, context: RunContext, name: &str) -> Result<Box<dyn EngineRun>> {
        let before = self.config.installed().await?;
        let (config, template) = (self.config.clone(), name.to_owned());
        let conclude = Box::new(move |finished: Finished| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move {
                let after = config.installed().await?;
                if finished.exit != Exit::Code(0) {
                    return Err(failed(&finished));
                }
                let output = String::from_utf8_lossy(&finished.stdout).into_owned();
                // A word of the report counts only if it names an agent in the workspace, because the engine's words alone prove
                // nothing.
                let mut named: Vec<String> = output
                    .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
                    .filter(|word| after.contains(*word))
                    .map(str::to_owned)
                    .collect();
                if named.is_empty() {
                    return Err(nothing_installed(&template, ""));
                }
                named.sort();
                named.dedup();
                let created_agents = after.difference(&before).cloned().collect();
                let present_agents = named.into_iter().filter(|id| before.contains(id)).collect();
                Ok(RunOutcome { output, created_agents, present_agents, ..RunOutcome::default() })
            })
        });
        self.report(context, format!("--install={name}"), conclude).await
    }

    async fn agents(&self) -> Result<Agents> {
        self.config.read_agents().await
    }

    async fn agent(&self, agent_id: &str) -> Result<AgentDetails> {
        self.config.read_agent(agent_id).await
    }

    async fn problem(&self) -> Option<String> {
        let read = self.config.files(|config| config.workspace().map(|_| ())).await;
        read.err().map(|error| error.message().to_owned())
    }

    // It is this program.
    async fn start_problem(&self) -> Option<String> {
        None
    }
}

/// Reads the answer of a run.
fn answer(finished: &Finished, input: &str, wants_document: bool, max_bytes: usize) -> Result<RunOutcome> {
    if finished.exit != Exit::Code(0) {
        return Err(failed(finished));
    }
    if !wants_document {
        let output = String::from_utf8_lossy(&finished.stdout).trim_end().to_owned();
        return Ok(RunOutcome { output, is_truncated: finished.is_stdout_cut, ..RunOutcome::default() });
    }
    answer_in_outcome(finished, input, wants_document, max_bytes)
}

/// Reads a report of a validation.
fn findings(finished: &Finished) -> Result<RunOutcome> {
    let output = String::from_utf8_lossy(&finished.stdout).trim_end().to_owned();
    let errors = marked(&output, &["error:"]);
    if finished.exit != Exit::Code(0) && errors.is_empty() {
        return Err(failed(finished));
    }
    let findings = Findings {
        is_valid: finished.exit == Exit::Code(0),
        agents: first_number(&output, |line| line.ends_with(" agents checked")),
        errors,
        warnings: marked(&output, &["warning:"]),
    };
    Ok(RunOutcome { output, findings: Some(findings), ..RunOutcome::default() })
}

/// All output is the answer, and what is typed is text.
struct PlainDialect;

impl Dialect for PlainDialect {
    fn push(&mut self, chunk: OutputChunk) -> Vec<OutputChunk> {
        vec![chunk]
    }

    fn flush(&mut self) -> Vec<OutputChunk> {
        Vec::new()
    }

    fn asks_again(&mut self) {}

    fn answers(&self) -> Option<String> {
        None
    }

    fn literal(&self, words: &str) -> String {
        words.to_owned()
    }

    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    // It reads its input only when it asks.
    fn may_ask_while_idle(&self) -> bool {
        false
    }
}
