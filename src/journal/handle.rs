//! The journal: one index, one store, the live logs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    Appender, Counters, Damage, Filter, Follower, JobId, Loaded, MAX_SEQUENCE, Retention, Store, StoredJob,
    Unfinished,
    follower::Source,
    index::{End, Entry, Index, Trouble},
    live::Log,
    read_cache::ReadCache,
};
use crate::{
    caller::Caller,
    error::{Error, Reason, Result},
    pb::{Job, JobState, Timestamp, storage::JobRecord},
    task::Group,
};

/// How long the store rests before an ended job is marked once more.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Jobs and their events. Clones share the journal.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    index: Mutex<Index>,
    cache: Arc<ReadCache>,
    /// Submits under an idempotency key take turns, so that two of them cannot both be first.
    keyed_submits: tokio::sync::Mutex<()>,
    writers: Group,
    max_tail_bytes: usize,
    counters: Arc<Counters>,
}

/// What became of a submit.
pub enum Submitted {
    /// A new job; its writer.
    New(Appender),
    /// The earlier job of the same idempotency key.
    Existing(JobId),
}

impl Journal {
    /// Opens the journal over a store. Answers too with the jobs that had not ended and with what is damaged.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] when the store cannot be read at all.
    pub async fn open(
        store: Arc<dyn Store>,
        max_tail_bytes: usize,
    ) -> Result<(Self, Vec<Unfinished>, Vec<Damage>)> {
        let Loaded { ended, unfinished, lost, damage } = store.load().await?;
        let inner = Inner {
            store,
            index: Mutex::default(),
            cache: Arc::default(),
            keyed_submits: tokio::sync::Mutex::default(),
            writers: Group::new("journal"),
            max_tail_bytes,
            counters: Arc::default(),
        };
        let journal = Self { inner: Arc::new(inner) };
        for ended in ended {
            let Ok(job_id) = JobId::parse(&ended.job.job_id) else { continue };
            let mut entry = Entry::of(&ended.record, None);
            entry.set_state(0, ended.job.state());
            entry.end = Some(End::at(ended.job.end_time.unwrap_or_else(Timestamp::now)));
            entry.last_sequence = ended.job.last_sequence.min(MAX_SEQUENCE);
            entry.log_bytes = ended.log_bytes;
            journal.index().insert(job_id, entry);
        }
        for (record, ended) in lost {
            let job = record.job.clone().unwrap_or_default();
            let Ok(job_id) = JobId::parse(&job.job_id) else { continue };
            let mut entry = Entry::of(&record, None);
            entry.trouble = Some(Trouble::Lost);
            entry.set_state(0, ended.as_ref().map_or(JobState::Interrupted, Job::state));
            let time = ended.and_then(|ended| ended.end_time).or(job.create_time);
            entry.end = Some(End::at(time.unwrap_or_else(Timestamp::now)));
            journal.index().insert(job_id, entry);
        }
        journal.index().line_up_by_time();
        let mut left = Vec::new();
        for (record, last_sequence) in unfinished {
            let Ok(job_id) =
                JobId::parse(&record.job.as_ref().map(|job| job.job_id.clone()).unwrap_or_default())
            else {
                continue;
            };
            left.push(Unfinished { job_id, record, last_sequence });
        }
        Ok((journal, left, damage))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.inner.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of shared work.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Stores a new job, or finds the earlier one of its idempotency key.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`], [`Reason::StoreUnavailable`].
    pub async fn submit(&self, record: JobRecord) -> Result<Submitted> {
        let job = record.job.as_ref().ok_or_else(|| Error::internal("a record without a job"))?;
        let job_id = JobId::parse(&job.job_id)?;
        let caller = Caller::named(&job.caller);
        let key = job.options.as_ref().map(|options| options.idempotency_key.clone()).unwrap_or_default();
        let _turn = if key.is_empty() { None } else { Some(self.inner.keyed_submits.lock().await) };
        if let Some(existing) = self.index().by_key(&caller, &key, &record.request_digest)? {
            return Ok(Submitted::Existing(existing));
        }
        self.inner.store.create(&job_id, &record).await?;
        Ok(Submitted::New(self.open_log(job_id, &record, 0)))
    }

    /// The earlier job of an idempotency key, without submitting.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`].
    pub fn by_key(&self, caller: &Caller, key: &str, digest: &[u8]) -> Result<Option<JobId>> {
        self.index().by_key(caller, key, digest)
    }

