//! Takes over jobs that their previous holder left unfinished: at the start, and whenever the gateway finds one later.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{task::JoinHandle, time::Instant};

use super::{JobService, fold, live_job::LiveJob, run::as_lost};
use crate::{
    agent::{self, JobOutcome},
    error::{Error, Reason, Result},
    journal::Unfinished,
    pb::{Job, Timestamp, job_event::Payload},
};

/// The longest time that the start waits for a store that does not respond, before the doors open anyway.
const START_TIME: Duration = Duration::from_secs(10);
/// The interval at which jobs without a holder are looked for.
const LATER: Duration = Duration::from_secs(5);
/// How long the start waits for the ends of interrupted jobs to be stored.
const END_TIME: Duration = Duration::from_secs(1);
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// The most jobs that are claimed in one call.
const CLAIM_AT_ONCE: usize = 256;

/// What became of an unfinished job.
enum Recovered {
    Queued,
    /// The task that is marking the job as ended.
    Ending(JoinHandle<()>),
}

impl JobService {
    /// Claims unfinished jobs: queued ones are queued again in order of submission, running ones end INTERRUPTED, and one
    /// whose last event is stored is only marked as ended. Whatever the store cannot do now is done later; the start waits
    /// for it for at most [`START_TIME`].
    pub(super) async fn recover(&self) {
        let until = Instant::now() + START_TIME;
        let mut unread = VecDeque::new();
        let taken = tokio::time::timeout_at(until, self.recover_pending(&mut unread)).await;
        if taken.is_err() {
            tracing::error!("the store does not answer; unfinished jobs are taken in when it does");
        }
        let service = self.clone();
        self.tasks().spawn("claims", async move { service.claim_until_stopped(unread).await });
    }

    /// Claims and recovers jobs. Those not recovered yet stay in `unread`, even if this is cancelled.
    async fn recover_pending(&self, unread: &mut VecDeque<Unfinished>) {
        loop {
            let claimed = match self.journal().claim(CLAIM_AT_ONCE).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::error!(cause = error.cause(), "unfinished jobs cannot be looked for now");
                    break;
                }
            };
            for damage in claimed.damage {
                tracing::error!(%damage, "the store is damaged");
            }
            if claimed.jobs.is_empty() {
                break;
            }
            unread.extend(claimed.jobs);
        }
        // Ids created within the same millisecond are not in order of creation.
        unread.make_contiguous().sort_by_key(|left| {
            (left.record.job.as_ref().and_then(|job| job.create_time), left.claim.job_id.clone())
        });
        let (mut queued, mut ending) = (0, Vec::new());
        let until = Instant::now() + START_TIME / 2;
        for _ in 0..unread.len() {
            let Some(left) = unread.front() else { break };
            let recovered = self.recover_until(left, until).await;
            let Some(left) = unread.pop_front() else { break };
            match recovered {
                Ok(Recovered::Queued) => queued += 1,
                Ok(Recovered::Ending(task)) => ending.push(task),
                Err(error) => {
                    let job_id = &left.claim.job_id;
                    tracing::error!(%job_id, %error, cause = error.cause(), "a job cannot be read, later again");
                    unread.push_back(left);
                }
            }
        }
        if queued + ending.len() > 0 {
            tracing::info!(queued, interrupted = ending.len(), "unfinished jobs were recovered");
        }
        // The first clients should find these jobs ended; a store that is unavailable now stores the ends later.
        let _late = tokio::time::timeout(END_TIME, join_all(ending)).await;
    }

    /// Recovers one job, retrying until `until` while the store is unavailable.
    async fn recover_until(&self, left: &Unfinished, until: Instant) -> Result<Recovered> {
        loop {
            match self.recover_one(left).await {
                Err(error) if error.reason() == Reason::StoreUnavailable && Instant::now() < until => {
                    tracing::warn!(job_id = %left.claim.job_id, cause = error.cause(), "a job cannot be read, trying again");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                done => return done,
            }
        }
    }

    /// Retries jobs whose events could not be read and claims jobs that nobody holds any more, until the service stops.
    async fn claim_until_stopped(self, mut unread: VecDeque<Unfinished>) {
        loop {
            tokio::select! {
                // Cancel safe: both branches only wait.
                biased;
                () = self.tasks().stopping().cancelled() => return,
                () = tokio::time::sleep(LATER) => {}
            }
            match self.journal().claim(CLAIM_AT_ONCE).await {
                Ok(claimed) => {
                    for damage in claimed.damage {
                        tracing::error!(%damage, "the store is damaged");
                    }
                    unread.extend(claimed.jobs);
                }
                Err(error) => {
                    tracing::warn!(cause = error.cause(), "unfinished jobs cannot be looked for now")
                }
            }
            for left in std::mem::take(&mut unread) {
                let job_id = &left.claim.job_id;
                match self.recover_one(&left).await {
                    Ok(_) => tracing::info!(%job_id, "a job that was left is taken in"),
                    Err(error) => {
                        tracing::debug!(%job_id, cause = error.cause(), "a job still cannot be read");
                        unread.push_back(left);
                    }
                }
            }
        }
    }

    async fn recover_one(&self, left: &Unfinished) -> Result<Recovered> {
        let mut job = left.record.job.clone().unwrap_or_default();
        let has_ended = self.refold(left, &mut job).await?;
        let service = self.clone();
        if has_ended {
            // The last event is stored and only the end mark is missing, so the log is reopened as ended.
            let appender = self.journal().reopen_ended(left);
            let live = Arc::new(LiveJob::new(job.clone(), appender.stored()));
            self.insert_live(live.clone());
            let task = self.tasks().spawn("end", async move {
                service.journal().finish(appender, &job, || as_lost(&job)).await;
                service.remove_live(&live.job_id);
                live.ended.cancel();
            });
            return Ok(Recovered::Ending(task));
        }
        let appender = self.journal().reopen(left);
        let conversation_id = job.options.as_ref().map_or("", |options| &options.conversation_id);
        let task = agent::Task::read(job.task.as_ref(), conversation_id);
        let error = match task {
            Ok(task) if job.start_time.is_none() => {
                self.resubmit(job, task, appender);
                return Ok(Recovered::Queued);
            }
            _ if job.task.is_none() => Error::new(
                Reason::DataLoss,
                "the store was damaged and the job's task is lost; submit it again",
            ),
            _ => Error::new(
                Reason::Interrupted,
                "the gateway ended while the job ran; it was not run again, submit it again if that is wanted",
            ),
        };
        let live = Arc::new(LiveJob::new(job, appender.stored()));
        self.insert_live(live.clone());
        let task = self.tasks().spawn("end", async move {
            let writer = service.writer(&live, appender);
            service.end(&live, writer, &JobOutcome::Interrupted(error)).await;
            service.remove_live(&live.job_id);
            live.ended.cancel();
        });
        Ok(Recovered::Ending(task))
    }

    /// Applies the job's stored events to `job`, skipping damaged ones. Returns whether the last event is stored.
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
                    // The lost event may have been `job_started`, and the job must not start twice.
                    job.start_time.get_or_insert(Timestamp::now());
                }
                Err(error) => return Err(error),
            }
        }
    }
}
