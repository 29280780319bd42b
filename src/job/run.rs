//! One job's task: wait for the turn, start, run, end. It owns the job's writer from the first event to the last.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{
    Assignment, CancelledBy, JobService,
    admission::{Permit, Turn},
    live::Live,
};
use crate::{
    agent::{self, Outcome, Writer},
    error::{Error, Reason, Result},
    journal::Appender,
    pb::{CANCELLED_BY_DISCONNECT, Job, JobError, JobState, StatusReason, Timestamp},
    tool::Done,
};

/// A job is not started before the store has its `job_started`, so that it is never started twice.
const STORE_DEADLINE: Duration = Duration::from_secs(30);

const RETRY_DELAY: Duration = Duration::from_millis(250);

impl JobService {
    /// Starts the job's task.
    pub(super) fn launch(&self, live: Live, task: agent::Task, appender: Appender, turn: Turn) {
        let live = Arc::new(live);
        self.insert_live(live.clone());
        let service = self.clone();
        self.tasks().spawn("job", async move { service.drive(live, task, appender, turn).await });
    }

    async fn drive(&self, live: Arc<Live>, task: agent::Task, appender: Appender, turn: Turn) {
        let mut writer = self.writer(&live, appender);
        let waited = self.wait_for_turn(&live, &mut writer, turn).await;
        let outcome = match waited {
            Ok(Waited::Started(permit)) => {
                let permit = Arc::new(Mutex::new(permit));
                live.works_under(&permit);
                let outcome = self.start_and_run(&live, &task, &mut writer).await;
                // The work is done: nobody waits for a turn until the store has heard of it.
                drop(permit);
                Some(outcome)
            }
            Ok(Waited::LeftQueued) => None,
            Err(error) => Some(self.outcome(&live, Err(error))),
        };
        let has_ended = outcome.is_some();
        if let Some(outcome) = outcome {
            live.relieve();
            self.end(&live, writer, &outcome).await;
        }
        // One that stays queued is told of as it is until the gateway is gone.
        if has_ended {
            self.remove_live(&live.job_id);
        }
        live.ended.cancel();
    }

    pub(super) fn writer(&self, live: &Arc<Live>, appender: Appender) -> Writer {
        let live = live.clone();
        Writer::new(appender, Arc::new(move |sequence, payload: &_| live.apply(sequence, payload)))
    }

    async fn wait_for_turn(&self, live: &Live, writer: &mut Writer, turn: Turn) -> Result<Waited> {
        let mut waiting = match turn {
            Turn::Now(permit) => return Ok(Waited::Started(permit)),
            Turn::Later(waiting) => waiting,
        };
        if live.job().last_sequence == 0 {
            let (reason, message) = match waiting.is_for_agent {
                true => (StatusReason::WaitingForAgent, "the job waits for another run of its agent to end"),
                false => (StatusReason::Queued, "the job waits for its turn"),
            };
            writer.status(JobState::Queued, reason, Some(waiting.position), message).await?;
        }
        let job = live.job();
        let queue_timeout = job.options.map_or(0, |options| options.queue_timeout_seconds);
        let deadline = match queue_timeout {
            0 => None,
            seconds => {
                let waited = job.create_time.map_or(Duration::ZERO, |created| created.elapsed());
                Some(Instant::now() + Duration::from_secs(seconds.into()).saturating_sub(waited))
            }
        };
        let expired = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let left = tokio::select! {
            // The turn first: one that was given is used, or goes to the next. All only wait.
            biased;
            given = waiting.turn() => return Ok(given.map_or(Waited::LeftQueued, Waited::Started)),
            () = live.cancel.cancelled() => Left::Cancelled,
            () = expired => Left::Expired,
            () = self.tasks().stopping().cancelled() => Left::Shutdown,
        };
        drop(waiting);
        match left {
            Left::Cancelled if matches!(live.cancelled_by(), Some(CancelledBy::Shutdown)) => {
                self.leave_queued(writer).await
            }
            Left::Cancelled => Err(Error::new(Reason::Cancelled, "the job was cancelled before it started")),
            Left::Expired => Err(Error::new(
                Reason::QueueTimedOut,
                format!("the job waited {queue_timeout} seconds and was not started; try again later"),
            )),
            Left::Shutdown => self.leave_queued(writer).await,
        }
    }

    /// The gateway ends and the job stays queued: its readers are told, and the next start runs it.
    async fn leave_queued(&self, writer: &mut Writer) -> Result<Waited> {
        let message = "the gateway is shutting down; the job stays queued and runs after its restart";
        writer.status(JobState::Queued, StatusReason::ShuttingDown, None, message).await?;
        if let Err(error) = writer.flushed(STORE_DEADLINE).await {
            // It stays queued all the same.
            tracing::warn!(%error, "the readers of a queued job could not be told");
        }
        Ok(Waited::LeftQueued)
    }