    /// Opens the log of an unfinished job for its next events.
    pub fn reopen(&self, unfinished: &Unfinished) -> Appender {
        self.open_log(unfinished.job_id.clone(), &unfinished.record, unfinished.last_sequence)
    }

    /// Lists an unfinished job that needs no more events.
    pub fn note(&self, unfinished: &Unfinished) {
        self.index().insert(unfinished.job_id.clone(), Entry::of(&unfinished.record, None));
    }

    /// Lists an unfinished job that cannot be read now: it is known, with its key, and its readers are told to come again.
    pub fn note_unreadable(&self, unfinished: &Unfinished) {
        let mut entry = Entry::of(&unfinished.record, None);
        entry.trouble = Some(Trouble::Unreadable);
        self.index().insert(unfinished.job_id.clone(), entry);
    }

    fn open_log(&self, job_id: JobId, record: &JobRecord, last_sequence: u32) -> Appender {
        let inner = &self.inner;
        let log =
            Arc::new(Log::new(job_id.clone(), last_sequence, inner.max_tail_bytes, inner.counters.clone()));
        self.index().insert(job_id, Entry::of(record, Some(log.clone())));
        inner.writers.spawn("log_writer", log.clone().store_until_ended(inner.store.clone()));
        Appender { log }
    }

    /// Notes a live job's state from an event on, for listings.
    pub fn set_state(&self, job_id: &JobId, since: u32, state: JobState) {
        self.index().set_state(job_id, since, state);
    }

    /// Marks a job as ended, once its last event is stored. Tries until the store takes it.
    pub async fn finish(&self, appender: Appender, job: &Job) {
        let job_id = appender.job_id().clone();
        appender.log.mark.wait_for(|now| now.is_ended).await;
        self.mark_ended(&job_id, job).await;
    }

    /// Marks a job as ended whose last event is stored. Tries until the store takes it.
    pub async fn mark_ended(&self, job_id: &JobId, job: &Job) {
        let log_bytes = loop {
            match self.inner.store.finish(job_id, job).await {
                Ok(log_bytes) => break log_bytes,
                Err(error) => {
                    tracing::error!(%job_id, cause = error.cause(), "the end of a job not stored, trying again");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        };
        let mut index = self.index();
        index.set_state(job_id, 0, job.state());
        index.end(job_id, job.last_sequence, job.end_time.unwrap_or_default(), log_bytes);
    }

    /// Follows a job's events behind `after_sequence`.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`]; [`Reason::CursorBeyondLog`] with the log's last sequence; [`Reason::DataLoss`] where
    /// nothing is left of the job.
    pub fn follow(&self, caller: &Caller, job_id: &JobId, after_sequence: u32) -> Result<Follower> {
        let index = self.index();
        let entry = index.get_whole(caller, job_id)?;
        let (source, last_sequence) = match &entry.live {
            Some(log) => (Source::Live(log.clone()), log.mark.now().last_sequence),
            None => (Source::Ended { last_sequence: entry.last_sequence }, entry.last_sequence),
        };
        drop(index);
        if after_sequence > last_sequence.min(MAX_SEQUENCE) {
            let message = format!(
                "the cursor {after_sequence} lies beyond the log, whose last sequence is {last_sequence}; read on from there"
            );
            return Err(Error::new(Reason::CursorBeyondLog, message)
                .with_sequence(last_sequence)
                .for_job(job_id.as_str()));
        }
        Ok(Follower {
            job_id: job_id.clone(),
            store: self.inner.store.clone(),
            cache: self.inner.cache.clone(),
            source,
            next_sequence: after_sequence + 1,
            reader: None,
            read_ahead: VecDeque::new(),
        })
    }

    /// Follows an unfinished job before it is opened again: what is stored of it, to its end.
    pub fn replay(&self, unfinished: &Unfinished) -> Follower {
        Follower {
            job_id: unfinished.job_id.clone(),
            store: self.inner.store.clone(),
            cache: self.inner.cache.clone(),
            source: Source::Ended { last_sequence: unfinished.last_sequence },
            next_sequence: 1,
            reader: None,
            read_ahead: VecDeque::new(),
        }
    }

    /// Whether the store takes anything now.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn check(&self) -> Result<()> {
        self.inner.store.check().await
    }

    /// Keeps the whole of an answer, before the events that tell of it.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn put_result(&self, job_id: &JobId, text: Bytes) -> Result<()> {
        self.inner.store.put_result(job_id, text).await
    }

