//! The journal: a catalogue, an event log, and the live logs of this process.

mod reads;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    Appender, Catalogue, Claim, ClaimedJobs, Counters, CreateOutcome, Damage, EventLog, Holder, JobId,
    JobOverview, Lease, Retention, Unfinished, WriteRefusal, commit_queue::CommitQueue, committer::Committer,
    high_water_mark::LogFailure, live_log::LiveLog, log_budget::LogBudget, read_cache::ReadCache,
};
use crate::{
    error::{Error, Reason, Result},
    pb::{Job, storage::JobRecord},
    principal::{Policy, Principal},
    quota,
    sync::lock,
    task::Group,
};

/// The delay before marking a job as ended is retried.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// The lease time: how long this process holds its jobs without renewing their leases.
const LEASE_TIME: Duration = Duration::from_secs(30);
/// The interval at which the leases are renewed.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);
/// A job that could not be marked as ended for this long, while the store accepts other writes, is considered failed for good.
const FAILS_FOR_GOOD: Duration = Duration::from_secs(180);
/// How many expired jobs are removed per batch.
const EXPIRE_AT_ONCE: usize = 256;

/// Jobs and their events. Clones share one journal.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<JournalInner>,
}

struct JournalInner {
    catalogue: Arc<dyn Catalogue>,
    events: Arc<dyn EventLog>,
    policy: Arc<dyn Policy>,
    holder: Holder,
    /// The logs that this process writes, by job.
    live: Mutex<BTreeMap<JobId, Arc<LiveLog>>>,
    cache: Arc<ReadCache>,
    committer: Arc<CommitQueue<LiveLog>>,
    tasks: Group,
    max_tail_bytes: usize,
    room: Arc<LogBudget>,
}

/// What [`Journal::open`] needs: the job catalogue, the event log, the access policy, and the bounds in bytes.
pub struct JournalParts {
    /// The catalogue of jobs.
    pub catalogue: Arc<dyn Catalogue>,
    /// The event log.
    pub events: Arc<dyn EventLog>,
    /// Decides who may access which job.
    pub policy: Arc<dyn Policy>,
    /// How many bytes of the latest events of a running job are kept in memory.
    pub max_tail_bytes: usize,
    /// How many bytes the logs of running jobs may take, per caller and in total.
    pub max_log_bytes: quota::Bounds,
}

/// The result of submitting a job.
pub enum SubmitOutcome {
    /// A new job, with the writer of its events.
    New(Appender),
    /// The earlier job with the same idempotency key.
    Existing(JobId),
}

/// A page of summaries, newest first.
#[derive(Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Whether more jobs follow.
    pub has_more: bool,
}

impl Journal {
    /// Opens the journal and returns it with the damage that was found.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] if the store cannot be read at all; [`Reason::Internal`] if the system provides no random
    /// numbers.
    pub async fn open(parts: JournalParts) -> Result<(Self, Vec<Damage>)> {
        let JournalParts { catalogue, events, policy, max_tail_bytes, max_log_bytes } = parts;
        let damage = catalogue.open().await?;
        let inner = JournalInner {
            catalogue,
            events,
            policy,
            holder: Holder::generate()?,
            live: Mutex::default(),
            cache: Arc::default(),
            committer: Arc::default(),
            tasks: Group::new("journal"),
            max_tail_bytes,
            room: Arc::new(LogBudget::new(max_log_bytes)),
        };
        let inner = Arc::new(inner);
        let committing = Committer::new(inner.committer.clone()).run(
            inner.catalogue.clone(),
            inner.events.clone(),
            inner.tasks.stopping().clone(),
        );
        inner.tasks.spawn("committer", committing);
        let renewing = renew_until(inner.catalogue.clone(), inner.lease(), inner.tasks.stopping().clone());
        inner.tasks.spawn("leases", renewing);
        Ok((Self { inner }, damage))
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<LiveLog>>> {
        lock(&self.inner.live)
    }

    /// Returns the policy that decides who may do and see what.
    pub fn policy(&self) -> &dyn Policy {
        &*self.inner.policy
    }

    /// Returns the counts of events encoded, batches stored and commits attempted since the journal was opened. Additional
    /// readers do not increase them.
    pub fn counters(&self) -> &Counters {
        &self.inner.committer.counters
    }

    /// Stores a new job, or returns the earlier one with the same idempotency key.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`], [`Reason::StoreUnavailable`].
    pub async fn submit(&self, record: JobRecord) -> Result<SubmitOutcome> {
        match self.inner.catalogue.create(&record, &self.inner.lease()).await? {
            CreateOutcome::Existing(job_id) => Ok(SubmitOutcome::Existing(job_id)),
            CreateOutcome::New(claim) => Ok(SubmitOutcome::New(self.open_log(claim, &record, 0))),
        }
    }

    /// Returns the earlier job with an idempotency key, if any, without submitting one. A job that was created with any of
    /// `digests` counts as the same request.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`], [`Reason::StoreUnavailable`].
    pub async fn by_key(&self, owner: &Principal, key: &str, digests: &[&[u8]]) -> Result<Option<JobId>> {
        if key.is_empty() {
            return Ok(None);
        }
        self.inner.catalogue.by_key(owner, key, digests).await
    }

    /// Takes over up to `limit` unfinished jobs that nobody holds.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn claim(&self, limit: usize) -> Result<ClaimedJobs> {
        self.inner.catalogue.claim(&self.inner.lease(), limit).await
    }

