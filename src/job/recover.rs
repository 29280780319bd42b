//! What a start does with the jobs that the process before this one left unfinished.

use std::time::Duration;

use tokio::time::Instant;

use super::{JobService, fold};
use crate::{
    agent::{self, Outcome, Writer},
    error::{Error, Reason, Result},
    journal::Unfinished,
    pb::{Job, JobState, Timestamp, job_event::Payload},
};

/// The doors stay closed so long for jobs that cannot be read, all of them together.
const STORE_DEADLINE: Duration = Duration::from_secs(10);
/// How often those are tried again afterwards.
const LATER: Duration = Duration::from_secs(5);
const RETRY_DELAY: Duration = Duration::from_millis(100);

impl JobService {
    /// Queued jobs are taken in again, in the order of their submission; running ones end INTERRUPTED. One that
    /// had written its last event is only marked as ended.
    pub(super) async fn recover(&self, mut unfinished: Vec<Unfinished>) {
        // Ids of one millisecond do not sort by their time.
        unfinished.sort_by_key(|left| {
            (left.record.job.as_ref().and_then(|job| job.create_time), left.job_id.clone())
        });
        let (mut queued, mut interrupted, mut unreadable) = (0, 0, Vec::new());
        let until = Instant::now() + STORE_DEADLINE;
        for left in unfinished {
            match self.recover_until(&left, until).await {
                Ok(JobState::Queued) => queued += 1,
                Ok(_) => interrupted += 1,
                Err(error) => {
                    tracing::error!(job_id = %left.job_id, %error, cause = error.cause(), "a job cannot be read, later again");
                    // Still known, with its key: nothing may be submitted in its place.
                    self.journal().note_unreadable(&left);
                    unreadable.push(left);
                }
            }
        }
        self.journal().line_up();
        if !unreadable.is_empty() {
            let service = self.clone();
            self.tasks().spawn("recover_later", async move { service.recover_later(unreadable).await });
        }
        if queued + interrupted > 0 {
            tracing::info!(queued, interrupted, "unfinished jobs were recovered");
        }
    }

    /// A store that cannot be read in this moment is asked again.
    async fn recover_until(&self, left: &Unfinished, until: Instant) -> Result<JobState> {
        loop {
            match self.recover_one(left).await {
                Err(error) if error.reason() == Reason::StoreUnavailable && Instant::now() < until => {
                    tracing::warn!(job_id = %left.job_id, cause = error.cause(), "a job cannot be read, trying again");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                done => return done,
            }
        }
    }

    /// Goes on with the jobs that could not be read at the start, until all are or the gateway ends.
    async fn recover_later(self, mut unreadable: Vec<Unfinished>) {
        while !unreadable.is_empty() {
            tokio::select! {
                // Both branches only wait.
                biased;
                () = self.tasks().stopping().cancelled() => return,
                () = tokio::time::sleep(LATER) => {}
            }
            let mut still = Vec::new();
            for left in unreadable {
                match self.recover_one(&left).await {
                    Ok(_) => tracing::info!(job_id = %left.job_id, "a job can be read again"),
                    Err(error) => {
                        tracing::debug!(job_id = %left.job_id, cause = error.cause(), "a job still cannot be read");
                        still.push(left);
                    }
                }
            }
            unreadable = still;
        }
    }

    async fn recover_one(&self, left: &Unfinished) -> Result<JobState> {
        let mut job = left.record.job.clone().unwrap_or_default();
        let has_ended = self.refold(left, &mut job).await?;
        if has_ended {
            // The last event is stored; only the mark is missing. Its log takes no more events.
            self.journal().note(left);
            self.journal().mark_ended(&left.job_id, &job).await;
            return Ok(job.state());
        }
        let appender = self.journal().reopen(left);
        self.journal().set_state(&left.job_id, 0, job.state());
        let conversation_id = job.options.as_ref().map_or("", |options| &options.conversation_id);
        let task = agent::Task::read(job.task.as_ref(), conversation_id);
        let is_task_lost = job.task.is_none();
        match task {
            Ok(task) if job.start_time.is_none() => {
                self.resubmit(job, task, appender);
                Ok(JobState::Queued)
            }
            _ => {
                let shared = std::sync::Arc::new(std::sync::Mutex::new(job));
                let folded = shared.clone();
                let appended = move |sequence, payload: &Payload| {
                    let mut job = folded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    fold::apply(&mut job, sequence, Timestamp::now(), payload);
                };
                let writer = Writer::new(appender, std::sync::Arc::new(appended));
                let error = match is_task_lost {
                    true => Error::new(
                        Reason::DataLoss,
                        "the store was damaged and the job's task is lost; submit it again",
                    ),
                    false => Error::new(
                        Reason::Interrupted,
                        "the gateway ended while the job ran; it was not run again, submit it again if that is wanted",
                    ),
                };
                let outcome = Outcome::Interrupted(error);
                let appender = writer.finish(&outcome).await?;
                let mut job = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                job.expire_time = job.end_time.map(|ended| ended.after(self.config().retention().max_age));
                self.journal().finish(appender, &job).await;
                Ok(JobState::Interrupted)
            }
        }
    }

    /// Reads the job's events again. Damaged ones are left out: what is known stays known.
    async fn refold(&self, left: &Unfinished, job: &mut Job) -> Result<bool> {
        let mut follower = self.journal().replay(left);
        let mut has_ended = false;
        loop {
            match follower.next().await {
                Ok(None) => return Ok(has_ended),
                Ok(Some(slice)) => {
                    for index in slice.from..slice.batch.len() {
                        let Some(event) = slice.batch.decode(index) else { continue };
                        let Some(payload) = event.payload else { continue };
                        has_ended |= matches!(payload, Payload::EndOfStream(_));
                        fold::apply(job, event.sequence, event.event_time.unwrap_or_default(), &payload);
                    }
                }
                Err(error) if error.reason() == Reason::DataLoss => {
                    // What was lost may have been the start: the job must not be started twice.
                    job.start_time.get_or_insert(Timestamp::now());
                }
                Err(error) => return Err(error),
            }
        }
    }
}