    /// Reads from a place of a kept answer on. Whose it is was checked by the caller.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`], [`Reason::DataLoss`].
    pub async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes> {
        self.inner.store.result(job_id, from, max_bytes).await
    }

    /// Reads a job from the store.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::StoreUnavailable`], [`Reason::DataLoss`].
    pub async fn job(&self, caller: &Caller, job_id: &JobId) -> Result<StoredJob> {
        self.index().get_whole(caller, job_id)?;
        self.inner.store.job(job_id).await
    }

    /// The caller's jobs before `before`, newest first: at most `limit`, and whether there are more.
    pub fn list(
        &self,
        caller: &Caller,
        filter: &Filter,
        before: Option<&JobId>,
        limit: usize,
    ) -> (Vec<JobId>, bool) {
        let mut page = self.index().list(caller, filter, before, limit);
        let has_more = page.len() > limit;
        page.truncate(limit);
        (page, has_more)
    }

    /// Removes an ended job.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`]; [`Reason::JobNotEnded`]; [`Reason::StoreUnavailable`].
    pub async fn delete(&self, caller: &Caller, job_id: &JobId) -> Result<()> {
        if self.index().get(caller, job_id)?.end.is_none() {
            let message = "the job has not ended; cancel it first, then delete it";
            return Err(Error::new(Reason::JobNotEnded, message).for_job(job_id.as_str()));
        }
        self.inner.store.delete(job_id).await?;
        self.index().remove(job_id);
        self.inner.cache.forget(job_id);
        Ok(())
    }

    /// Lines ended jobs up by the time of day, after those of an earlier process have been marked as ended.
    pub fn line_up(&self) {
        self.index().line_up_by_time();
    }

    /// Whether ended jobs are more, or larger, than retention allows.
    pub fn is_over(&self, retention: &Retention) -> bool {
        self.index().is_over(retention)
    }

    /// Removes what retention no longer allows, and what late readers no longer use. Answers with the number of jobs
    /// removed. Ends early when it is to stop.
    pub async fn expire(&self, retention: &Retention, stopping: &CancellationToken) -> usize {
        self.inner.cache.rest();
        let expired = self.index().expired(retention);
        let mut removed = 0;
        for job_id in expired {
            if stopping.is_cancelled() {
                break;
            }
            match self.inner.store.delete(&job_id).await {
                Ok(()) => {
                    self.index().remove(&job_id);
                    self.inner.cache.forget(&job_id);
                    removed += 1;
                }
                Err(error) => {
                    tracing::warn!(%job_id, cause = error.cause(), "retention could not remove a job")
                }
            }
        }
        removed
    }

    /// Waits for the last events to be stored, at most until `deadline` has passed, then closes the store.
    pub async fn close(&self, deadline: Duration) -> bool {
        let is_drained = self.inner.writers.drain(deadline).await;
        self.inner.store.close().await;
        is_drained
    }
}
