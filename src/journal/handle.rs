//! The journal: a catalogue, an event log, the live logs of this process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    Appender, Catalogue, Claim, Claimed, Counters, Created, Damage, EventLog, Filter, Follower, Holder,
    JobId, Known, Lease, MAX_SEQUENCE, Query, Refusal, Retention, StoredJob, Unfinished,
    catalogue::unreadable, committer::Committer, follower::Source, live::Log, mark::Broken,
    read_cache::ReadCache, room::LogRoom,
};
use crate::{
    error::{Error, Reason, Result},
    pb::{Job, storage::JobRecord},
    principal::{Policy, Principal},
    quota,
    task::Group,
};

/// How long the store rests before an ended job is marked once more.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// For how long this process has its jobs to itself without saying that it lives.
const LEASE_TIME: Duration = Duration::from_secs(30);
/// How often it says so.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);
/// A job that cannot be marked as ended for so long, while the store takes other things, has failed for good.
const FAILS_FOR_GOOD: Duration = Duration::from_secs(180);
/// How many jobs are removed in one go.
const EXPIRE_AT_ONCE: usize = 256;

/// Jobs and their events. Clones share the journal.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    catalogue: Arc<dyn Catalogue>,
    events: Arc<dyn EventLog>,
    policy: Arc<dyn Policy>,
    holder: Holder,
    /// The logs that this process writes.
    live: Mutex<BTreeMap<JobId, Arc<Log>>>,
    cache: Arc<ReadCache>,
    committer: Arc<Committer>,
    tasks: Group,
    max_tail_bytes: usize,
    room: Arc<LogRoom>,
}

/// What a journal is made of.
pub struct Parts {
    /// Which jobs there are.
    pub catalogue: Arc<dyn Catalogue>,
    /// Their events.
    pub events: Arc<dyn EventLog>,
    /// Who may see which.
    pub policy: Arc<dyn Policy>,
    /// How many bytes of a running job's latest events are kept in memory.
    pub max_tail_bytes: usize,
    /// How many bytes the logs of running jobs take together.
    pub max_log_bytes: quota::Bounds,
}

/// What became of a submit.
pub enum Submitted {
    /// A new job; its writer.
    New(Appender),
    /// The earlier job of the same idempotency key.
    Existing(JobId),
}

