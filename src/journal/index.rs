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

/// Why a job cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing of it is left in the store but that it was accepted.
    Lost,
    /// The store did not give it at the start, and is asked again.
    Unreadable,
}

/// When a job ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) time: Timestamp,
    /// Its age when this process learned of it, by the time of day, and the moment of that. A clock that is set anew while
    /// the process runs makes nothing older.
    age_then: Duration,
    since: Instant,
    /// Its place among the ended jobs.
    place: u64,
}

impl End {
    pub(super) fn at(time: Timestamp) -> Self {
        Self { time, age_then: time.elapsed(), since: Instant::now(), place: 0 }
    }

    fn age(&self) -> Duration {
        self.age_then + self.since.elapsed()
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) caller: Caller,
    /// Its states and the events from which on they hold, those that are not stored yet too.
    states: Vec<(u32, JobState)>,
    pub(super) last_sequence: u32,
    pub(super) log_bytes: u64,
    /// When it ended, by the time of day and by a clock that never jumps.
    pub(super) end: Option<End>,
    pub(super) live: Option<Arc<Log>>,
    /// Why it cannot be read.
    pub(super) trouble: Option<Trouble>,
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
            states: vec![(0, JobState::Queued)],
            last_sequence: 0,
            log_bytes: 0,
            end: None,
            live,
            trouble: None,
            labels: options.labels,
            conversation_id: options.conversation_id,
            idempotency_key: options.idempotency_key,
            request_digest: record.request_digest.clone(),
        }
    }

    /// Its state as far as that is stored.
    fn state(&self) -> JobState {
        let stored = self.live.as_ref().map_or(u32::MAX, |log| log.mark.now().last_sequence);
        let states = self.states.iter().rev();
        states.skip_while(|(since, _)| *since > stored).map(|(_, state)| *state).next().unwrap_or_default()
    }

    /// It is so from this event on.
    pub(super) fn set_state(&mut self, since: u32, state: JobState) {
        let stored = self.live.as_ref().map_or(u32::MAX, |log| log.mark.now().last_sequence);
        while self.states.get(1).is_some_and(|(since, _)| *since <= stored) {
            self.states.remove(0);
        }
        self.states.push((since, state));
    }

    fn matches(&self, filter: &Filter) -> bool {
        (filter.states.is_empty() || filter.states.contains(&self.state()))
            && (filter.conversation_id.is_empty() || filter.conversation_id == self.conversation_id)
            && filter.labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    jobs: BTreeMap<JobId, Entry>,
    keys: HashMap<(Caller, String), JobId>,
    /// The ended jobs in the order in which they grew old, oldest first.
    ended: BTreeMap<u64, JobId>,
    next_ended: u64,
    ended_bytes: u64,
}

impl Index {
    pub(super) fn insert(&mut self, job_id: JobId, entry: Entry) {
        if !entry.idempotency_key.is_empty() {
            self.keys.insert((entry.caller.clone(), entry.idempotency_key.clone()), job_id.clone());
        }
        if entry.end.is_some() {
            self.ended_bytes += entry.log_bytes;
        }
        self.jobs.insert(job_id.clone(), entry);
        self.line_up(&job_id);
    }

    /// Puts an ended job behind those that ended before it.
    fn line_up(&mut self, job_id: &JobId) {
        let Some(end) = self.jobs.get_mut(job_id).and_then(|entry| entry.end.as_mut()) else { return };
        end.place = self.next_ended;
        self.ended.insert(self.next_ended, job_id.clone());
        self.next_ended += 1;
    }

    /// Lines the ended jobs up by the time of day: for those of an earlier process there is no other.
    pub(super) fn line_up_by_time(&mut self) {
        let mut ended: Vec<_> = std::mem::take(&mut self.ended).into_values().collect();
        ended.sort_by_key(|job_id| self.jobs.get(job_id).and_then(|entry| Some(entry.end?.time)));
        for job_id in ended {
            self.line_up(&job_id);
        }
    }

    /// Whether ended jobs are more, or larger, than retention allows.
    pub(super) fn is_over(&self, retention: &Retention) -> bool {
        self.ended_bytes > retention.max_bytes || self.ended.len() > retention.max_jobs
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
    /// [`Reason::DataLoss`] where nothing is; [`Reason::StoreUnavailable`] where that cannot be told yet.
    pub(super) fn get_whole(&self, caller: &Caller, job_id: &JobId) -> Result<&Entry> {
        let entry = self.get(caller, job_id)?;
        if entry.trouble == Some(Trouble::Unreadable) {
            let message = "the job cannot be read from the store now; that is tried again, ask later";
            return Err(Error::new(Reason::StoreUnavailable, message).for_job(job_id.as_str()));
        }
        if entry.trouble == Some(Trouble::Lost) {
            let message = "the store was damaged and this job is lost: it was accepted, and may have run; what was found of it is kept beside the store, in `damaged`";
            return Err(Error::new(Reason::DataLoss, message).for_job(job_id.as_str()));
        }
        Ok(entry)
    }

    pub(super) fn set_state(&mut self, job_id: &JobId, since: u32, state: JobState) {
        if let Some(entry) = self.jobs.get_mut(job_id) {
            entry.set_state(since, state);
        }
    }

    pub(super) fn end(&mut self, job_id: &JobId, last_sequence: u32, end_time: Timestamp, log_bytes: u64) {
        let Some(entry) = self.jobs.get_mut(job_id) else { return };
        entry.live = None;
        entry.last_sequence = last_sequence;
        entry.end = Some(End::at(end_time));
        entry.log_bytes = log_bytes;
        self.ended_bytes += log_bytes;
        self.line_up(job_id);
    }

    pub(super) fn remove(&mut self, job_id: &JobId) -> Option<Entry> {
        let entry = self.jobs.remove(job_id)?;
        if let Some(end) = entry.end {
            self.ended_bytes -= entry.log_bytes;
            self.ended.remove(&end.place);
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
        let (mut bytes, mut jobs) = (self.ended_bytes, self.ended.len());
        let mut expired = Vec::new();
        for job_id in self.ended.values() {
            let Some(entry) = self.jobs.get(job_id) else { continue };
            let is_over = bytes > retention.max_bytes || jobs > retention.max_jobs;
            if !is_over && entry.end.is_some_and(|end| end.age() < retention.max_age) {
                break;
            }
            bytes -= entry.log_bytes;
            jobs -= 1;
            expired.push(job_id.clone());
        }
        expired
    }
}
