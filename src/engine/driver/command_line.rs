//! The command line of a run: its flags, environment and limits, and how it ended.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use super::{DriverConfig, RunContext};
use crate::{
    engine::{
        Ending, Exit, Finished, HOME_VARIABLE, JOB_VARIABLE, Limits, ProcessCommand, ProcessRun,
        TRACE_VARIABLE,
    },
    error::{Error, Reason, Result},
    telemetry::{Activity, Span, TraceContext},
};

/// What is to be run.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    /// The engine's flags.
    pub(super) flags: Vec<String>,
    /// What it reads from standard input first.
    pub(super) input: Option<String>,
    /// Whether standard input stays open after that.
    pub(super) keeps_input_open: bool,
    /// Whether an agent runs, which needs a time limit of its own and the model.
    pub(super) is_agent: bool,
    /// The longest time that the caller wants, in seconds.
    pub(super) timeout_seconds: Option<u32>,
    /// How much of the end of standard output is kept, in bytes.
    pub(super) max_kept_bytes: usize,
}

/// A run that goes on.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) run: ProcessRun,
    timeout: Duration,
    span: Span,
}

impl Started {
    /// Returns what became of it, once [`ProcessRun::next`] has returned `None`.
    ///
    /// # Errors
    /// [`Reason::TimedOut`], [`Reason::Cancelled`], [`Reason::SupervisorLost`]; an engine that ended by itself is not an error here,
    /// whatever its exit status.
    pub(super) fn conclude(self) -> (Exit, Result<Finished>) {
        let finished = self.run.finish();
        let exit = finished.exit;
        let concluded = match (finished.ending, exit) {
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
        };
        self.span.end(concluded.as_ref().map_or_else(|error| error.reason().name(), |_| "ok"));
        (exit, concluded)
    }
}

impl DriverConfig {
    /// Starts the engine in `root`.
    ///
    /// # Errors
    /// [`Reason::EngineNotStarted`], [`Reason::Cancelled`].
    pub(super) async fn start_in(
        &self,
        context: &RunContext,
        root: &Path,
        command_line: CommandLine,
    ) -> Result<Started> {
        let limits = &self.limits;
        let timeout_seconds = command_line.timeout_seconds.unwrap_or(u32::MAX).min(limits.timeout_seconds);
        let own_limit = Duration::from_secs(timeout_seconds.into());
        let timeout = own_limit.min(context.deadline.saturating_duration_since(Instant::now()));
        let subject = self.engine.kind.name();
        let span = Span::begin(Activity::EngineRun, subject, context.trace, &context.job_id);
        let mut environment = self.engine.environment.clone();
        if !context.job_id.is_empty() {
            environment.insert(JOB_VARIABLE.into(), context.job_id.clone());
            environment.insert(TRACE_VARIABLE.into(), span.context().to_string());
        }
        environment.insert(HOME_VARIABLE.into(), self.home.clone());
        let mut flags = command_line.flags;
        if command_line.is_agent {
            let model = self.model_environment.iter();
            environment.extend(model.map(|(name, value)| (name.clone(), value.expose().to_owned())));
            // Git must not find a repository above the run's root.
            let above = root.parent().unwrap_or(root).to_string_lossy().into_owned();
            environment.entry("GIT_CEILING_DIRECTORIES".to_owned()).or_insert(above);
            // The engine has a limit of its own; without this flag it would be another one than ours.
            let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
            flags.push(format!("--timeout={}", seconds.max(1)));
        }
        let command = ProcessCommand {
            program: self.engine.program.iter().cloned().chain(flags).collect(),
            environment,
            directory: root.to_owned(),
            has_input: command_line.keeps_input_open || command_line.input.is_some(),
        };
        let limits = Limits {
            timeout,
            kill_grace: Duration::from_secs(limits.kill_grace_seconds.into()),
            max_output_bytes: limits.max_output_bytes,
            max_kept_bytes: command_line.max_kept_bytes.max(limits.max_answer_bytes() as usize),
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
        if let Some(input) = command_line.input {
            run.say(&input).await;
        }
        if !command_line.keeps_input_open {
            run.close_input();
        }
        Ok(Started { run, timeout, span })
    }

    /// Runs the engine with one flag in its own root to its end, for no job. Its output goes to nobody.
    ///
    /// # Errors
    /// As [`start_in`](Self::start_in) and [`Started::conclude`].
    pub(super) async fn run_quietly(&self, flag: String, deadline: Instant) -> Result<Finished> {
        let cancel = tokio_util::sync::CancellationToken::new();
        let context =
            RunContext { job_id: String::new(), trace: TraceContext::new_trace(), cancel, deadline };
        let command_line = CommandLine { flags: vec![flag], ..CommandLine::default() };
        let mut started = self.start_in(&context, &self.engine.root, command_line).await?;
        while started.run.next(&context.cancel).await.is_some() {}
        started.conclude().1
    }
}