    /// Opens the log of a claimed job, to append after its last stored event.
    pub fn reopen(&self, unfinished: &Unfinished) -> Appender {
        self.open_log(unfinished.claim.clone(), &unfinished.record, unfinished.last_sequence)
    }

    /// Opens the log of a claimed job whose last event is stored but which is not marked as ended yet.
    pub fn reopen_ended(&self, unfinished: &Unfinished) -> Appender {
        let appender = self.reopen(unfinished);
        appender.log.set_ended();
        appender
    }

    fn open_log(&self, claim: Claim, record: &JobRecord, last_sequence: u32) -> Appender {
        let inner = &self.inner;
        let job_id = claim.job_id.clone();
        let whose = (claim, Principal::of_record(record));
        let log = Arc::new(LiveLog::new(
            whose,
            last_sequence,
            inner.max_tail_bytes,
            (inner.committer.clone(), inner.room.clone()),
        ));
        self.live().insert(job_id, log.clone());
        Appender { log }
    }

    /// Waits without a time limit until the last event, which must have been appended, is stored and the job is marked as ended.
    /// If writing fails for three minutes while the store accepts other writes, the job is stored as lost with the result of
    /// `lost`. Returns false then, and also, without calling `lost`, if another process has taken the job over.
    pub async fn finish(&self, appender: Appender, job: &Job, lost: impl FnOnce() -> Job + Send) -> bool {
        let log = appender.log;
        let now = log.mark.wait_for(|now| now.is_over()).await;
        match now.broken {
            None => self.mark_ended(&log.claim, job, lost).await,
            Some(LogFailure::Failed) => {
                self.give_up(&log.claim, lost()).await;
                self.live().remove(log.job_id());
                false
            }
            Some(LogFailure::TakenOver) => {
                self.live().remove(log.job_id());
                false
            }
        }
    }

    /// Ends a job whose log accepts no more events: if the log has failed for good, the job is given up as lost with `lost` as
    /// its terminal job.
    pub async fn abandon(&self, job_id: &JobId, lost: Job) {
        let log = self.live().get(job_id).cloned();
        let Some(log) = log else { return };
        if log.mark.now().broken == Some(LogFailure::Failed) {
            self.give_up(&log.claim, lost).await;
        }
        self.live().remove(job_id);
    }

