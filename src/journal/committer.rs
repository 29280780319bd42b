//! The single writer of all logs of this process. It stores what has gathered for many jobs in one call, so that a live token
//! does not cost a write, a thread and a wakeup per job.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    BatchAppend, Catalogue, EventLog, WriteRefusal, commit_queue::CommitQueue, high_water_mark::LogFailure,
    live_log::LiveLog,
};

use crate::sync::sleep_until;

/// An event that arrives later than this after the last commit is stored at once; events that arrive earlier are gathered.
const GATHER_TIME: Duration = Duration::from_millis(4);
/// The approximate maximum size of one commit. The rest waits for the next one, so that a flood of events delays no other job for
/// long.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// The delay before a failed write is retried.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// A log whose writes have failed for this long, while the store accepts other writes, is considered failed for good.
const FAILS_FOR_GOOD: Duration = Duration::from_secs(180);
/// The timeout of the check whether the store accepts writes at all.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// A log whose write failed.
struct Failing {
    log: Arc<LiveLog>,
    since: Instant,
    again: Instant,
}

/// The one writer for all logs.
#[derive(Debug)]
pub(super) struct Committer {
    queue: Arc<CommitQueue<LiveLog>>,
}

impl Committer {
    /// Creates the committer of what `queue` takes.
    pub(super) fn new(queue: Arc<CommitQueue<LiveLog>>) -> Self {
        Self { queue }
    }

    /// Stores what is queued, until `stop` is cancelled and nothing is left to store.
    pub(super) async fn run(
        self,
        catalogue: Arc<dyn Catalogue>,
        events: Arc<dyn EventLog>,
        stop: CancellationToken,
    ) {
        let mut failing: Vec<Failing> = Vec::new();
        let mut next_commit = Instant::now();
        loop {
            let has_work = !self.queue.queued().is_empty();
            if !has_work {
                if failing.is_empty() && stop.is_cancelled() {
                    return;
                }
                let retry = failing.iter().map(|failing| failing.again).min();
                tokio::select! {
                    // The branches only wait and the loop checks every condition again, so that a fixed order is harmless.
                    biased;
                    () = self.queue.has_work() => {}
                    () = sleep_until(retry) => {}
                    () = stop.cancelled(), if failing.is_empty() => {}
                }
            }
            if Instant::now() < next_commit && !stop.is_cancelled() {
                tokio::select! {
                    biased;
                    () = self.queue.is_urgent() => {}
                    () = tokio::time::sleep_until(next_commit) => {}
                }
            }
            let due = self.take(&mut failing);
            next_commit = Instant::now() + GATHER_TIME;
            self.commit(due, &mut failing, &*catalogue, &*events).await;
        }
    }

    /// Returns what the next commit stores: first the failed logs whose retry is due, then the queue.
    fn take(&self, failing: &mut Vec<Failing>) -> Vec<(Arc<LiveLog>, Option<Instant>)> {
        let now = Instant::now();
        let mut due: Vec<_> = failing
            .extract_if(.., |failing| failing.again <= now)
            .map(|failing| (failing.log, Some(failing.since)))
            .collect();
        let mut queue = self.queue.queued();
        due.extend(queue.drain(..).map(|log| (log, None)));
        due
    }

    async fn commit(
        &self,
        due: Vec<(Arc<LiveLog>, Option<Instant>)>,
        failing: &mut Vec<Failing>,
        catalogue: &dyn Catalogue,
        events: &dyn EventLog,
    ) {
        let mut due = due.into_iter();
        loop {
            let (mut logs, mut appends, mut bytes) = (Vec::new(), Vec::new(), 0);
            for (log, since) in due.by_ref() {
                let batches = log.take();
                bytes += batches.iter().map(|batch| batch.bytes().len()).sum::<usize>();
                if batches.is_empty() {
                    log.publish(batches);
                    continue;
                }
                appends.push(BatchAppend { claim: log.claim.clone(), batches: batches.clone() });
                logs.push((log, since, batches));
                if bytes > COMMIT_BYTES {
                    break;
                }
            }
            if appends.is_empty() {
                return;
            }
            self.queue.counters.commits.fetch_add(1, Ordering::Relaxed);
            let answers = events.append(appends).await;
            for ((log, since, batches), answer) in logs.into_iter().zip(answers) {
                match answer {
                    Ok(()) => {
                        if since.is_some() {
                            tracing::info!(job_id = %log.job_id(), "the store takes the job's events again");
                        }
                        self.queue.counters.batches_stored.fetch_add(batches.len() as u64, Ordering::Relaxed);
                        let last = batches.last().map_or(0, |batch| batch.last_sequence());
                        if let Some(state) = log.state_at(last)
                            && let Err(refusal) = catalogue.set_state(&log.claim, state).await
                        {
                            tracing::warn!(job_id = %log.job_id(), %refusal, "a job's state is not in the catalogue");
                        }
                        if log.publish(batches) {
                            self.queue.queue(log);
                        }
                    }
                    Err(WriteRefusal::Unavailable(error)) => {
                        if since.is_none() {
                            tracing::error!(job_id = %log.job_id(), cause = error.cause(), "the store does not take a job's events, trying again");
                        }
                        log.requeue(batches);
                        let now = Instant::now();
                        let mut since = since.unwrap_or(now);
                        if now.duration_since(since) >= FAILS_FOR_GOOD {
                            let checked = tokio::time::timeout(CHECK_TIME, catalogue.check()).await;
                            if matches!(checked, Ok(Ok(()))) {
                                tracing::error!(job_id = %log.job_id(), "the job's log has failed for good");
                                log.mark_failed(LogFailure::Failed);
                                continue;
                            }
                            since = now;
                        }
                        failing.push(Failing { log, since, again: now + RETRY_DELAY });
                    }
                    Err(refusal) => {
                        tracing::error!(job_id = %log.job_id(), %refusal, "a job's events are refused");
                        log.mark_failed(LogFailure::TakenOver);
                    }
                }
            }
        }
    }
}
