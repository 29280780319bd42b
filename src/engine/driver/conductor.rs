//! The real `conductor` engine: it prints a log that ends in its outcome, says 0 for failures too, and keeps its agents in files or in MongoDB.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    AgentDetails, AgentRequest, Agents, Capabilities, Driver, DriverConfig, EngineRun, Findings, RunContext,
    RunOutcome,
    command_line::CommandLine,
    dialogue::{Dialogue, disarmed},
    failure::{failed, last_words},
    listing::EngineListing,
    report::{Conclude, OutcomeWatch, PlainRun, answer_in_outcome, first_number, listed, marked},
    root::{RunRoot, RunRoots},
    run_directories::RunDirectories,
    session::{Dialect, PAUSE_MARGIN, SessionRun},
    shared::nothing_installed,
};
use crate::{
    engine::{Code, Exit, Finished, MAX_ARGUMENT_BYTES, OutputChunk, storage_kind, workspace::Workspace},
    error::{Error, Reason, Result},
    files::{EntryKind, Root},
    text::bounded,
};

/// It prints its answer twice on one line, escaped, and what comes before and behind it.
const KEPT_TIMES: usize = 3;
const KEPT_BESIDE: usize = 256 * 1024;
/// More of what was not taken is only in the log.
const MAX_NOTES: usize = 20;
/// An engine that takes longer to list its agents is reported as one that does not start.
const START_TIME: Duration = Duration::from_secs(30);

/// Runs a real engine.
#[derive(Debug)]
pub(super) struct ConductorDriver {
    config: DriverConfig,
    roots: RunRoots,
    listing: EngineListing,
}

impl ConductorDriver {
    pub(super) fn new(mut config: DriverConfig) -> Result<Self> {
        // It brings its own configuration of a model.
        config.model_environment.clear();
        let directories = RunDirectories::open(&config.data_directory).map_err(|error| {
            let message = format!("the directory for runs cannot be made: {error}; check storage.path");
            Error::new(Reason::StoreUnavailable, message)
        })?;
        let apart = [
            Workspace::of(&config.engine.root).ok().map(|workspace| workspace.directory),
            Some(config.data_directory.clone()),
        ];
        let copies = config.data_directory.join("code");
        let code = Code::new(config.engine.root.clone(), copies, apart.into_iter().flatten().collect());
        let roots = RunRoots { directories: Arc::new(directories), code: Arc::new(code) };
        Ok(Self { config, roots, listing: EngineListing::default() })
    }

    fn max_kept_bytes(&self) -> usize {
        (self.config.limits.max_answer_bytes() as usize).saturating_mul(KEPT_TIMES) + KEPT_BESIDE
    }

    /// Runs the engine with one flag in a root.
    async fn report(
        &self,
        context: RunContext,
        root: &Path,
        flag: String,
        conclude: Conclude,
    ) -> Result<Box<dyn EngineRun>> {
        let max_kept_bytes = self.max_kept_bytes();
        let command_line = CommandLine { flags: vec![flag], max_kept_bytes, ..CommandLine::default() };
        let started = self.config.start_in(&context, root, command_line).await?;
        let config = self.config.clone();
        Ok(Box::new(PlainRun { started, config, cancel: context.cancel, watch: None, conclude }))
    }

    fn command_line(&self, request: &AgentRequest) -> CommandLine {
        let mut flags = vec![format!("--agent={}", request.agent_id)];
        if request.memory.is_some() {
            flags.push("--chat".into());
        }
        if request.clears_history {
            flags.push("--clear".into());
        }
        flags.extend(request.environment.as_ref().map(|name| format!("--environment={name}")));
        flags.extend(request.project.as_ref().map(|name| format!("--project={name}")));
        CommandLine {
            flags,
            is_agent: true,
            timeout_seconds: request.timeout_seconds,
            max_kept_bytes: self.max_kept_bytes(),
            ..CommandLine::default()
        }
    }
}

/// Whether the agents are kept in something else than files, so that the engine itself has to be asked.
fn is_kept_elsewhere(error: &Error) -> bool {
    error.reason() == Reason::Unsupported
}

