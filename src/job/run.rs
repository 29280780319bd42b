//! One job's task: wait for the turn, start, run, end. It owns the job's writer from the first event to the last.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Assignment, CancelledBy, JobService, admission::Turn, live::Live};
use crate::{
    agent::{self, Outcome, Writer},
    error::{Error, Reason, Result},
    journal::Appender,
    pb::{Job, JobState, StatusReason},
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
        // From the turn on the job holds a place, whether or not it comes to its start.
        let holds_place = matches!(waited, Ok(Waited::Started));
        let outcome = match waited {
            Ok(Waited::Started) => Some(self.start_and_run(&live, &task, &mut writer).await),
            Ok(Waited::LeftQueued) => None,
            Err(error) => Some(self.outcome(&live, Err(error))),
        };
        let has_ended = outcome.is_some();
        if let Some(outcome) = outcome {
            self.end(&live, writer, &outcome).await;
        }
        if holds_place {
            self.admission().release();
        }
        // One that stays queued is told of as it is until the gateway is gone.
        if has_ended {
            self.remove_live(&live.job_id);
        }
        live.ended.cancel();
    }

    fn writer(&self, live: &Arc<Live>, appender: Appender) -> Writer {
        let (journal, live) = (self.journal().clone(), live.clone());
        let appended = move |sequence, payload: &_| {
            if let Some(state) = live.apply(sequence, payload) {
                journal.set_state(&live.job_id, sequence, state);
            }
        };
        Writer::new(appender, Arc::new(appended))
    }

    async fn wait_for_turn(&self, live: &Live, writer: &mut Writer, turn: Turn) -> Result<Waited> {
        let Turn::Later(position, mut turn) = turn else { return Ok(Waited::Started) };
        if live.job().last_sequence == 0 {
            let message = "the job waits for a free place";
            writer.status(JobState::Queued, StatusReason::Queued, Some(position), message).await?;
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
            // The turn first: a place that was given must be used or released.
            biased;
            given = &mut turn => return Ok(if given.is_ok() { Waited::Started } else { Waited::LeftQueued }),
            () = live.cancel.cancelled() => Left::Cancelled,
            () = expired => Left::Expired,
            () = self.tasks().stopping().cancelled() => Left::Shutdown,
        };
        self.admission().leave(&live.job_id);
        if turn.try_recv().is_ok() {
            // The place was given in the same moment; it goes to the next.
            self.admission().release();
        }
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
        // A panic in a job ends that job, with an event, and nothing else.
        let run = AssertUnwindSafe(self.try_run(live, task, writer)).catch_unwind().await;
        let result = run.unwrap_or_else(|_| Err(Error::internal("a job's task panicked")));
        self.outcome(live, result)
    }

    async fn try_run(&self, live: &Live, task: &agent::Task, writer: &mut Writer) -> Result<Done> {
        let job = live.job();
        if live.cancel.is_cancelled() {
            return Err(Error::new(Reason::Cancelled, "the job was cancelled before it started"));
        }
        let wire_task = job.task.clone().unwrap_or_default();
        writer.started(&wire_task, self.worker().engine()).await?;
        writer.flushed(STORE_DEADLINE).await?;
        let assignment = Assignment {
            job: &job,
            task,
            inputs: &live.inputs,
            cancel: live.cancel.clone(),
            deadline: Instant::now() + self.timeout(&job),
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
                Outcome::Failed(Error::new(Reason::Cancelled, message), Some("disconnect".to_owned()))
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

    async fn end(&self, live: &Live, writer: Writer, outcome: &Outcome) {
        self.keep_whole(live, outcome).await;
        match writer.finish(outcome).await {
            Ok(appender) => {
                let mut job = live.job();
                let retention = Duration::from_secs(self.config().retention_seconds.into());
                job.expire_time = job.end_time.map(|ended| ended.after(retention));
                self.journal().finish(appender, &job).await;
                self.check_retention();
            }
            Err(error) => {
                tracing::error!(job_id = %live.job_id, cause = error.cause(), "a job could not be ended");
            }
        }
    }
}

enum Waited {
    Started,
    LeftQueued,
}

enum Left {
    Cancelled,
    Expired,
    Shutdown,
}
