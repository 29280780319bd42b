//! A client of a running gateway, over gRPC: what the command line uses, and programs in Rust may (the feature `client`).
//!
//! *Lives here:* connecting, submitting, following over cuts and restarts, answering, cancelling, reading whole answers. *May
//! import:* rank 0. *May not:* know the gateway's rooms, print.

mod connection;
mod follower;

pub use follower::{Followed, Follower};

pub(crate) use connection::{connect, refused};

use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;

use crate::{
    error::{Error, Reason, Result},
    pb::{
        CancelJobRequest, GetJobResultRequest, Job, JobState, Json, SendInputRequest, SubmitJobRequest, Task,
        TaskOptions, gateway_service_client::GatewayServiceClient,
    },
    sync::back_off,
    telemetry::TraceContext,
};
use connection::{FIRST_WAIT, LONGEST_WAIT, PATIENCE, is_cut};

/// A client of one gateway. Clones share its connection.
///
/// While the connection fails or the gateway restarts, [`Client::submit`], [`Follower::next`] and [`Client::result`] try again
/// for up to five minutes. Other calls are made once.
#[derive(Clone, Debug)]
pub struct Client {
    calls: GatewayServiceClient<Channel>,
}

impl Client {
    /// Connects to the gateway at `url`, such as `http://127.0.0.1:5006`, or `127.0.0.1:5006`.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] for what is no such address; [`Reason::Unreachable`] if nothing answers there within five
    /// seconds.
    pub async fn connect(url: &str) -> Result<Self> {
        Ok(Self { calls: connect(url).await? })
    }

    /// Returns the generated client, for the calls that this one does not have.
    pub fn calls(&self) -> GatewayServiceClient<Channel> {
        self.calls.clone()
    }

    /// Submits a task and returns its job as it was accepted. Without a key of its own the task gets one, so that a second
    /// attempt after a cut is the same job.
    ///
    /// # Errors
    /// The gateway's refusal; [`Reason::Unreachable`] if it did not answer for five minutes.
    pub async fn submit(&self, task: Task, mut options: TaskOptions) -> Result<Job> {
        if options.idempotency_key.is_empty() {
            let mut bytes = [0; 16];
            crate::ambient::fill_random(&mut bytes).map_err(Error::internal)?;
            options.idempotency_key = format!("run-{}", data_encoding::HEXLOWER.encode(&bytes));
        }
        let (begun, mut attempt) = (Instant::now(), 1);
        let mut calls = self.calls();
        loop {
            let (task, options) = (Some(task.clone()), Some(options.clone()));
            let mut request = tonic::Request::new(SubmitJobRequest { task, options });
            if let Some(trace) = TraceContext::of_process().and_then(|trace| trace.to_string().parse().ok()) {
                request.metadata_mut().insert("traceparent", trace);
            }
            match calls.submit_job(request).await {
                Ok(submitted) => return Ok(submitted.into_inner().job.unwrap_or_default()),
                Err(status) if is_cut(&status) && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(back_off(attempt, FIRST_WAIT, LONGEST_WAIT)).await;
                    attempt += 1;
                }
                Err(status) => return Err(refused(&status)),
            }
        }
    }

    /// Follows the events of a job after `after_sequence`; 0 begins at its first.
    pub fn follow(&self, job_id: impl Into<String>, after_sequence: u32) -> Follower {
        Follower::new(self.calls(), job_id.into(), after_sequence)
    }

    /// Answers the open question of a job, and returns the job.
    ///
    /// # Errors
    /// The gateway's refusal, such as [`Reason::NoOpenQuestion`].
    pub async fn answer(&self, job_id: &str, input_id: &str, value: &serde_json::Value) -> Result<Job> {
        let value = Some(Json { text: value.to_string() });
        let request = SendInputRequest { job_id: job_id.to_owned(), input_id: input_id.to_owned(), value };
        let answered = self.calls().send_input(request).await.map_err(|status| refused(&status))?;
        Ok(answered.into_inner().job.unwrap_or_default())
    }

    /// Asks a job to end, waits up to `wait`, in whole seconds, for that, and returns the job.
    ///
    /// # Errors
    /// The gateway's refusal.
    pub async fn cancel(&self, job_id: &str, wait: Duration) -> Result<Job> {
        let wait_seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        let request = CancelJobRequest { job_id: job_id.to_owned(), wait_seconds };
        let cancelled = self.calls().cancel_job(request).await.map_err(|status| refused(&status))?;
        Ok(cancelled.into_inner().job.unwrap_or_default())
    }

    /// Reads the whole answer of a job that succeeded.
    ///
    /// # Errors
    /// The gateway's refusal: [`Reason::JobNotEnded`], [`Reason::NoResult`], [`Reason::JobNotFound`]; [`Reason::Unreachable`] if
    /// it did not answer for five minutes.
    pub async fn result(&self, job_id: &str) -> Result<String> {
        let (begun, mut attempt, mut text) = (Instant::now(), 1, Vec::new());
        loop {
            // What was read before a cut is not read again.
            let offset = u32::try_from(text.len()).unwrap_or(u32::MAX);
            let request = GetJobResultRequest { job_id: job_id.to_owned(), offset };
            let mut calls = self.calls();
            let read = async {
                let mut pieces = calls.get_job_result(request).await?.into_inner();
                while let Some(piece) = pieces.message().await? {
                    text.extend_from_slice(&piece.data);
                }
                Ok(())
            };
            match read.await {
                Ok(()) => return Ok(String::from_utf8_lossy(&text).into_owned()),
                Err(status) if is_cut(&status) && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(back_off(attempt, FIRST_WAIT, LONGEST_WAIT)).await;
                    attempt += 1;
                }
                Err(status) => return Err(refused(&status)),
            }
        }
    }

    /// Submits a task, waits for the job to end, over cuts and restarts, and returns its whole answer. Questions of the job
    /// are left to their defaults, and dropping the future does not cancel the job.
    ///
    /// # Errors
    /// As [`Client::submit`], [`Follower::next`] and [`Client::result`]; if the job did not succeed, its reason with its id.
    pub async fn run(&self, task: Task, options: TaskOptions) -> Result<String> {
        let job_id = self.submit(task, options).await?.job_id;
        let mut events = self.follow(&job_id, 0);
        let mut failure = None;
        while let Some(followed) = events.next().await? {
            let Followed::Event(event) = followed else { continue };
            match event.payload {
                Some(crate::pb::job_event::Payload::Error(error)) => {
                    let reason = Reason::from_name(&error.reason).unwrap_or(Reason::Internal);
                    failure = Some(Error::new(reason, error.message).for_job(&job_id));
                }
                Some(crate::pb::job_event::Payload::EndOfStream(end))
                    if end.state() != JobState::Succeeded =>
                {
                    let unknown = || Error::new(Reason::Internal, end.message.clone()).for_job(&job_id);
                    return Err(failure.take().unwrap_or_else(unknown));
                }
                _ => {}
            }
        }
        self.result(&job_id).await
    }
}