#[async_trait]
impl Driver for ConductorDriver {
    fn name(&self) -> &'static str {
        self.config.engine.kind.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            streams: false,
            serializes_stateless_runs: true,
            exit_is_truthful: false,
            asks: true,
            max_input_bytes: MAX_ARGUMENT_BYTES,
        }
    }

    // Whoever runs one has installed it.
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn EngineRun>> {
        let mut command_line = self.command_line(&request);
        // It tells its outcome in JSON only, and takes its input by no other way than its command line.
        command_line.flags.push("--output=json".into());
        let AgentRequest { agent_id, memory, input, wants_document, context, .. } = request;
        let input = input.unwrap_or_default();
        command_line.flags.push(format!("--input={input}"));
        let root = self.roots.for_agent(&self.config, &agent_id, memory).await?;
        let started = self.config.start_in(&context, &root.path, command_line).await?;
        let watch = Some(OutcomeWatch::new(input.clone()));
        let (config, kept) = (self.config.clone(), self.config.clone());
        let conclude = Box::new(move |finished: Finished| -> BoxFuture<'static, _> {
            Box::pin(conclude_answer(config, root, agent_id, finished, input, wants_document))
        });
        Ok(Box::new(PlainRun { started, config: kept, cancel: context.cancel, watch, conclude }))
    }

    async fn start_session(&self, request: AgentRequest) -> Result<Box<dyn EngineRun>> {
        let mut command_line = self.command_line(&request);
        command_line.flags.push("--interactive".into());
        command_line.keeps_input_open = true;
        let AgentRequest { agent_id, memory, input, context, .. } = request;
        let root = self.roots.for_agent(&self.config, &agent_id, memory).await?;
        let started = self.config.start_in(&context, &root.path, command_line).await?;
        let limits = &self.config.limits;
        let dialect = ConductorDialect {
            dialogue: Dialogue::default(),
            takes_commands: limits.session_commands,
            pause: match limits.session_pause_seconds {
                0 => Duration::ZERO,
                seconds => Duration::from_secs(seconds.into()) + PAUSE_MARGIN,
            },
        };
        let config = self.config.clone();
        // The first input goes to standard input like all others: a command line can be read by everybody.
        let parts = (Some(root), agent_id, input);
        Ok(Box::new(SessionRun::new(started, config, context.cancel, Box::new(dialect), parts)))
    }

    async fn validate(&self, context: RunContext) -> Result<Box<dyn EngineRun>> {
        let conclude =
            Box::new(|finished| -> BoxFuture<'static, _> { Box::pin(async move { findings(&finished) }) });
        self.report(context, &self.config.engine.root, "--validate".to_owned(), conclude).await
    }

    async fn list_templates(&self, context: RunContext) -> Result<Box<dyn EngineRun>> {
        let conclude =
            Box::new(|finished| -> BoxFuture<'static, _> { Box::pin(async move { listed(&finished) }) });
        self.report(context, &self.config.engine.root, "--install=list".to_owned(), conclude).await
    }

    /// Installs into a separate root, because the engine always installs to the same place, whatever its configuration says. The gateway
    /// then moves what is new to where the configuration points.
    async fn install(&self, context: RunContext, name: &str) -> Result<Box<dyn EngineRun>> {
        let root = self.roots.for_installation(&self.config).await?;
        let before = self.config.installed().await?;
        let (config, template, path) = (self.config.clone(), name.to_owned(), root.path.clone());
        let conclude = Box::new(move |finished: Finished| -> BoxFuture<'static, _> {
            Box::pin(async move {
                if finished.exit != Exit::Code(0) {
                    return Err(failed(&finished));
                }
                let (root, made) = config.files(move |_| root.agents().map(|made| (root, made))).await?;
                if made.is_empty() {
                    return Err(nothing_installed(&template, &format!(" ({})", last_words(&finished))));
                }
                // Agents that exist already are refused here, and are reported as present.
                let (created_agents, _) = root.settle(&config, None).await;
                let present_agents = made.into_iter().filter(|id| before.contains(id)).collect();
                let output = String::from_utf8_lossy(&finished.stdout).into_owned();
                Ok(RunOutcome { output, created_agents, present_agents, ..RunOutcome::default() })
            })
        });
        self.report(context, &path, format!("--install={name}"), conclude).await
    }

    async fn agents(&self) -> Result<Agents> {
        match self.config.read_agents().await {
            Err(error) if is_kept_elsewhere(&error) => self.listing.agents(&self.config).await,
            read => read,
        }
    }

    async fn agent(&self, agent_id: &str) -> Result<AgentDetails> {
        match self.config.read_agent(agent_id).await {
            Err(error) if is_kept_elsewhere(&error) => self.listing.agent(&self.config, agent_id).await,
            read => read,
        }
    }

    async fn problem(&self) -> Option<String> {
        match self.config.files(|config| Ok(problem_of_files(config))).await {
            Ok(problem) => problem,
            Err(error) => Some(error.message().to_owned()),
        }
    }

    /// A real engine that misses a package says so when it is started, and nowhere else.
    async fn start_problem(&self) -> Option<String> {
        match self.config.run_quietly("--list".to_owned(), Instant::now() + START_TIME).await {
            Ok(finished) if finished.exit != Exit::Code(0) => {
                Some(format!("the engine does not start: {}", last_words(&finished)))
            }
            Ok(_) => None,
            Err(error) => Some(format!("the engine does not start: {}", error.message())),
        }
    }
}

