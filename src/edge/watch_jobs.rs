//! The stream of many jobs, which the gRPC and HTTP doors adapt: the events of named jobs, or all jobs of a caller as their
//! states change; cursors, heartbeats, and one definite end.

use std::{collections::BTreeMap, fmt::Write as _, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::SelectAll};
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::{
    Operations,
    requests::{RETRY_AFTER, RequestGuard},
};
use crate::{
    error::{Error, Reason, Result},
    job::{ChangedJob, Changes, EventFollower, EventSlice, Filter, JobId, JobService},
    pb::{Job, JobPosition, Timestamp},
    principal::Principal,
};

/// The most jobs that one stream follows with their events.
const MAX_JOBS: usize = 64;
/// A stream over all jobs looks for those that ended before it began among so many of the newest ones.
const NEWEST: u32 = 500;
/// How far before its cursor a stream over all jobs looks for jobs that have ended: storing an end takes a moment.
const OVERLAP: Duration = Duration::from_secs(10);
/// How long the events of named jobs may go on without a cursor.
const CURSOR_DELAY: Duration = Duration::from_millis(200);
/// The most states that a stream remembers in order not to say the same twice.
const MAX_REMEMBERED: usize = 4096;

/// An item of the stream.
#[derive(Clone, Debug)]
pub(super) enum WatchItem {
    /// One or more events of one job.
    Slice(EventSlice),
    /// A job, as a summary.
    Job(Box<Job>),
    /// Where a later stream may go on.
    Cursor(String),
    /// Nothing happened for a while.
    Heartbeat,
}

/// The stream; it ends when every named job has ended, or with one error.
pub(super) type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchItem>> + Send>>;

/// How far each of the named jobs was seen, as an opaque cursor: a digest of the jobs' names, then a sequence for each.
fn cursor_of(digest: &str, positions: &[u32]) -> String {
    let mut cursor = format!("e{digest}");
    for position in positions {
        // Writing to a string cannot fail.
        let _infallible = write!(cursor, ".{position}");
    }
    cursor
}

fn digest_of(jobs: &[JobPosition]) -> String {
    use sha2::Digest;
    let mut digest = sha2::Sha256::new();
    for job in jobs {
        digest.update(job.job_id.as_bytes());
        digest.update(b"\n");
    }
    data_encoding::HEXLOWER.encode(&digest.finalize()[..4])
}

fn positions_of(cursor: &str, digest: &str, jobs: usize) -> Option<Vec<u32>> {
    let mut parts = cursor.strip_prefix('e')?.split('.');
    if parts.next()? != digest {
        return None;
    }
    let positions = parts.map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
    (positions.len() == jobs).then_some(positions)
}

/// A time before which everything was told, as an opaque cursor.
fn cursor_at(time: Timestamp) -> String {
    format!("m{}.{:03}", time.seconds, time.nanos / 1_000_000)
}

fn time_of(cursor: &str) -> Option<Timestamp> {
    let (seconds, milliseconds) = cursor.strip_prefix('m')?.split_once('.')?;
    let nanos = milliseconds.parse::<i32>().ok().filter(|milliseconds| (0..1000).contains(milliseconds))?;
    Some(Timestamp { seconds: seconds.parse().ok()?, nanos: nanos * 1_000_000 })
}

fn not_a_cursor() -> Error {
    Error::invalid("cursor", "is not one that a stream over these jobs gave; leave it out to begin anew")
}

impl Operations {
    /// Follows many jobs: those of `jobs`, or all of the caller's if there are none. Returns `None` if every named job has
    /// ended and all of its events were seen.
    ///
    /// # Errors
    /// `Reason::InvalidArgument` for more than 64 jobs, one that is named twice, or a cursor of other jobs; for each job the
    /// errors of [`Operations::follow`].
    pub(super) async fn watch_jobs(
        &self,
        caller: &Principal,
        mut jobs: Vec<JobPosition>,
        cursor: &str,
        request: Option<&Arc<RequestGuard>>,
    ) -> Result<Option<WatchStream>> {
        let wait = Wait {
            heartbeat: self.heartbeat(),
            closing: self.service().closing().clone(),
            gives_way: request.map(|request| request.preemptible()).unwrap_or_default(),
        };
        if jobs.is_empty() {
            let since = match cursor {
                "" => None,
                cursor => Some(time_of(cursor).ok_or_else(not_a_cursor)?),
            };
            return Ok(Some(all_of(self.service().clone(), caller.clone(), since, wait)));
        }
        if jobs.len() > MAX_JOBS {
            return Err(Error::invalid(
                "jobs",
                format!("must be at most {MAX_JOBS}, of which each is named once"),
            ));
        }
        let mut names: Vec<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid("jobs", "names a job twice"));
        }
        let digest = digest_of(&jobs);
        if !cursor.is_empty() {
            let positions = positions_of(cursor, &digest, jobs.len()).ok_or_else(not_a_cursor)?;
            for (job, position) in jobs.iter_mut().zip(positions) {
                job.after_sequence = position;
            }
        }
        let (mut followers, mut is_seen) = (Vec::with_capacity(jobs.len()), true);
        for job in &jobs {
            let follower = self.follow(caller, &job.job_id, job.after_sequence).await?;
            is_seen &= follower.is_ended() && follower.last_seen() == follower.last_sequence();
            followers.push(follower);
        }
        Ok((!is_seen).then(|| named(followers, digest, wait)))
    }
}

