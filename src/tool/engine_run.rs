//! Runs the engine's command line for a tool.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use super::{CallContext, Progress, toolbox::Inner};
use crate::{
    engine::{
        Chunk, Command, Ending, Exit, Finished, HOME_VARIABLE, JOB_VARIABLE, Kind, Limits, Run, Stream,
        read_outcome,
    },
    error::{Error, Reason, Result},
    text::bounded,
};

/// A real engine prints its answer twice on one line, escaped, with other output before and after it. Kept are this
/// many times the longest answer, and this many bytes more.
const KEPT_TIMES: usize = 3;
const KEPT_BESIDE: usize = 256 * 1024;
/// An engine that has printed its outcome and then is silent gets this long to end by itself. One that goes on to print
/// may have more to say, and gets the longer time.
const OUTCOME_GRACE: Duration = Duration::from_secs(5);
const LONGEST_OUTCOME_GRACE: Duration = Duration::from_secs(60);

/// The description of a run.
pub(super) struct EngineRun {
    /// The engine's flags.
    pub(super) flags: Vec<String>,
    /// The agent's input. The bundled engine reads it from standard input; a real one takes it only on its command
    /// line, which every user of the machine can read.
    pub(super) input: Option<String>,
    /// The run time limit that the caller wants, in seconds; the configured limit applies as well.
    pub(super) timeout: Option<u32>,
    /// Whether the run gets further input while it lasts.
    pub(super) is_spoken_to: bool,
    /// Whether an agent runs, which needs access to the model.
    pub(super) is_agent: bool,
}

impl EngineRun {
    /// Returns the description of a run that involves no agent.
    pub(super) fn plain(flag: impl Into<String>) -> Self {
        Self { flags: vec![flag.into()], input: None, timeout: None, is_spoken_to: false, is_agent: false }
    }
}

/// A run in progress.
pub(super) struct Started {
    pub(super) run: Run,
    timeout: Duration,
}

impl Started {
    /// Returns how the run ended, once [`Run::next`] has returned `None`; stores the process's exit in `exit`.
    ///
    /// # Errors
    /// As [`Inner::run_engine`].
    pub(super) fn conclude(self, exit: &mut Option<Exit>) -> Result<Finished> {
        let finished = self.run.finish();
        *exit = Some(finished.exit);
        match (finished.ending, finished.exit) {
            (Ending::TimedOut, _) => Err(Error::new(
                Reason::TimedOut,
                format!(
                    "the engine was stopped after {} seconds; give it more time, or less to do",
                    self.timeout.as_secs_f64().round()
                ),
            )),
            (Ending::Cancelled, _) => Err(Error::cancelled()),
            (Ending::Natural, Exit::Lost) => Err(Error::new(
                Reason::SupervisorLost,
                "the supervisor of the engine's processes was lost and the run with it; try again",
            )),
            (Ending::Natural, _) => Ok(finished),
            (Ending::Concluded, _) => {
                tracing::warn!(
                    "an engine had said its outcome and did not end; it was ended, and the outcome counts"
                );
                Ok(finished)
            }
        }
    }
}

impl CallContext {
    /// Passes output on. A missing listener is no reason to stop.
    pub(super) async fn tell(&self, chunk: Chunk) {
        let _unheard = self.progress.send(Progress::Output(chunk)).await;
    }
}

