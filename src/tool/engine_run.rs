//! Running the engine's command line for a tool.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use super::{
    CallContext, Progress,
    toolbox::{Inner, digest},
};
use crate::{
    engine::{Chunk, Command, Ending, Exit, Finished, HOME_VARIABLE, JOB_VARIABLE, Kind, Limits, Run},
    error::{Error, Reason, Result},
};

/// The end of standard output that is kept to read the outcome from. A real engine prints its answer twice on
/// one line, so that an answer of 2 MB takes 4.
const MAX_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// What is to be run.
pub(super) struct EngineRun {
    /// The engine's flags.
    pub(super) flags: Vec<String>,
    /// The longest time that the caller wants, in seconds.
    pub(super) timeout: Option<u32>,
    /// Whether it is spoken to.
    pub(super) has_input: bool,
    /// Whether an agent runs, which is what needs the model.
    pub(super) is_agent: bool,
}

impl EngineRun {
    /// A run that no agent takes part in.
    pub(super) fn plain(flag: impl Into<String>) -> Self {
        Self { flags: vec![flag.into()], timeout: None, has_input: false, is_agent: false }
    }
}

/// A run that goes on.
pub(super) struct Started {
    pub(super) run: Run,
    timeout: Duration,
}

impl Started {
    /// What became of it, once [`Run::next`] has answered `None`.
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
            (Ending::Cancelled, _) => Err(cancelled()),
            (Ending::Natural, Exit::Lost) => Err(Error::new(
                Reason::SupervisorLost,
                "the supervisor of the engine's processes was lost and the run with it; try again",
            )),
            (Ending::Natural, _) => Ok(finished),
        }
    }
}

impl CallContext {
    /// Passes output on. Nobody listening is no reason to stop.
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
        environment.insert(JOB_VARIABLE.into(), context.job_id.clone());
        environment.insert(HOME_VARIABLE.into(), config.home.clone());
        if wanted.is_agent {
            let further = config.agent_environment.iter();
            environment.extend(further.map(|(name, value)| (name.clone(), value.expose().to_owned())));
        }
        let command = Command {
            program: config.engine.program.iter().cloned().chain(wanted.flags).collect(),
            environment,
            directory: root.to_owned(),
            has_input: wanted.has_input,
        };
        let limits = Limits {
            timeout,
            kill_grace: Duration::from_secs(config.conductor.kill_grace_seconds.into()),
            max_output_bytes: config.conductor.max_output_bytes,
            max_kept_bytes: MAX_KEPT_BYTES,
        };
        if context.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let run = self.supervisor.run(command, limits).await.map_err(|error| match error.reason() {
            Reason::EngineNotStarted => {
                let message =
                    format!("{}; check conductor.project_path and conductor.command", error.message());
                Error::new(Reason::EngineNotStarted, message)
            }
            _ => error,
        })?;
        Ok(Started { run, timeout })
    }

    /// Runs the engine in `root` to its end, its output going to the context's listener.
    ///
    /// # Errors
    /// [`Reason::TimedOut`], [`Reason::Cancelled`], [`Reason::EngineNotStarted`], [`Reason::SupervisorLost`];
    /// an engine that ended by itself is no error here, whatever its status.
    pub(super) async fn run_engine(
        &self,
        context: &CallContext,
        root: &Path,
        wanted: EngineRun,
        exit: &mut Option<Exit>,
    ) -> Result<Finished> {
        let mut started = self.start_engine(context, root, wanted).await?;
        while let Some(chunk) = started.run.next(&context.cancel).await {
            context.tell(chunk).await;
        }
        started.conclude(exit)
    }

    /// For a real engine, waits until no other run of this agent goes on in this root; says so meanwhile.
    pub(super) async fn wait_for_agent(
        &self,
        context: &CallContext,
        root: &Path,
        agent_id: &str,
    ) -> Result<Option<tokio::sync::OwnedMutexGuard<()>>> {
        if self.config.engine.kind == Kind::Bundled {
            return Ok(None); // it locks by itself
        }
        let lock = self.agent_lock(root.to_owned(), agent_id);
        if let Ok(guard) = lock.clone().try_lock_owned() {
            return Ok(Some(guard));
        }
        let _unheard = context.progress.send(Progress::WaitingForAgent(agent_id.to_owned())).await;
        tokio::select! {
            // Losing the lock's branch only gives up the place in its queue.
            guard = lock.lock_owned() => Ok(Some(guard)),
            () = context.cancel.cancelled() => Err(cancelled()),
            () = tokio::time::sleep_until(context.deadline) => Err(Error::new(
                Reason::TimedOut,
                format!("another run of {agent_id} did not end in time; try again later"),
            )),
        }
    }
}

pub(super) fn cancelled() -> Error {
    Error::new(Reason::Cancelled, "the job was cancelled")
}

/// What an engine that failed said last: the end of standard error, else of standard output.
pub(super) fn last_words(finished: &Finished) -> String {
    let source = if finished.stderr.trim_ascii().is_empty() { &finished.stdout } else { &finished.stderr };
    let text = String::from_utf8_lossy(source);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(5)..].join("\n");
    last.chars().rev().take(1000).collect::<Vec<_>>().into_iter().rev().collect()
}

/// The sentence for an engine that ended with something else than success.
pub(super) fn failed(finished: &Finished) -> Error {
    let how = match finished.exit {
        Exit::Code(code) => format!("the engine ended with status {code}"),
        Exit::Signal(signal) => format!("the engine was ended by signal {signal}"),
        Exit::Lost => "the engine was lost".to_owned(),
    };
    let words = last_words(finished);
    let message =
        if words.is_empty() { format!("{how} and said nothing") } else { format!("{how}: {words}") };
    Error::new(Reason::EngineFailed, message)
}

/// A secret-free name for a caller's files.
pub(super) fn file_name(name: &str) -> String {
    digest(name)
}
