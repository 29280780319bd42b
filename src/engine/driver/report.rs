//! A run whose outcome is read when it is over: an answer, or a report.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{DriverConfig, Ended, EngineRun, RunOutcome, RunUpdate, command_line::Started, failure::failed};
use crate::{
    engine::{Exit, Finished, Stream, read_outcome, unreadable},
    error::{Error, Reason, Result},
    sync::sleep_until,
};

/// An engine that has printed its outcome, and then nothing, gets this long to end by itself; one that goes on to print may have more to say.
const OUTCOME_GRACE: Duration = Duration::from_secs(5);
const LONGEST_OUTCOME_GRACE: Duration = Duration::from_secs(60);

/// Reads the outcome of a run that ended by itself.
pub(super) type Conclude = Box<dyn FnOnce(Finished) -> BoxFuture<'static, Result<RunOutcome>> + Send>;

/// Notices that an engine has printed its outcome and does not end.
#[derive(Debug, Default)]
pub(super) struct OutcomeWatch {
    /// What the agent was told, which the engine repeats.
    pub(super) input: String,
    /// When output was first seen that may be the outcome.
    said_at: Option<Instant>,
    /// When to look for the outcome unless more output comes.
    ends_at: Option<Instant>,
}

impl OutcomeWatch {
    pub(super) fn new(input: String) -> Self {
        Self { input, ..Self::default() }
    }
}

pub(super) struct PlainRun {
    pub(super) started: Started,
    pub(super) config: DriverConfig,
    pub(super) cancel: CancellationToken,
    /// Where the output is a log that ends in an outcome.
    pub(super) watch: Option<OutcomeWatch>,
    pub(super) conclude: Conclude,
}

#[async_trait]
impl EngineRun for PlainRun {
    async fn next(&mut self) -> Result<Option<RunUpdate>> {
        loop {
            let chunk = tokio::select! {
                // `next` is cancel safe, the other branch only waits.
                biased;
                chunk = self.started.run.next(&self.cancel) => chunk,
                () = sleep_until(self.watch.as_ref().and_then(|watch| watch.ends_at)) => {
                    let input = self.watch.as_ref().map(|watch| watch.input.clone()).unwrap_or_default();
                    let stdout = self.started.run.stdout_so_far().to_vec();
                    let is_said =
                        self.config.files(move |_| Ok(read_outcome(&stdout, &input).is_some())).await?;
                    if let Some(watch) = &mut self.watch {
                        (watch.said_at, watch.ends_at) = (None, None);
                    }
                    if is_said {
                        self.started.run.conclude();
                    }
                    continue;
                }
            };
            let Some(mut chunk) = chunk else { return Ok(None) };
            if let Some(watch) = self.watch.as_mut().filter(|_| chunk.stream == Stream::Stdout) {
                chunk.stream = Stream::Log;
                if chunk.text.contains("\"metadata\"") {
                    watch.said_at = watch.said_at.or_else(|| Some(Instant::now()));
                }
                let latest = watch.said_at.map(|at| at + LONGEST_OUTCOME_GRACE);
                watch.ends_at = latest.map(|at| at.min(Instant::now() + OUTCOME_GRACE));
            }
            return Ok(Some(RunUpdate::Output(chunk)));
        }
    }

    // It asks nothing.
    fn answer(&mut self, _line: Option<String>) {}

    async fn finish(self: Box<Self>) -> Ended {
        let (exit, concluded) = self.started.conclude();
        let outcome = match concluded {
            Ok(finished) => (self.conclude)(finished).await,
            Err(error) => Err(error),
        };
        Ended { exit, outcome }
    }
}

/// Returns the lines of a report that begin with one of the marks, without it.
pub(super) fn marked(report: &str, marks: &[&str]) -> Vec<String> {
    let lines = report.lines().map(str::trim);
    lines
        .filter_map(|line| marks.iter().find_map(|mark| Some(line.strip_prefix(mark)?.trim().to_owned())))
        .collect()
}

/// Returns the number in the line with which a report counts its agents; 0 where there is none.
pub(super) fn first_number(report: &str, is_count: impl Fn(&str) -> bool) -> u32 {
    let number_in = |line: &str| -> Option<u32> {
        line.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
    };
    report.lines().find(|line| is_count(line)).and_then(number_in).unwrap_or(0)
}

/// Reads a list of templates.
pub(super) fn listed(finished: &Finished) -> Result<RunOutcome> {
    if finished.exit != Exit::Code(0) {
        return Err(failed(finished));
    }
    Ok(RunOutcome {
        output: String::from_utf8_lossy(&finished.stdout).trim().to_owned(),
        ..RunOutcome::default()
    })
}

/// Reads the answer in the outcome that an engine has printed, of at most `max_bytes`.
///
/// # Errors
/// [`Reason::EngineFailed`] where the outcome is a failure, or there is none that can be read, or it is too long.
pub(super) fn answer_in_outcome(
    finished: &Finished,
    input: &str,
    wants_document: bool,
    max_bytes: usize,
) -> Result<RunOutcome> {
    let too_long = || {
        let message = format!(
            "the engine answered more than {max_bytes} bytes, which is all that is kept; raise conductor.max_output_bytes, or let the agent write a file"
        );
        Error::new(Reason::EngineFailed, message)
    };
    match read_outcome(&finished.stdout, input) {
        Some(outcome) if outcome.output.len() > max_bytes => Err(too_long()),
        Some(outcome) if outcome.is_success => Ok(RunOutcome {
            output: outcome.output,
            document: wants_document.then_some(outcome.document),
            ..RunOutcome::default()
        }),
        Some(outcome) => {
            let message = outcome.output.trim();
            let message = if message.is_empty() { "the engine failed and did not say why" } else { message };
            Err(Error::new(Reason::EngineFailed, message))
        }
        None if finished.is_stdout_cut => Err(too_long()),
        None => Err(match unreadable(&finished.stdout, input) {
            Some(why) => {
                Error::new(Reason::EngineFailed, format!("the engine ended without an outcome: {why}"))
            }
            None => failed(finished).because("no outcome line"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Ending;

    #[test]
    fn what_is_no_whole_success_is_none_whatever_the_exit_status() {
        let read = |stdout: &str, is_stdout_cut: bool, max_bytes: usize| {
            let stdout = stdout.into();
            let finished = Finished {
                exit: Exit::Code(0),
                ending: Ending::Natural,
                stdout,
                is_stdout_cut,
                stderr: Vec::new(),
            };
            answer_in_outcome(&finished, "", true, max_bytes)
        };
        let outcome = |status: &str| {
            format!(
                "{{\"status\": \"{status}\", \"output\": \"said\", \"metadata\": {{}}, \"history_entry\": null}}\n"
            )
        };
        let answer = read(&outcome("success"), false, 100).unwrap();
        assert!(answer.output == "said" && answer.document.is_some());
        assert_eq!(read(&outcome("error"), false, 100).unwrap_err().message(), "said");
        assert!(read(&outcome("success"), false, 3).unwrap_err().message().contains("more than 3 bytes"));
        assert!(read("x", true, 100).unwrap_err().message().contains("more than 100 bytes"));
        assert!(read("x", false, 100).is_err());
    }
}
