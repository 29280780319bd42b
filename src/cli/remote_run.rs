//! `run` by a running gateway: submits, follows over cuts and restarts of the gateway, answers, cancels.

use std::{process::ExitCode, time::Duration};

use super::{
    answers::Answers,
    event_printer::{EventFormat, EventPrinter},
    follow::print_result,
    job_ids::short,
    print::{to_stdout, until_reader_is_gone},
};
use crate::{
    client::{Client, Followed},
    error::{Error, Reason, Result},
    pb::{Task, TaskOptions},
    task::Termination,
};

/// How long a call that only hands something over may take.
const CALL_TIME: Duration = Duration::from_secs(40);
/// How long a cancellation waits for the end of the job.
const CANCEL_WAIT: Duration = Duration::from_secs(30);

/// Submits a task and leaves it to the gateway; prints the job's id.
///
/// # Errors
/// As [`Client::submit`].
pub(super) async fn detach(
    client: &Client,
    task: Task,
    options: TaskOptions,
    format: EventFormat,
    reaching: &str,
) -> Result<ExitCode> {
    let job = client.submit(task, options).await?;
    match format {
        EventFormat::Json => to_stdout(&super::print::json_line(&job)),
        EventFormat::Quiet => to_stdout(&format!("{}\n", job.job_id)),
        EventFormat::Human => {
            to_stdout(&format!("{}\n", job.job_id));
            super::print::to_stderr(&format!(
                "follow it: conductor-gateway jobs watch {}{reaching}\n",
                short(&job.job_id)
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Submits a task and follows it to its end.
///
/// # Errors
/// As [`Client::submit`] and [`follow`].
pub(super) async fn run(
    client: &Client,
    task: Task,
    options: TaskOptions,
    printer: &mut EventPrinter,
    answers: Answers,
) -> Result<()> {
    let job = client.submit(task, options).await?;
    printer.remark(&format!("job {} ({})", short(&job.job_id), job.job_id));
    follow(client, &job.job_id, printer, Some(answers), true).await
}

/// Follows a job to its end, over cuts. Each event is printed once. `owns`: a signal cancels the job, and so does a reader
/// that leaves; otherwise both only end the following.
///
/// # Errors
/// The gateway's refusal; [`Reason::Unreachable`] when it did not answer for five minutes.
pub(super) async fn follow(
    client: &Client,
    job_id: &str,
    printer: &mut EventPrinter,
    mut answers: Option<Answers>,
    owns: bool,
) -> Result<()> {
    let mut termination = Termination::listen().map_err(Error::internal)?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut is_cancelled = false;
    let mut reader_is_gone = Box::pin(until_reader_is_gone());
    let mut events = client.follow(job_id, printer.last_sequence());
    loop {
        let typed = async {
            match &mut answers {
                Some(answers) => answers.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Every branch is cancel safe: what is not taken stays where it is.
            followed = events.next() => match followed? {
                Some(Followed::Event(event)) => {
                    printer.event(&event);
                    if let Some(answers) = &mut answers {
                        answers.observe(&event);
                    }
                }
                Some(Followed::Cut) => printer.warn("the gateway does not answer; trying again"),
                None => break,
            },
            given = typed => {
                let value = given.value.to_value().unwrap_or_default();
                let answered = client.answer(&given.job_id, &given.input_id, &value).await;
                if let (Err(error), Some(answers)) = (answered, &mut answers) {
                    answers.refused(error.reason(), error.message());
                }
            }
            _ = ticks.tick() => printer.tick(),
            // A signal stays pending until it is received.
            _ = termination.next() => {
                if !owns {
                    printer.warn(&format!("job {} goes on", short(job_id)));
                    return Ok(());
                }
                if std::mem::replace(&mut is_cancelled, true) {
                    printer.warn(&format!("left; job {} is being cancelled", short(job_id)));
                    return Ok(());
                }
                printer.warn("cancelling the job; the same key again leaves at once");
                match tokio::time::timeout(CALL_TIME, client.cancel(job_id, Duration::ZERO)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_) => {
                        let message = format!("the gateway takes no cancellation; job {} may go on", short(job_id));
                        return Err(Error::new(Reason::Unreachable, message));
                    }
                }
            }
            () = &mut reader_is_gone => {
                if owns {
                    let _ended = tokio::time::timeout(CALL_TIME, client.cancel(job_id, CANCEL_WAIT)).await;
                }
                return Ok(());
            }
        }
    }
    if let Some(job_id) = printer.wants_whole() {
        print_result(client, &job_id).await?;
    }
    Ok(())
}
