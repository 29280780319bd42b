//! The task that runs one job: wait for admission, start, run, end. It owns the job's writer from the first event to the
//! last.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{
    Assignment, CancelledBy, JobService,
    admission::{Admitted, Permit},
    live_job::LiveJob,
};
use crate::{
    agent::{self, JobOutcome, Writer},
    error::{Error, Reason, Result},
    journal::Appender,
    pb::{CANCELLED_BY_DISCONNECT, Job, JobError, JobState, StatusReason, Timestamp},
    sync::sleep_until,
    telemetry::{self, Activity, Span, TraceContext},
    time_limit::TimeLimit,
    tool::ToolResult,
};

/// How long a job waits for its `job_started` to be stored. It does not start before that, so that it never starts twice.
const STORE_DEADLINE: Duration = Duration::from_secs(30);

const RETRY_DELAY: Duration = Duration::from_millis(250);

impl JobService {
    /// Makes the job live and spawns the task that runs it.
    pub(super) fn launch(&self, live: LiveJob, task: agent::Task, appender: Appender, turn: Admitted) {
        let live = Arc::new(live);
        self.insert_live(live.clone());
        let service = self.clone();
        self.tasks().spawn("job", async move { service.run_job_task(live, task, appender, turn).await });
    }

    async fn run_job_task(&self, live: Arc<LiveJob>, task: agent::Task, appender: Appender, turn: Admitted) {
        let mut writer = self.writer(&live, appender);
        let (span, launched) = (begin_span(&live.job()), Instant::now());
        let waited = self.wait_for_turn(&live, &mut writer, turn).await;
        telemetry::observe_queue_wait(launched.elapsed());
        let outcome = match waited {
            Ok(QueueOutcome::Started(permit)) => {
                let permit = Arc::new(Mutex::new(permit));
                live.set_permit(&permit);
                let outcome = self.start_and_run(&live, &task, &mut writer, span.context()).await;
                // The work is done, so the next job may start without waiting for the store.
                drop(permit);
                Some(outcome)
            }
            Ok(QueueOutcome::LeftQueued) => None,
            Err(error) => Some(self.outcome(&live, Err(error))),
        };
        let has_ended = outcome.is_some();
        span.end(outcome.as_ref().map_or("left_queued", JobOutcome::name));
        if let Some(outcome) = outcome {
            live.release_backpressure();
            self.end(&live, writer, &outcome).await;
        }
        // A job that stays queued remains in the live table, so that its state can be read until the process ends.
        if has_ended {
            self.remove_live(&live.job_id);
        }
        live.ended.cancel();
    }

    pub(super) fn writer(&self, live: &Arc<LiveJob>, appender: Appender) -> Writer {
        let (live, service) = (live.clone(), self.clone());
        let apply = move |sequence, payload: &_| {
            let changed = live.apply(sequence, payload);
            if changed.is_some() {
                service.tell_watchers(&live);
            }
            changed
        };
        Writer::new(appender, Arc::new(apply))
    }

