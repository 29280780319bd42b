//! `run` by a running gateway: submits, follows over cuts and restarts of the gateway, answers, cancels.

use std::{process::ExitCode, time::Duration};

use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::{
    answers::Answers,
    client,
    event_printer::EventPrinter,
    follow::print_result,
    job_ids::short,
    print::{to_stdout, until_reader_is_gone},
};
use crate::{
    error::{Error, Reason, Result},
    pb::{
        CancelJobRequest, EventFrame, Job, JobEvent, SendInputRequest, SubmitJobRequest, Task, TaskOptions,
        WatchJobRequest, gateway_service_client::GatewayServiceClient,
    },
    sync::back_off,
    task::Termination,
    telemetry::TraceContext,
};

type Client = GatewayServiceClient<Channel>;

/// How long a gateway that does not answer is tried again.
const PATIENCE: Duration = Duration::from_secs(300);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a call that only hands something over may take.
const CALL_TIME: Duration = Duration::from_secs(40);
/// How long a cancellation waits for the end of the job.
const CANCEL_WAIT_SECONDS: u32 = 30;

/// Returns whether the connection, and not the request, is what failed.
fn is_cut(status: &Status) -> bool {
    let is_lost =
        matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled);
    match client::reason(status) {
        Some(Reason::Shutdown | Reason::ShuttingDown | Reason::TooManyStreams | Reason::StoreUnavailable) => {
            true
        }
        Some(_) => false,
        None => is_lost,
    }
}

/// Submits the task. Sent again after a cut, it is the same job, because it has a key.
///
/// # Errors
/// The gateway's refusal; [`Reason::Unreachable`] when it did not answer for five minutes.
async fn submit(client: &mut Client, task: Task, mut options: TaskOptions) -> Result<Job> {
    if options.idempotency_key.is_empty() {
        let mut bytes = [0; 16];
        crate::ambient::fill_random(&mut bytes).map_err(Error::internal)?;
        options.idempotency_key = format!("run-{}", data_encoding::HEXLOWER.encode(&bytes));
    }
    let (begun, mut attempt) = (Instant::now(), 1);
    loop {
        let mut request = tonic::Request::new(SubmitJobRequest {
            task: Some(task.clone()),
            options: Some(options.clone()),
        });
        if let Some(trace) = TraceContext::of_process().and_then(|trace| trace.to_string().parse().ok()) {
            request.metadata_mut().insert("traceparent", trace);
        }
        match client.submit_job(request).await {
            Ok(submitted) => return Ok(submitted.into_inner().job.unwrap_or_default()),
            Err(status) if is_cut(&status) && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(back_off(attempt, FIRST_WAIT, LONGEST_WAIT)).await;
                attempt += 1;
            }
            Err(status) => return Err(client::refused(&status)),
        }
    }
}