    /// Marks a job as ended whose last event is stored. See [`Journal::finish`].
    async fn mark_ended(&self, claim: &Claim, job: &Job, lost: impl FnOnce() -> Job + Send) -> bool {
        let since = tokio::time::Instant::now();
        let mut is_told = false;
        let is_marked = loop {
            match self.inner.catalogue.end(claim, job).await {
                Ok(_) => break true,
                Err(WriteRefusal::Unavailable(error)) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::error!(job_id = %claim.job_id, cause = error.cause(), "the end of a job not stored, trying again");
                    }
                    if since.elapsed() >= FAILS_FOR_GOOD && self.inner.catalogue.check().await.is_ok() {
                        self.give_up(claim, lost()).await;
                        break false;
                    }
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(refusal) => {
                    tracing::error!(job_id = %claim.job_id, %refusal, "the end of a job is refused");
                    break false;
                }
            }
        };
        self.live().remove(&claim.job_id);
        is_marked
    }

    async fn give_up(&self, claim: &Claim, lost: Job) {
        while let Err(WriteRefusal::Unavailable(error)) = self.inner.catalogue.give_up(claim, &lost).await {
            tracing::error!(job_id = %claim.job_id, cause = error.cause(), "a lost job not marked, trying again");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Returns what is known of a job. A job that the principal may not access is reported as not found.
    async fn known(&self, principal: &Principal, job_id: &JobId) -> Result<JobOverview> {
        let known = self.inner.catalogue.get(job_id).await?;
        match self.inner.policy.may_access(principal, &known.owner) {
            true => Ok(known),
            false => Err(JobId::not_found(job_id.as_str())),
        }
    }

    /// Stores the full text of a result of a job that this process runs. Must be called before the events that refer to it are
    /// appended.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`]; [`Reason::JobNotFound`] if this process does not run the job; [`Reason::Internal`] if its
    /// claim is stale.
    pub async fn put_result(&self, job_id: &JobId, text: Bytes) -> Result<()> {
        let claim = self.live().get(job_id).map(|log| log.claim.clone());
        let claim = claim.ok_or_else(|| JobId::not_found(job_id.as_str()))?;
        self.inner.events.put_result(&claim, text).await.map_err(|refusal| match refusal {
            WriteRefusal::Unavailable(error) => error,
            refusal => Error::internal(refusal),
        })
    }

    /// Deletes an ended job and its events.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`]; [`Reason::JobNotEnded`]; [`Reason::StoreUnavailable`].
    pub async fn delete(&self, principal: &Principal, job_id: &JobId) -> Result<()> {
        if !self.known(principal, job_id).await?.is_ended || self.live().contains_key(job_id) {
            let message = "the job has not ended; cancel it first, then delete it";
            return Err(Error::new(Reason::JobNotEnded, message).for_job(job_id.as_str()));
        }
        self.inner.catalogue.delete(job_id).await?;
        self.inner.cache.forget(job_id);
        Ok(())
    }

    /// Removes jobs that retention no longer allows and evicts the read cache if it is unused. Returns the number of removed
    /// jobs. Returns early if `stopping` is cancelled.
    pub async fn expire(&self, retention: &Retention, stopping: &CancellationToken) -> usize {
        self.inner.cache.evict_if_idle();
        let mut removed = 0;
        loop {
            let expired = match self.inner.catalogue.expired(retention, EXPIRE_AT_ONCE).await {
                Ok(expired) => expired,
                Err(error) => {
                    tracing::warn!(cause = error.cause(), "retention could not look");
                    return removed;
                }
            };
            let (count, before) = (expired.len(), removed);
            for job_id in expired {
                if stopping.is_cancelled() {
                    return removed;
                }
                if self.live().contains_key(&job_id) {
                    // The job was marked as ended a moment ago, and its live log is still registered.
                    continue;
                }
                match self.inner.catalogue.delete(&job_id).await {
                    Ok(()) => {
                        self.inner.cache.forget(&job_id);
                        removed += 1;
                    }
                    Err(error) => {
                        tracing::warn!(%job_id, cause = error.cause(), "retention could not remove a job")
                    }
                }
            }
            // Jobs that could not be removed are tried again by the next run.
            if count < EXPIRE_AT_ONCE || removed == before {
                return removed;
            }
        }
    }

    /// Stops the journal, waits up to `deadline` for the last events to be stored, and closes the store. Returns whether all were
    /// stored in time.
    pub async fn close(&self, deadline: Duration) -> bool {
        self.inner.tasks.stop();
        let is_drained = self.inner.tasks.drain(deadline).await;
        self.inner.catalogue.close().await;
        is_drained
    }
}

impl JournalInner {
    fn lease(&self) -> Lease {
        Lease { holder: self.holder.clone(), time: LEASE_TIME }
    }
}

async fn renew_until(catalogue: Arc<dyn Catalogue>, lease: Lease, stop: CancellationToken) {
    loop {
        tokio::select! {
            // Both branches only wait, so that a fixed order is harmless.
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW_INTERVAL) => {}
        }
        if let Err(error) = catalogue.renew(&lease).await {
            tracing::warn!(cause = error.cause(), "the leases of this gateway's jobs could not be renewed");
        }
    }
}