    async fn wait_for_turn(
        &self,
        live: &LiveJob,
        writer: &mut Writer,
        turn: Admitted,
    ) -> Result<QueueOutcome> {
        let mut waiting = match turn {
            Admitted::Now(permit) => return Ok(QueueOutcome::Started(permit)),
            Admitted::Later(waiting) => waiting,
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
        let left = tokio::select! {
            // The turn first: a granted permit is used, or passed on when dropped. Cancel safe: every branch only waits.
            biased;
            given = waiting.turn() => return Ok(given.map_or(QueueOutcome::LeftQueued, QueueOutcome::Started)),
            () = live.cancel.cancelled() => QueueExit::Cancelled,
            () = sleep_until(deadline) => QueueExit::Expired,
            () = self.tasks().stopping().cancelled() => QueueExit::Shutdown,
        };
        drop(waiting);
        match left {
            QueueExit::Cancelled if matches!(live.cancelled_by(), Some(CancelledBy::Shutdown)) => {
                self.leave_queued(writer).await
            }
            QueueExit::Cancelled => {
                Err(Error::new(Reason::Cancelled, "the job was cancelled before it started"))
            }
            QueueExit::Expired => Err(Error::new(
                Reason::QueueTimedOut,
                format!("the job waited {queue_timeout} seconds and was not started; try again later"),
            )),
            QueueExit::Shutdown => self.leave_queued(writer).await,
        }
    }

    /// Informs the readers of a job that stays queued over the shutdown; the next start of the gateway runs it.
    async fn leave_queued(&self, writer: &mut Writer) -> Result<QueueOutcome> {
        let message = "the gateway is shutting down; the job stays queued and runs after its restart";
        writer.status(JobState::Queued, StatusReason::ShuttingDown, None, message).await?;
        if let Err(error) = writer.flushed(STORE_DEADLINE).await {
            // The job stays queued even so.
            tracing::warn!(%error, "the readers of a queued job could not be told");
        }
        Ok(QueueOutcome::LeftQueued)
    }

    async fn start_and_run(
        &self,
        live: &LiveJob,
        task: &agent::Task,
        writer: &mut Writer,
        trace: TraceContext,
    ) -> JobOutcome {
        let limit = TimeLimit::new(self.timeout(&live.job()));
        // A panic in a job ends only that job, with an error event.
        let run = AssertUnwindSafe(self.try_run(live, task, writer, limit.clone(), trace)).catch_unwind();
        // Once the job is cancelled or past its deadline, a stalled store must not delay its end.
        let relief = async {
            // Cancel safe: both branches only wait.
            tokio::select! {
                () = limit.passed() => {}
                () = live.cancel.cancelled() => {}
            }
            live.release_backpressure();
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
        live: &LiveJob,
        task: &agent::Task,
        writer: &mut Writer,
        limit: TimeLimit,
        trace: TraceContext,
    ) -> Result<ToolResult> {
        let job = live.job();
        let cancelled = || Error::new(Reason::Cancelled, "the job was cancelled before it started");
        if live.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let wire_task = job.task.clone().unwrap_or_default();
        writer.started(&wire_task, self.worker().engine()).await?;
        tokio::select! {
            // Cancel safe: both branches only wait.
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
            trace,
            limit,
        };
        self.worker().work(assignment, writer).await
    }

    fn timeout(&self, job: &Job) -> Duration {
        let configured = self.config().timeout_seconds;
        let asked = job.options.as_ref().map_or(0, |options| options.timeout_seconds);
        let seconds = if asked == 0 { configured } else { asked.min(configured) };
        Duration::from_secs(seconds.into())
    }

    /// Returns the job's outcome; an error that stems from a cancellation or the shutdown is reported as such.
    fn outcome(&self, live: &LiveJob, result: Result<ToolResult>) -> JobOutcome {
        if let Err(error) = &result
            && let Some(cause) = error.cause()
        {
            tracing::warn!(job_id = %live.job_id, reason = error.reason().name(), cause, "job failed");
        }
        match (result, live.cancelled_by()) {
            (Ok(done), _) => JobOutcome::Succeeded(done),
            (Err(_), Some(CancelledBy::Shutdown)) => {
                let message = "the gateway was shut down while the job ran; submit it again";
                JobOutcome::Interrupted(Error::new(Reason::Shutdown, message))
            }
            (Err(error), Some(CancelledBy::Caller(name))) if error.reason() == Reason::Cancelled => {
                JobOutcome::Failed(
                    Error::new(Reason::Cancelled, format!("the job was cancelled by {name}")),
                    Some(name),
                )
            }
            (Err(error), Some(CancelledBy::Disconnect)) if error.reason() == Reason::Cancelled => {
                let message = "the job was cancelled because its client left";
                JobOutcome::Failed(
                    Error::new(Reason::Cancelled, message),
                    Some(CANCELLED_BY_DISCONNECT.to_owned()),
                )
            }
            (Err(error), _) => JobOutcome::Failed(error, None),
        }
    }

    /// Stores an answer that is too long for an event in full, before the event that refers to it is written.
    async fn store_full_result(&self, live: &LiveJob, outcome: &JobOutcome) {
        let JobOutcome::Succeeded(done) = outcome else { return };
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

    pub(super) async fn end(&self, live: &LiveJob, writer: Writer, outcome: &JobOutcome) {
        self.store_full_result(live, outcome).await;
        match writer.finish(outcome).await {
            Ok(appender) => {
                let mut job = live.job();
                let retention = Duration::from_secs(self.config().retention_seconds.into());
                job.expire_time = job.end_time.map(|ended| ended.after(retention));
                self.journal().finish(appender, &job, || as_lost(&job)).await;
                self.check_retention();
            }
            Err(error) => {
                tracing::error!(job_id = %live.job_id, cause = error.cause(), "a job could not be ended");
                self.journal().abandon(&live.job_id, as_lost(&live.job())).await;
            }
        }
    }
}

/// Begins the span of a job, in the trace that came with its submission or in one of its own.
fn begin_span(job: &Job) -> Span {
    let given = job.trace_parent.as_deref().and_then(TraceContext::parse);
    let parent = given.unwrap_or_else(|| TraceContext::of_job(&job.job_id));
    Span::begin(Activity::Job, job.door().short_name(), parent, &job.job_id)
}

/// Returns the job as it ends when its log has failed for good: interrupted, with DATA_LOSS.
pub(super) fn as_lost(job: &Job) -> Job {
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

enum QueueOutcome {
    Started(Permit),
    LeftQueued,
}

enum QueueExit {
    Cancelled,
    Expired,
    Shutdown,
}