/// What a stream waits for besides its jobs.
struct Wait {
    heartbeat: Duration,
    closing: CancellationToken,
    gives_way: CancellationToken,
}

/// Why a stream that waits goes on.
enum Woken<T> {
    By(T),
    Silence,
}

impl Wait {
    /// Waits for `next`, which has to be cancel safe, until the stream has to end, or for the interval of signs of life.
    async fn for_next<T>(&self, next: impl Future<Output = T>) -> Result<Woken<T>> {
        self.up_to(self.heartbeat, next).await
    }

    async fn up_to<T>(&self, time: Duration, next: impl Future<Output = T>) -> Result<Woken<T>> {
        tokio::select! {
            biased;
            next = next => Ok(Woken::By(next)),
            () = self.closing.cancelled() => {
                Err(Error::new(Reason::Shutdown, "the gateway is shutting down; go on at the last cursor"))
            }
            () = self.gives_way.cancelled() => Err(Error::new(
                Reason::TooManyStreams,
                "the stream has ended for another caller's request, of whom there are too many; go on at the last cursor",
            )
            .retry_after(RETRY_AFTER)),
            () = tokio::time::sleep(time) => Ok(Woken::Silence),
        }
    }
}

type JobSlices = Pin<Box<dyn Stream<Item = (usize, Result<EventSlice>)> + Send>>;

/// Returns the slices of one job, each with the job's index; the stream ends after the job's last event or its first error.
fn slices(index: usize, follower: EventFollower) -> JobSlices {
    Box::pin(futures_util::stream::unfold(Some(follower), move |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(slice)) => Some(((index, Ok(slice)), Some(follower))),
            Ok(None) => None,
            Err(error) => Some(((index, Err(error)), None)),
        }
    }))
}

/// Returns the events of named jobs, with a cursor after them when a moment is quiet, and from time to time otherwise.
fn named(followers: Vec<EventFollower>, digest: String, wait: Wait) -> WatchStream {
    let mut positions: Vec<u32> = followers.iter().map(EventFollower::last_seen).collect();
    let each = followers.into_iter().enumerate().map(|(index, follower)| slices(index, follower));
    // Its jobs are polled in turn, so that one with many events does not hold up the others.
    let mut all: SelectAll<JobSlices> = each.collect();
    Box::pin(async_stream::try_stream! {
        yield WatchItem::Cursor(cursor_of(&digest, &positions));
        // When a cursor is due; a lone token is not followed by one that is many times its size.
        let mut due: Option<Instant> = None;
        loop {
            let pause = due.map_or(wait.heartbeat, |due| due.saturating_duration_since(Instant::now()));
            let (index, slice) = match wait.up_to(pause, all.next()).await? {
                Woken::By(Some(next)) => next,
                Woken::By(None) => break,
                Woken::Silence => {
                    yield match due.take() {
                        Some(_) => WatchItem::Cursor(cursor_of(&digest, &positions)),
                        None => WatchItem::Heartbeat,
                    };
                    continue;
                }
            };
            match slice {
                Ok(slice) => {
                    positions[index] = slice.last_sequence();
                    yield WatchItem::Slice(slice);
                    if *due.get_or_insert_with(|| Instant::now() + CURSOR_DELAY) <= Instant::now() {
                        due = None;
                        yield WatchItem::Cursor(cursor_of(&digest, &positions));
                    }
                }
                Err(error) => {
                    // After damage the reader goes on behind what can no longer be read.
                    if let (Reason::DataLoss, Some(sequence)) = (error.reason(), error.sequence()) {
                        positions[index] = sequence;
                    }
                    yield WatchItem::Cursor(cursor_of(&digest, &positions));
                    Err(error)?;
                }
            }
        }
        yield WatchItem::Cursor(cursor_of(&digest, &positions));
    })
}