/// A page of summaries, newest first.
#[derive(Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Journal {
    /// Opens the journal. Answers too with what is damaged.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] when the store cannot be read at all.
    pub async fn open(parts: Parts) -> Result<(Self, Vec<Damage>)> {
        let Parts { catalogue, events, policy, max_tail_bytes, max_log_bytes } = parts;
        let damage = catalogue.open().await?;
        let inner = Inner {
            catalogue,
            events,
            policy,
            holder: Holder::generate()?,
            live: Mutex::default(),
            cache: Arc::default(),
            committer: Arc::default(),
            tasks: Group::new("journal"),
            max_tail_bytes,
            room: Arc::new(LogRoom::new(max_log_bytes)),
        };
        let inner = Arc::new(inner);
        let committing = inner.committer.clone().run(
            inner.catalogue.clone(),
            inner.events.clone(),
            inner.tasks.stopping().clone(),
        );
        inner.tasks.spawn("committer", committing);
        let renewing = renew_until(inner.catalogue.clone(), inner.lease(), inner.tasks.stopping().clone());
        inner.tasks.spawn("leases", renewing);
        Ok((Self { inner }, damage))
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Log>>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who may do and see what.
    pub fn policy(&self) -> &dyn Policy {
        &*self.inner.policy
    }

    /// The counters of shared work.
    pub fn counters(&self) -> &Counters {
        &self.inner.committer.counters
    }

    /// Stores a new job, or finds the earlier one of its idempotency key.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`], [`Reason::StoreUnavailable`].
    pub async fn submit(&self, record: JobRecord) -> Result<Submitted> {
        match self.inner.catalogue.create(&record, &self.inner.lease()).await? {
            Created::Existing(job_id) => Ok(Submitted::Existing(job_id)),
            Created::New(claim) => Ok(Submitted::New(self.open_log(claim, &record, 0))),
        }
    }

    /// The earlier job of an idempotency key, without submitting. Any of the digests is the same request.
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
    pub async fn claim(&self, limit: usize) -> Result<Claimed> {
        self.inner.catalogue.claim(&self.inner.lease(), limit).await
    }

    /// Opens the log of a claimed job for its next events.
    pub fn reopen(&self, unfinished: &Unfinished) -> Appender {
        self.open_log(unfinished.claim.clone(), &unfinished.record, unfinished.last_sequence)
    }

    /// Opens the log of a claimed job whose last event is stored, and that is not marked as ended yet.
    pub fn reopen_ended(&self, unfinished: &Unfinished) -> Appender {
        let appender = self.reopen(unfinished);
        appender.log.set_ended();
        appender
    }

    fn open_log(&self, claim: Claim, record: &JobRecord, last_sequence: u32) -> Appender {
        let inner = &self.inner;
        let job_id = claim.job_id.clone();
        let whose = (claim, Principal::of_record(record));
        let log = Arc::new(Log::new(
            whose,
            last_sequence,
            inner.max_tail_bytes,
            (inner.committer.clone(), inner.room.clone()),
        ));
        self.live().insert(job_id, log.clone());
        Appender { log }
    }

    /// Marks a job as ended, once its last event is stored. Tries until the store takes it; what fails for good while the
    /// store takes other things is given up as lost, with `lost` as its end. Answers whether the end was stored.
    pub async fn finish(&self, appender: Appender, job: &Job, lost: impl FnOnce() -> Job + Send) -> bool {
        let log = appender.log;
        let now = log.mark.wait_for(|now| now.is_over()).await;
        match now.broken {
            None => self.mark_ended(&log.claim, job, lost).await,
            Some(Broken::Failed) => {
                self.give_up(&log.claim, lost()).await;
                self.live().remove(log.job_id());
                false
            }
            Some(Broken::TakenOver) => {
                self.live().remove(log.job_id());
                false
            }
        }
    }

    /// Ends a job to which no event can be written any more: where its log has failed for good it is given up as lost, with this
    /// as its end.
    pub async fn abandon(&self, job_id: &JobId, lost: Job) {
        let log = self.live().get(job_id).cloned();
        let Some(log) = log else { return };
        if log.mark.now().broken == Some(Broken::Failed) {
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
                Err(Refusal::Unavailable(error)) => {
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
        while let Err(Refusal::Unavailable(error)) = self.inner.catalogue.give_up(claim, &lost).await {
            tracing::error!(job_id = %claim.job_id, cause = error.cause(), "a lost job not marked, trying again");
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// What is known of the principal's job; somebody else's does not exist.
    async fn known(&self, principal: &Principal, job_id: &JobId) -> Result<Known> {
        let known = self.inner.catalogue.get(job_id).await?;
        match self.inner.policy.may_access(principal, &known.owner) {
            true => Ok(known),
            false => Err(JobId::not_found(job_id.as_str())),
        }
    }

    /// Follows a job's events behind `after_sequence`.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`]; [`Reason::CursorBeyondLog`] with the log's last sequence; [`Reason::DataLoss`] where
    /// nothing is left of the job.
    pub async fn follow(
        &self,
        principal: &Principal,
        job_id: &JobId,
        after_sequence: u32,
    ) -> Result<Follower> {
        let log = self.live().get(job_id).cloned();
        let (source, last_sequence) = match log {
            Some(log) if !self.inner.policy.may_access(principal, &log.owner) => {
                return Err(JobId::not_found(job_id.as_str()));
            }
            Some(log) => {
                let mut last_sequence = log.mark.now().last_sequence;
                if after_sequence > last_sequence {
                    // Stored, and read from another gateway, before this one has heard that it is.
                    last_sequence = self.known(principal, job_id).await?.last_sequence.max(last_sequence);
                }
                (Source::Live(log), last_sequence)
            }
            None => {
                let known = self.known(principal, job_id).await?;
                if let Some(trouble) = known.trouble {
                    return Err(unreadable(job_id, trouble));
                }
                let last_sequence = known.last_sequence.min(MAX_SEQUENCE);
                match known.is_ended {
                    true => (Source::Ended { last_sequence }, last_sequence),
                    false => (Source::Elsewhere { last_sequence }, last_sequence),
                }
            }
        };
        if after_sequence > last_sequence.min(MAX_SEQUENCE) {
            let message = format!(
                "the cursor {after_sequence} lies beyond the log, whose last sequence is {last_sequence}; read on from there"
            );
            return Err(Error::new(Reason::CursorBeyondLog, message)
                .with_sequence(last_sequence)
                .for_job(job_id.as_str()));
        }
        Ok(self.follower(job_id, source, after_sequence))
    }

    fn follower(&self, job_id: &JobId, source: Source, after_sequence: u32) -> Follower {
        Follower {
            job_id: job_id.clone(),
            events: self.inner.events.clone(),
            cache: self.inner.cache.clone(),
            source,
            next_sequence: after_sequence + 1,
            reader: None,
            read_ahead: VecDeque::new(),
        }
    }

    /// Follows a claimed job before it is opened again: what is stored of it, to its end.
    pub fn replay(&self, unfinished: &Unfinished) -> Follower {
        let source = Source::Ended { last_sequence: unfinished.last_sequence };
        self.follower(&unfinished.claim.job_id, source, 0)
    }

    /// Whether the store takes anything now.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn check(&self) -> Result<()> {
        self.inner.catalogue.check().await
    }

    /// Keeps the whole of an answer of a job of this process, before the events that tell of it.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn put_result(&self, job_id: &JobId, text: Bytes) -> Result<()> {
        let claim = self.live().get(job_id).map(|log| log.claim.clone());
        let claim = claim.ok_or_else(|| JobId::not_found(job_id.as_str()))?;
        self.inner.events.put_result(&claim, text).await.map_err(|refusal| match refusal {
            Refusal::Unavailable(error) => error,
            refusal => Error::internal(refusal),
        })
    }

    /// Reads from a place of a kept answer on. Whose it is was checked by the caller.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`], [`Reason::DataLoss`].
    pub async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes> {
        self.inner.events.result(job_id, from, max_bytes).await
    }

    /// Reads a job from the store.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::StoreUnavailable`], [`Reason::DataLoss`].
    pub async fn job(&self, principal: &Principal, job_id: &JobId) -> Result<StoredJob> {
        let mut known = self.known(principal, job_id).await?;
        loop {
            if let Some(trouble) = known.trouble {
                return Err(unreadable(job_id, trouble));
            }
            let mut stored = self.inner.catalogue.read(job_id).await?;
            // Whoever has seen an event meanwhile is not told of an earlier job.
            known = self.known(principal, job_id).await?;
            match (&stored.ended, &mut stored.record.job) {
                (Some(_), _) | (None, None) => return Ok(stored),
                // It has ended since.
                (None, Some(_)) if known.is_ended => {}
                (None, Some(job)) => {
                    job.set_state(known.state);
                    job.last_sequence = known.last_sequence;
                    return Ok(stored);
                }
            }
        }
    }

    /// The principal's jobs before `before`, newest first: at most `limit` summaries.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn list(
        &self,
        principal: &Principal,
        filter: &Filter,
        before: Option<&JobId>,
        limit: usize,
    ) -> Result<Page> {
        let query = Query {
            owner: principal.clone(),
            filter: filter.clone(),
            before: before.cloned(),
            limit: limit.saturating_add(1),
        };
        let mut jobs = self.inner.catalogue.list(&query).await?;
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        Ok(Page { jobs, has_more })
    }

    /// Removes an ended job.
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

    /// Removes what retention no longer allows, and what late readers no longer use. Answers with the number of jobs
    /// removed. Ends early when it is to stop.
    pub async fn expire(&self, retention: &Retention, stopping: &CancellationToken) -> usize {
        self.inner.cache.rest();
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
                    // Marked as ended in this moment, and not everybody here knows yet.
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
            // What could not be removed is tried when retention looks again.
            if count < EXPIRE_AT_ONCE || removed == before {
                return removed;
            }
        }
    }

    /// Waits for the last events to be stored, at most until `deadline` has passed, then closes the store.
    pub async fn close(&self, deadline: Duration) -> bool {
        self.inner.tasks.stop();
        let is_drained = self.inner.tasks.drain(deadline).await;
        self.inner.catalogue.close().await;
        is_drained
    }
}

impl Inner {
    fn lease(&self) -> Lease {
        Lease { holder: self.holder.clone(), time: LEASE_TIME }
    }
}

async fn renew_until(catalogue: Arc<dyn Catalogue>, lease: Lease, stop: CancellationToken) {
    loop {
        tokio::select! {
            // Both branches only wait.
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW_INTERVAL) => {}
        }
        if let Err(error) = catalogue.renew(&lease).await {
            tracing::warn!(cause = error.cause(), "the leases of this gateway's jobs could not be renewed");
        }
    }
}
