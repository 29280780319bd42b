//! What the journal keeps in memory of every job: enough to list, find and expire it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{JobId, Retention, live::Log};
use crate::{
    caller::Caller,
    error::{Error, Reason, Result},
    pb::{JobState, Timestamp, storage::JobRecord},
};

/// Which jobs a listing wants. Empty parts want all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states.
    pub states: Vec<JobState>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Of this conversation.
    pub conversation_id: String,
}

/// When a job ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) time: Timestamp,
    /// Its age when this process learned of it, by the time of day, and the moment of that. A clock that is set anew while
    /// the process runs makes nothing older.
    age_then: Duration,
    since: Instant,
}

impl End {
    pub(super) fn at(time: Timestamp) -> Self {
        Self { time, age_then: time.elapsed(), since: Instant::now() }
    }

    fn age(&self) -> Duration {
        self.age_then + self.since.elapsed()
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) caller: Caller,
    pub(super) state: JobState,
    pub(super) last_sequence: u32,
    pub(super) log_bytes: u64,
    /// When it ended, by the time of day and by a clock that never jumps.
    pub(super) end: Option<End>,
    pub(super) live: Option<Arc<Log>>,
    /// Nothing of it is left in the store but that it was accepted.
    pub(super) is_lost: bool,
    labels: BTreeMap<String, String>,
    conversation_id: String,
    idempotency_key: String,
    request_digest: bytes::Bytes,
}

impl Entry {
    pub(super) fn of(record: &JobRecord, live: Option<Arc<Log>>) -> Self {
        let job = record.job.clone().unwrap_or_default();
        let options = job.options.unwrap_or_default();
        Self {
            caller: Caller::named(&job.caller),
            state: JobState::Queued,
            last_sequence: 0,
            log_bytes: 0,
            end: None,
            live,
            is_lost: false,
            labels: options.labels,
            conversation_id: options.conversation_id,
            idempotency_key: options.idempotency_key,
            request_digest: record.request_digest.clone(),
        }
    }

    fn matches(&self, filter: &Filter) -> bool {
        (filter.states.is_empty() || filter.states.contains(&self.state))
            && (filter.conversation_id.is_empty() || filter.conversation_id == self.conversation_id)
            && filter.labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    jobs: BTreeMap<JobId, Entry>,
    keys: HashMap<(Caller, String), JobId>,
    ended_bytes: u64,
    ended_jobs: usize,
}

impl Index {
    pub(super) fn insert(&mut self, job_id: JobId, entry: Entry) {
        if !entry.idempotency_key.is_empty() {
            self.keys.insert((entry.caller.clone(), entry.idempotency_key.clone()), job_id.clone());
        }
        if entry.end.is_some() {
            self.ended_bytes += entry.log_bytes;
            self.ended_jobs += 1;
        }
        self.jobs.insert(job_id, entry);
    }

    /// The earlier job of an idempotency key.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`] when that was another request.
    pub(super) fn by_key(&self, caller: &Caller, key: &str, digest: &[u8]) -> Result<Option<JobId>> {
        if key.is_empty() {
            return Ok(None);
        }
        let Some(job_id) = self.keys.get(&(caller.clone(), key.to_owned())) else { return Ok(None) };
        let is_same = self.jobs.get(job_id).is_some_and(|entry| entry.request_digest == digest);
        if is_same {
            return Ok(Some(job_id.clone()));
        }
        let message = "the idempotency key was already used for another task or other options; use a new key";
        Err(Error::new(Reason::IdempotencyConflict, message)
            .at("options.idempotency_key")
            .for_job(job_id.as_str()))
    }

    /// The caller's job; somebody else's does not exist.
    pub(super) fn get(&self, caller: &Caller, job_id: &JobId) -> Result<&Entry> {
        self.jobs
            .get(job_id)
            .filter(|entry| caller.may_access(entry.caller.name()))
            .ok_or_else(|| JobId::not_found(job_id.as_str()))
    }

    /// The same, where something of the job is left.
    ///
    /// # Errors
    /// [`Reason::DataLoss`] where nothing is.
    pub(super) fn get_whole(&self, caller: &Caller, job_id: &JobId) -> Result<&Entry> {
        let entry = self.get(caller, job_id)?;
        if entry.is_lost {
            let message = "the store was damaged and this job is lost: it was accepted, and may have run; what was found of it is kept beside the store, in `damaged`";
            return Err(Error::new(Reason::DataLoss, message).for_job(job_id.as_str()));
        }
        Ok(entry)
    }

    pub(super) fn set_state(&mut self, job_id: &JobId, state: JobState) {
        if let Some(entry) = self.jobs.get_mut(job_id) {
            entry.state = state;
        }
    }

    pub(super) fn end(&mut self, job_id: &JobId, last_sequence: u32, end_time: Timestamp, log_bytes: u64) {
        let Some(entry) = self.jobs.get_mut(job_id) else { return };
        entry.live = None;
        entry.last_sequence = last_sequence;
        entry.end = Some(End::at(end_time));
        entry.log_bytes = log_bytes;
        self.ended_bytes += log_bytes;
        self.ended_jobs += 1;
    }

    pub(super) fn remove(&mut self, job_id: &JobId) -> Option<Entry> {
        let entry = self.jobs.remove(job_id)?;
        if entry.end.is_some() {
            self.ended_bytes -= entry.log_bytes;
            self.ended_jobs -= 1;
        }
        let key = (entry.caller.clone(), entry.idempotency_key.clone());
        if self.keys.get(&key) == Some(job_id) {
            self.keys.remove(&key);
        }
        Some(entry)
    }

    /// The caller's jobs before `before`, newest first, one more than `limit` where there are more.
    pub(super) fn list(
        &self,
        caller: &Caller,
        filter: &Filter,
        before: Option<&JobId>,
        limit: usize,
    ) -> Vec<JobId> {
        let older = |job_id: &&JobId| before.is_none_or(|before| *job_id < before);
        self.jobs
            .iter()
            .rev()
            .filter(|(job_id, entry)| {
                older(job_id) && caller.may_access(entry.caller.name()) && entry.matches(filter)
            })
            .map(|(job_id, _)| job_id.clone())
            .take(limit + 1)
            .collect()
    }

    /// The ended jobs that retention no longer allows, oldest first.
    pub(super) fn expired(&self, retention: &Retention) -> Vec<JobId> {
        let mut ended: Vec<_> = self
            .jobs
            .iter()
            .filter_map(|(job_id, entry)| Some((entry.end?, entry.log_bytes, job_id)))
            .collect();
        ended.sort_unstable_by_key(|(end, _, job_id)| (end.time, *job_id));
        let (mut bytes, mut jobs) = (self.ended_bytes, self.ended_jobs);
        let mut expired = Vec::new();
        for (end, log_bytes, job_id) in ended {
            let is_over = bytes > retention.max_bytes || jobs > retention.max_jobs;
            if !is_over && end.age() < retention.max_age {
                continue;
            }
            bytes -= log_bytes;
            jobs -= 1;
            expired.push(job_id.clone());
        }
        expired
    }
}