impl Inner {
    /// Starts the engine in `root`.
    ///
    /// # Errors
    /// [`Reason::EngineNotStarted`], [`Reason::Cancelled`].
    pub(super) async fn start_engine(
        &self,
        context: &CallContext,
        root: &Path,
        wanted: EngineRun,
    ) -> Result<Started> {
        let config = &self.config;
        let timeout_seconds = wanted.timeout.unwrap_or(u32::MAX).min(config.conductor.timeout_seconds);
        let own_limit = Duration::from_secs(timeout_seconds.into());
        let timeout = own_limit.min(context.deadline.saturating_duration_since(Instant::now()));
        let mut environment = config.engine.environment.clone();
        if !context.job_id.is_empty() {
            environment.insert(JOB_VARIABLE.into(), context.job_id.clone());
        }
        environment.insert(HOME_VARIABLE.into(), config.home.clone());
        let (mut flags, mut told) = (wanted.flags, None);
        if wanted.is_agent {
            let further = config.agent_environment.iter();
            environment.extend(further.map(|(name, value)| (name.clone(), value.expose().to_owned())));
            // No git repository above the run's root belongs to the run.
            let above = root.parent().unwrap_or(root).to_string_lossy().into_owned();
            environment.entry("GIT_CEILING_DIRECTORIES".to_owned()).or_insert(above);
            // The engine has a time limit of its own, so it is told ours.
            let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
            flags.push(format!("--timeout={}", seconds.max(1)));
        }
        match (wanted.input, config.engine.kind) {
            (Some(input), Kind::Bundled) => {
                flags.push(format!("--input-bytes={}", input.len()));
                told = Some(input);
            }
            (Some(input), Kind::Conductor) => flags.push(format!("--input={input}")),
            (None, _) => {}
        }
        let command = Command {
            program: config.engine.program.iter().cloned().chain(flags).collect(),
            environment,
            directory: root.to_owned(),
            has_input: wanted.is_spoken_to || told.is_some(),
        };
        let max_output_bytes = config.conductor.max_output_bytes;
        let max_answer_bytes = config.conductor.max_answer_bytes() as usize;
        let limits = Limits {
            timeout,
            kill_grace: Duration::from_secs(config.conductor.kill_grace_seconds.into()),
            max_output_bytes,
            max_kept_bytes: match config.engine.kind {
                Kind::Bundled => max_answer_bytes,
                Kind::Conductor => max_answer_bytes.saturating_mul(KEPT_TIMES) + KEPT_BESIDE,
            },
        };
        if context.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let mut run = self.supervisor.run(command, limits).await.map_err(|error| match error.reason() {
            Reason::EngineNotStarted => {
                let message =
                    format!("{}; check conductor.project_path and conductor.command", error.message());
                Error::new(Reason::EngineNotStarted, message)
            }
            _ => error,
        })?;
        if let Some(told) = told {
            run.say(&told).await;
        }
        if !wanted.is_spoken_to {
            run.close_input();
        }
        Ok(Started { run, timeout })
    }

    /// Runs the engine in `root` to its end, and passes its output to the context's listener.
    ///
    /// # Errors
    /// [`Reason::TimedOut`], [`Reason::Cancelled`], [`Reason::EngineNotStarted`], [`Reason::SupervisorLost`]; an engine
    /// that ended by itself is not an error here, whatever its exit status.
    pub(super) async fn run_engine(
        &self,
        context: &CallContext,
        root: &Path,
        wanted: EngineRun,
        exit: &mut Option<Exit>,
    ) -> Result<Finished> {
        let input =
            wanted.input.clone().filter(|_| wanted.is_agent && self.config.engine.kind == Kind::Conductor);
        let mut started = self.start_engine(context, root, wanted).await?;
        // When output was first seen that may be the outcome, and when to look for the outcome unless more output
        // comes.
        let mut said_at: Option<Instant> = None;
        let mut ends_at: Option<Instant> = None;
        loop {
            let chunk = tokio::select! {
                // `next` is cancel safe, the other branch only waits.
                biased;
                chunk = started.run.next(&context.cancel) => chunk,
                () = sleep_until(ends_at) => {
                    (said_at, ends_at) = (None, None);
                    let (stdout, input) = (started.run.stdout_so_far().to_vec(), input.clone().unwrap_or_default());
                    let said = self.blocking(move |_| Ok(read_outcome(&stdout, &input).is_some())).await?;
                    if said {
                        started.run.conclude();
                    }
                    continue;
                }
            };
            let Some(mut chunk) = chunk else { break };
            if input.is_some() && chunk.stream == Stream::Stdout {
                chunk.stream = Stream::Log;
                if chunk.text.contains("\"metadata\"") {
                    said_at = said_at.or_else(|| Some(Instant::now()));
                }
                ends_at = said_at.map(|at| (at + LONGEST_OUTCOME_GRACE).min(Instant::now() + OUTCOME_GRACE));
            }
            context.tell(chunk).await;
        }
        started.conclude(exit)
    }