    async fn start_and_run(&self, live: &Live, task: &agent::Task, writer: &mut Writer) -> Outcome {
        let deadline = Instant::now() + self.timeout(&live.job());
        // A panic in a job ends that job, with an event, and nothing else.
        let run = AssertUnwindSafe(self.try_run(live, task, writer, deadline)).catch_unwind();
        // From its cancellation or its deadline on, its way out does not lead through a store that is stuck.
        let relief = async {
            let _late = tokio::time::timeout_at(deadline, live.cancel.cancelled()).await;
            live.relieve();
            std::future::pending::<()>().await
        };
        let ran = tokio::select! {
            biased;
            ran = run => ran,
            () = relief => Ok(Err(Error::internal("relief has no end"))),
        };
        self.outcome(live, ran.unwrap_or_else(|_| Err(Error::internal("a job's task panicked"))))
    }

    async fn try_run(
        &self,
        live: &Live,
        task: &agent::Task,
        writer: &mut Writer,
        deadline: Instant,
    ) -> Result<Done> {
        let job = live.job();
        let cancelled = || Error::new(Reason::Cancelled, "the job was cancelled before it started");
        if live.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let wire_task = job.task.clone().unwrap_or_default();
        writer.started(&wire_task, self.worker().engine()).await?;
        tokio::select! {
            // Both only wait.
            biased;
            stored = writer.flushed(STORE_DEADLINE) => stored?,
            () = live.cancel.cancelled() => return Err(cancelled()),
        }
        let assignment = Assignment {
            job: &job,
            task,
            inputs: &live.inputs,
            cancel: live.cancel.clone(),
            owner: live.caller.clone(),
            deadline,
        };
        self.worker().work(assignment, writer).await
    }

    fn timeout(&self, job: &Job) -> Duration {
        let configured = self.config().timeout_seconds;
        let asked = job.options.as_ref().map_or(0, |options| options.timeout_seconds);
        let seconds = if asked == 0 { configured } else { asked.min(configured) };
        Duration::from_secs(seconds.into())
    }

    /// How the job ended, where a cancellation or a shutdown is what ended it.
    fn outcome(&self, live: &Live, result: Result<Done>) -> Outcome {
        if let Err(error) = &result
            && let Some(cause) = error.cause()
        {
            tracing::warn!(job_id = %live.job_id, reason = error.reason().name(), cause, "job failed");
        }
        match (result, live.cancelled_by()) {
            (Ok(done), _) => Outcome::Succeeded(done),
            (Err(_), Some(CancelledBy::Shutdown)) => {
                let message = "the gateway was shut down while the job ran; submit it again";
                Outcome::Interrupted(Error::new(Reason::Shutdown, message))
            }
            (Err(error), Some(CancelledBy::Caller(name))) if error.reason() == Reason::Cancelled => {
                Outcome::Failed(
                    Error::new(Reason::Cancelled, format!("the job was cancelled by {name}")),
                    Some(name),
                )
            }
            (Err(error), Some(CancelledBy::Disconnect)) if error.reason() == Reason::Cancelled => {
                let message = "the job was cancelled because its client left";
                Outcome::Failed(
                    Error::new(Reason::Cancelled, message),
                    Some(CANCELLED_BY_DISCONNECT.to_owned()),
                )
            }
            (Err(error), _) => Outcome::Failed(error, None),
        }
    }

    /// An answer that is too long for an event is kept whole before the event tells of it.
    async fn keep_whole(&self, live: &Live, outcome: &Outcome) {
        let Outcome::Succeeded(done) = outcome else { return };
        if done.text.len() <= agent::MAX_TEXT_BYTES {
            return;
        }
        let text = bytes::Bytes::copy_from_slice(done.text.as_bytes());
        let until = Instant::now() + STORE_DEADLINE;
        while let Err(error) = self.journal().put_result(&live.job_id, text.clone()).await {
            tracing::error!(job_id = %live.job_id, cause = error.cause(), "a long answer could not be kept whole");
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    pub(super) async fn end(&self, live: &Live, writer: Writer, outcome: &Outcome) {
        self.keep_whole(live, outcome).await;
        match writer.finish(outcome).await {
            Ok(appender) => {
                let mut job = live.job();
                let retention = Duration::from_secs(self.config().retention_seconds.into());
                job.expire_time = job.end_time.map(|ended| ended.after(retention));
                self.journal().finish(appender, &job, || lost(&job)).await;
                self.check_retention();
            }
            Err(error) => {
                tracing::error!(job_id = %live.job_id, cause = error.cause(), "a job could not be ended");
                self.journal().abandon(&live.job_id, lost(&live.job())).await;
            }
        }
    }
}

/// How a job ends whose log fails for good: the store has lost what it did.
pub(super) fn lost(job: &Job) -> Job {
    let message = "the store failed for this job: what it did later is lost, and it may have done it";
    let error = JobError {
        reason: Reason::DataLoss.name().to_owned(),
        message: message.to_owned(),
        ..JobError::default()
    };
    let now = Timestamp::now();
    Job {
        state: JobState::Interrupted as i32,
        end_time: Some(job.end_time.unwrap_or(now)),
        question: None,
        outcome: Some(crate::pb::job::Outcome::Error(error)),
        ..job.clone()
    }
}

enum Waited {
    Started(Permit),
    LeftQueued,
}

enum Left {
    Cancelled,
    Expired,
    Shutdown,
}