async fn conclude_answer(
    config: DriverConfig,
    root: RunRoot,
    agent_id: String,
    finished: Finished,
    input: String,
    wants_document: bool,
) -> Result<RunOutcome> {
    let (created_agents, refused) = root.settle(&config, Some(&agent_id)).await;
    let mut notes: Vec<String> =
        refused.iter().take(MAX_NOTES).map(|why| format!("not taken: {}", bounded(why, 300))).collect();
    if finished.is_concluded() {
        notes.push(
            "the engine had said its outcome and did not end; it was ended, and the outcome counts"
                .to_owned(),
        );
    }
    let max_bytes = config.limits.max_answer_bytes() as usize;
    // An answer may be long, and is read off the runtime.
    let answer = config.files(move |_| answer(&finished, &input, wants_document, max_bytes)).await?;
    Ok(RunOutcome { created_agents, notes, ..answer })
}

/// Reads the outcome of a run.
fn answer(finished: &Finished, input: &str, wants_document: bool, max_bytes: usize) -> Result<RunOutcome> {
    // It says 0 for failures too, but never another status for a success. One that had said its outcome and had to be ended has none
    // that counts.
    if finished.exit != Exit::Code(0) && !finished.is_concluded() {
        return Err(failed(finished));
    }
    answer_in_outcome(finished, input, wants_document, max_bytes)
}

/// Reads a report of a validation. The exit status is 0 for a broken configuration too; only the last section says which.
fn findings(finished: &Finished) -> Result<RunOutcome> {
    let output = String::from_utf8_lossy(&finished.stdout).trim_end().to_owned();
    let Some((_, verdict)) = output.split_once("RESUMO") else { return Err(failed(finished)) };
    let is_valid = !verdict.contains('❌');
    let findings = Findings {
        is_valid,
        agents: first_number(&output, |line| line.contains("Agentes encontrados:")),
        errors: if is_valid { Vec::new() } else { marked(verdict, &["•"]) },
        warnings: marked(&output, &["⚠️"]),
    };
    Ok(RunOutcome { findings: Some(findings), output, ..RunOutcome::default() })
}

fn problem_of_files(config: &DriverConfig) -> Option<String> {
    let root = &config.engine.root;
    let kind = Root::open(root).and_then(|opened| opened.kind(Path::new("config.yaml")));
    match kind {
        Err(error) => return Some(format!("the engine's root {} cannot be read: {error}", root.display())),
        Ok(Some(EntryKind::File)) => {}
        Ok(_) => return Some(format!("the engine has no config.yaml in {}", root.display())),
    }
    match storage_kind(root) {
        Err(error) => Some(error.to_string()),
        Ok(kind) if kind == "mongodb" && !config.engine.environment.contains_key("MONGO_URI") => Some(
            "the engine keeps its agents in MongoDB and is not given MONGO_URI; set it, and name it in conductor.pass_environment"
                .to_owned(),
        ),
        Ok(_) => None,
    }
}

/// Its answers stand between rules in its output, and some of what is typed would be a command.
struct ConductorDialect {
    dialogue: Dialogue,
    takes_commands: bool,
    pause: Duration,
}

impl Dialect for ConductorDialect {
    fn push(&mut self, chunk: OutputChunk) -> Vec<OutputChunk> {
        self.dialogue.push(chunk)
    }

    fn flush(&mut self) -> Vec<OutputChunk> {
        self.dialogue.flush()
    }

    fn asks_again(&mut self) {
        self.dialogue.asks_again();
    }

    fn answers(&self) -> Option<String> {
        self.dialogue.answers().map(str::to_owned)
    }

    fn literal(&self, words: &str) -> String {
        if self.takes_commands { words.to_owned() } else { disarmed(words) }
    }

    fn pause(&self) -> Duration {
        self.pause
    }

    fn may_ask_while_idle(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Ending;

    fn finished(stdout: &str) -> Finished {
        Finished {
            exit: Exit::Code(0),
            ending: Ending::Natural,
            stdout: stdout.into(),
            is_stdout_cut: false,
            stderr: Vec::new(),
        }
    }

    #[test]
    fn a_real_engines_verdict_is_in_its_last_section() {
        let broken = "🔍 Validando...\n   📊 Agentes encontrados: 8\n   ❌ teams: definition.yaml ausente\n====\n📊 RESUMO DA VALIDAÇÃO\n❌ Erros encontrados: 1\n   • Agente teams: definition.yaml não encontrado\n❌ Configuração com problemas\n";
        let read = findings(&finished(broken)).unwrap().findings.unwrap();
        assert_eq!((read.is_valid, read.agents), (false, 8));
        assert_eq!(read.errors, ["Agente teams: definition.yaml não encontrado"]);
        let fine =
            "   📊 Agentes encontrados: 2\n📊 RESUMO DA VALIDAÇÃO\n✅ Configuração totalmente válida!\n";
        assert!(findings(&finished(fine)).unwrap().findings.unwrap().is_valid);
        assert!(findings(&finished("Traceback\n")).is_err());
    }
}