/// Submits a task and leaves it to the gateway; prints the job's id.
///
/// # Errors
/// As [`submit`].
pub(super) async fn detach(
    mut client: Client,
    task: Task,
    options: TaskOptions,
    is_json: bool,
) -> Result<ExitCode> {
    let job = submit(&mut client, task, options).await?;
    match is_json {
        true => to_stdout(&super::print::json_line(&job)),
        false => {
            to_stdout(&format!("{}\n", job.job_id));
            super::print::to_stderr(&format!(
                "follow it: conductor-gateway jobs watch {}\n",
                short(&job.job_id)
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Submits a task and follows it to its end.
///
/// # Errors
/// As [`submit`] and [`follow`].
pub(super) async fn run(
    mut client: Client,
    task: Task,
    options: TaskOptions,
    printer: &mut EventPrinter,
    answers: Answers,
) -> Result<()> {
    let job = submit(&mut client, task, options).await?;
    printer.remark(&format!("job {} ({})", short(&job.job_id), job.job_id));
    follow(&mut client, &job.job_id, printer, Some(answers), true).await
}

/// Opens the stream of a job's events behind the last one that was printed, as soon as the gateway answers.
async fn open(
    client: &mut Client,
    job_id: &str,
    printer: &mut EventPrinter,
) -> Result<Streaming<EventFrame>> {
    let (begun, mut attempt) = (Instant::now(), 1);
    loop {
        let request = WatchJobRequest { job_id: job_id.to_owned(), after_sequence: printer.last_sequence() };
        match client.watch_job(request).await {
            Ok(frames) => return Ok(frames.into_inner()),
            Err(status) if is_cut(&status) && begun.elapsed() < PATIENCE => {
                if attempt == 1 {
                    printer.warn("the gateway does not answer; trying again");
                }
                tokio::time::sleep(back_off(attempt, FIRST_WAIT, LONGEST_WAIT)).await;
                attempt += 1;
            }
            Err(status) => return Err(client::refused(&status)),
        }
    }
}

/// Follows a job to its end, over cuts. Each event is printed once. `owns`: a signal cancels the job, and so does a reader
/// that leaves; otherwise both only end the following.
///
/// # Errors
/// The gateway's refusal; [`Reason::Unreachable`] when it did not answer for five minutes.
pub(super) async fn follow(
    client: &mut Client,
    job_id: &str,
    printer: &mut EventPrinter,
    mut answers: Option<Answers>,
    owns: bool,
) -> Result<()> {
    let mut termination = Termination::listen().map_err(Error::internal)?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut is_cancelled = false;
    let mut reader_is_gone = Box::pin(until_reader_is_gone());
    let mut frames = open(client, job_id, printer).await?;
    // A stream that opens and brings nothing is no sign of life.
    let (mut cuts, mut alive) = (0, Instant::now());
    loop {
        let typed = async {
            match &mut answers {
                Some(answers) => answers.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Every branch is cancel safe: what is not taken stays where it is.
            frame = frames.message() => match frame {
                Ok(Some(frame)) => {
                    (cuts, alive) = (0, Instant::now());
                    let Some(event) = frame.event else { continue };
                    let event = JobEvent::decode(event).map_err(Error::internal)?;
                    printer.event(&event);
                    if let Some(answers) = &mut answers {
                        answers.observe(&event);
                    }
                }
                // The gateway ends a stream without an error behind the job's last event only.
                Ok(None) => break,
                Err(status) if !is_cut(&status) => return Err(client::refused(&status)),
                Err(_) if alive.elapsed() > PATIENCE => {
                    let message = format!("the events of {job_id} are cut again and again; the job may go on");
                    return Err(Error::new(Reason::Unreachable, message));
                }
                Err(_) => {
                    cuts += 1;
                    tokio::time::sleep(back_off(cuts, FIRST_WAIT, LONGEST_WAIT)).await;
                    frames = open(client, job_id, printer).await?;
                }
            },
            given = typed => {
                let request =
                    SendInputRequest { job_id: given.job_id, input_id: given.input_id, value: Some(given.value) };
                if let (Err(status), Some(answers)) = (client.send_input(request).await, &mut answers) {
                    let error = client::refused(&status);
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
                let request = CancelJobRequest { job_id: job_id.to_owned(), wait_seconds: 0 };
                match tokio::time::timeout(CALL_TIME, client.cancel_job(request)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(status)) => return Err(client::refused(&status)),
                    Err(_) => {
                        let message = format!("the gateway takes no cancellation; job {} may go on", short(job_id));
                        return Err(Error::new(Reason::Unreachable, message));
                    }
                }
            }
            () = &mut reader_is_gone => {
                if owns {
                    let request = CancelJobRequest { job_id: job_id.to_owned(), wait_seconds: CANCEL_WAIT_SECONDS };
                    let _ended = tokio::time::timeout(CALL_TIME, client.cancel_job(request)).await;
                }
                return Ok(());
            }
        }
    }
    if let Some(job_id) = printer.wants_whole() {
        print_result(client, job_id).await?;
    }
    Ok(())
}