    /// Waits until no other run of this agent is in progress in this conversation, or among stateless runs, and reports
    /// the wait. Returns `None` where runs take no turns.
    pub(super) async fn wait_for_agent(
        &self,
        context: &CallContext,
        conversation_id: Option<&str>,
        agent_id: &str,
    ) -> Result<Option<tokio::sync::OwnedMutexGuard<()>>> {
        if !self.config.has_turns(conversation_id) {
            return Ok(None);
        }
        let root = self.run_root(&context.caller, conversation_id, agent_id);
        let lock = self.agent_lock(root, agent_id);
        if let Ok(guard) = lock.clone().try_lock_owned() {
            return Ok(Some(guard));
        }
        let _unheard = context.progress.send(Progress::WaitingForAgent(agent_id.to_owned())).await;
        tokio::select! {
            // Cancel safe: dropping the lock's branch only gives up its position in the queue.
            guard = lock.lock_owned() => {
                let _unheard = context.progress.send(Progress::AgentIsFree(agent_id.to_owned())).await;
                Ok(Some(guard))
            }
            () = context.cancel.cancelled() => Err(Error::cancelled()),
            () = tokio::time::sleep_until(context.deadline) => Err(Error::new(
                Reason::TimedOut,
                format!("another run of {agent_id} did not end in time; try again later"),
            )),
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Returns the last words of an engine that failed: the exception of a Python traceback, else the end of standard
/// error, else that of standard output.
pub(super) fn last_words(finished: &Finished) -> String {
    let source = if finished.stderr.trim_ascii().is_empty() { &finished.stdout } else { &finished.stderr };
    let text = String::from_utf8_lossy(source);
    if let Some((_, traceback)) = text.rsplit_once("Traceback (most recent call last):") {
        // Frames are indented, the exception's own line is not. Its text may continue on further lines.
        let is_exception = |line: &&str| !line.is_empty() && !line.starts_with(char::is_whitespace);
        let lines: Vec<&str> = traceback.lines().collect();
        if let Some(at) = lines.iter().position(is_exception) {
            let is_text = |line: &&&str| line.chars().any(char::is_alphanumeric);
            let words: Vec<&str> = lines[at..].iter().filter(is_text).map(|line| line.trim()).collect();
            return bounded(&words.join("\n"), MAX_WORDS_BYTES);
        }
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    bounded(&lines[lines.len().saturating_sub(5)..].join("\n"), MAX_WORDS_BYTES)
}

/// Finds the variable that an engine lacks and the configuration can pass on: one named like a key or an address.
fn missing_variable(words: &str) -> Option<&str> {
    let names = words.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    let ends = ["_KEY", "_TOKEN", "_URI", "_URL", "_SECRET", "_PASSWORD", "_CREDENTIALS"];
    names.into_iter().find(|name| name.len() > 4 && ends.iter().any(|end| name.ends_with(end)))
}

/// Returns the error for an engine that ended with anything but success.
pub(super) fn failed(finished: &Finished) -> Error {
    let how = match finished.exit {
        Exit::Code(code) => format!("the engine ended with status {code}"),
        Exit::Signal(signal) => format!("the engine was ended by signal {signal}"),
        Exit::Lost => "the engine was lost".to_owned(),
    };
    let words = last_words(finished);
    let message =
        if words.is_empty() { format!("{how} and said nothing") } else { format!("{how}: {words}") };
    let message = match missing_variable(&words) {
        Some(name) => format!("{message}; if the engine needs {name}, name it in conductor.pass_environment"),
        None => message,
    };
    Error::new(Reason::EngineFailed, message)
}

/// An engine's last words are cut to this many bytes.
const MAX_WORDS_BYTES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceback_is_told_by_its_exception_and_a_missing_key_by_what_gives_it() {
        let traceback = "Traceback (most recent call last):\n  File \"conductor\", line 3, in <module>\n    import x\nKeyError: 'ANTHROPIC_API_KEY'\n";
        let finished = Finished {
            exit: Exit::Code(1),
            ending: Ending::Natural,
            stdout: b"banner\n".to_vec(),
            is_stdout_cut: false,
            stderr: traceback.into(),
        };
        assert_eq!(last_words(&finished), "KeyError: 'ANTHROPIC_API_KEY'");
        let message = failed(&finished).message().to_owned();
        assert!(message.contains("ANTHROPIC_API_KEY, name it in conductor.pass_environment"), "{message}");
        let settings = "Traceback (most recent call last):\n  File \"config.py\", line 146, in <module>\n    settings = Settings()\n               ^^^^\npydantic_core._pydantic_core.ValidationError: 1 validation error for Settings\n  Value error, \n====\nCONFIGURATION ERROR: No AI credentials found!\n  2. Add your API key (e.g., GEMINI_API_KEY) to the .env file.\n";
        let finished = Finished { stderr: settings.into(), ..finished };
        let message = failed(&finished).message().to_owned();
        assert!(message.contains("No AI credentials found!"), "{message}");
        assert!(message.contains("GEMINI_API_KEY, name it in conductor.pass_environment"), "{message}");
        assert_eq!(missing_variable("ModuleNotFoundError: No module named 'x'"), None);
    }
}