/// Returns all jobs of a caller: first those that have not ended, or ended since, then each as its state changes.
fn all_of(service: JobService, caller: Principal, since: Option<Timestamp>, wait: Wait) -> WatchStream {
    // Subscribed before the first look, so that nothing that changes between the two is missed.
    let changes = service.changes(&caller);
    Box::pin(async_stream::try_stream! {
        let mut told = Told::default();
        // The time before which everything was told; `None` before the first look.
        let mut told_until = since;
        let mut is_overview_due = true;
        loop {
            if is_overview_due {
                let now = Timestamp::now();
                let jobs = match wait.for_next(overview(&service, &caller, told_until)).await? {
                    Woken::By(jobs) => jobs?,
                    Woken::Silence => {
                        yield WatchItem::Heartbeat;
                        continue;
                    }
                };
                is_overview_due = false;
                for job in jobs {
                    if told.is_news(&job) {
                        yield WatchItem::Job(Box::new(job));
                    }
                }
                told_until = Some(now);
                yield WatchItem::Cursor(cursor_at(now));
            }
            let job_ids = match wait.for_next(changes.next()).await? {
                Woken::By(Changes::Jobs(job_ids)) => job_ids,
                Woken::By(Changes::Many) => {
                    is_overview_due = true;
                    continue;
                }
                Woken::Silence => {
                    yield WatchItem::Heartbeat;
                    continue;
                }
            };
            let (now, mut is_all_told) = (Timestamp::now(), true);
            for job_id in job_ids {
                // The store may be stuck, and the way out does not lead through it.
                let changed = {
                    let mut change = std::pin::pin!(service.changed_job(&caller, &job_id));
                    loop {
                        match wait.for_next(change.as_mut()).await? {
                            Woken::By(changed) => break changed?,
                            Woken::Silence => yield WatchItem::Heartbeat,
                        }
                    }
                };
                let Some(ChangedJob { job, is_stored }) = changed else { continue };
                if !is_stored {
                    is_all_told = false;
                    changes.again(job_id);
                }
                if told.is_news(&job) {
                    yield WatchItem::Job(Box::new(job));
                }
            }
            if is_all_told {
                told_until = Some(now);
                yield WatchItem::Cursor(cursor_at(now));
            }
        }
    })
}

/// Returns the caller's jobs that have not ended, and of the newest ones those that ended not long before `since` or later;
/// oldest first.
async fn overview(service: &JobService, caller: &Principal, since: Option<Timestamp>) -> Result<Vec<Job>> {
    let page = service.list(caller, &Filter::default(), NEWEST, "", false).await?;
    let overlap = i64::try_from(OVERLAP.as_secs()).unwrap_or(0);
    let is_wanted = |job: &Job| match (job.end_time, since) {
        (None, _) => true,
        (Some(ended), Some(since)) => ended.seconds + overlap >= since.seconds,
        (Some(_), None) => false,
    };
    let mut jobs: BTreeMap<String, Job> =
        page.jobs.into_iter().filter(is_wanted).map(|job| (job.job_id.clone(), job)).collect();
    // A job that waits for a person may be older than the newest ones.
    for job in service.unfinished(caller) {
        jobs.entry(job.job_id.clone()).or_insert(job);
    }
    // Ids begin with the time.
    Ok(jobs.into_values().collect())
}

/// What was said last of each job, in order not to say the same twice.
#[derive(Debug, Default)]
struct Told(BTreeMap<JobId, (i32, Option<String>)>);

impl Told {
    fn is_news(&mut self, job: &Job) -> bool {
        let Ok(job_id) = JobId::parse(&job.job_id) else { return true };
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        let question = job.question.as_ref().map(|question| question.input_id.clone());
        let now = (job.state, question);
        self.0.insert(job_id, now.clone()) != Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_taken_for_the_jobs_that_it_was_given_for_and_no_others() {
        let job = |id: &str| JobPosition { job_id: id.into(), after_sequence: 0 };
        let (these, others) = (digest_of(&[job("a"), job("b")]), digest_of(&[job("b"), job("a")]));
        let cursor = cursor_of(&these, &[7, 0]);
        assert_eq!(positions_of(&cursor, &these, 2), Some(vec![7, 0]));
        assert_eq!(positions_of(&cursor, &others, 2), None);
        assert_eq!(positions_of(&cursor, &these, 3), None);
        assert_eq!(positions_of("m1.000", &these, 2), None);
        let longest = cursor_of(&these, &[u32::MAX; MAX_JOBS]);
        assert!(longest.len() <= 1024, "{}", longest.len());
    }

    #[test]
    fn a_time_is_read_as_it_was_written() {
        let now = time_of(&cursor_at(Timestamp::now())).unwrap();
        assert!(now.seconds > 1_700_000_000);
        for wrong in ["", "m", "m1", "m1.x", "m1.1000", "e1.2", "mx.000"] {
            assert_eq!(time_of(wrong), None, "{wrong}");
        }
    }
}
