//! The in-memory index of the catalogues of one process: enough to find, list, claim and expire every job, in about 400 bytes
//! each.
//!
//! Everything is grouped by owner, so that the cost of a listing, a key lookup or retention does not depend on the jobs of other
//! owners.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use prost::Message;
use tokio::time::Instant;

use super::{
    Claim, JobId, JobOverview, Lease, LogHead, Query, Retention, StorageFault, WriteRefusal,
    entry::{ClaimState, EndPosition, IndexEntry, LeaseHold, encoded_summary},
};
use crate::{
    error::{Error, Reason, Result},
    pb::{CANCELLED_BY_DISCONNECT, Job, JobState, TaskOptions, Timestamp, job::Outcome, storage::JobRecord},
    principal::Principal,
};

/// What the index keeps of the end of a job outside its encoded summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EndSummary {
    pub(super) state: JobState,
    pub(super) time: Option<Timestamp>,
    pub(super) last_sequence: u32,
    pub(super) log_bytes: u64,
    pub(super) is_lost: bool,
    pub(super) frees_key: bool,
}

impl EndSummary {
    /// `job` is the terminal job, with its outcome.
    pub(super) fn new(job: &Job, log_bytes: u64, is_lost: bool) -> Self {
        let (state, time, last_sequence) = (job.state(), job.end_time, job.last_sequence);
        Self { state, time, last_sequence, log_bytes, is_lost, frees_key: frees_key(job) }
    }
}

/// Returns whether a terminal job releases its idempotency key: it was cancelled because its clients had disconnected, so a
/// client that submits again with the key wants the work done.
pub(super) fn frees_key(job: &Job) -> bool {
    matches!(&job.outcome, Some(Outcome::Error(error)) if error.cancelled_by == CANCELLED_BY_DISCONNECT)
}

/// The jobs of one owner.
#[derive(Debug, Default)]
struct OwnerJobs {
    jobs: BTreeSet<JobId>,
    keys: BTreeMap<Box<str>, JobId>,
    /// Ended jobs in retention order, oldest first.
    ended: BTreeMap<(i64, u64), JobId>,
    ended_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Index {
    jobs: HashMap<JobId, Box<IndexEntry>>,
    owners: BTreeMap<Principal, OwnerJobs>,
    unfinished: BTreeSet<JobId>,
    ended: usize,
    ended_bytes: u64,
    next_place: u64,
    began: Instant,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            jobs: HashMap::new(),
            owners: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            ended: 0,
            ended_bytes: 0,
            next_place: 0,
            began: Instant::now(),
        }
    }
}

impl Index {
    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn insert(&mut self, job_id: JobId, mut entry: IndexEntry) {
        // Jobs of one owner share one copy of the principal.
        if let Some((known, _)) = self.owners.get_key_value(&entry.owner)
            && known.is_identical(&entry.owner)
        {
            entry.owner = known.clone();
        }
        let owned = self.owners.entry(entry.owner.clone()).or_default();
        owned.jobs.insert(job_id.clone());
        if let Some(key) = &entry.key {
            owned.keys.insert(key.key.clone(), job_id.clone());
        }
        self.unfinished.insert(job_id.clone());
        self.jobs.insert(job_id, Box::new(entry));
    }

    /// Adds a new job, held under `lease`.
    pub(super) fn create(&mut self, job_id: &JobId, record: &JobRecord, lease: &Lease) -> Claim {
        let job = record.job.as_ref().map(|job| Job { task: None, ..job.clone() });
        let mut entry = IndexEntry::new(JobRecord { job, ..record.clone() }, None);
        let held = Some(LeaseHold { holder: lease.holder.clone(), until: Instant::now() + lease.time });
        entry.claims = Some(Box::new(ClaimState { epoch: 1, held, rests_until: None }));
        self.insert(job_id.clone(), entry);
        Claim { job_id: job_id.clone(), epoch: 1 }
    }

    /// Adds an unfinished job that nobody holds. The end of its log is not known before it is claimed; until then it is reported
    /// as unreadable rather than as empty.
    pub(super) fn found_unfinished(&mut self, job_id: &JobId, record: JobRecord) {
        let mut entry = IndexEntry::new(record, None);
        entry.fault = Some(StorageFault::Unreadable);
        self.insert(job_id.clone(), entry);
    }

    /// Adds an ended job. `entry` is the job as listings show it.
    pub(super) fn found_ended(&mut self, job_id: &JobId, entry: IndexEntry, end: EndSummary) {
        self.insert(job_id.clone(), entry);
        self.mark_ended(job_id, None, end);
    }

    /// `summary` replaces the encoded summary, if it has changed.
    fn mark_ended(&mut self, job_id: &JobId, summary: Option<Box<[u8]>>, end: EndSummary) {
        let EndSummary { log_bytes, is_lost, frees_key, .. } = end;
        let now = self.now();
        let Some(entry) = self.jobs.get_mut(job_id).filter(|entry| entry.end.is_none()) else { return };
        let time = end.time.unwrap_or_else(Timestamp::now);
        let age = i64::try_from(time.elapsed().as_millis()).unwrap_or(i64::MAX);
        let retention_order = (now.saturating_sub(age), self.next_place);
        self.next_place += 1;
        entry.state = end.state;
        entry.fault = is_lost.then_some(StorageFault::Lost);
        entry.last_sequence = end.last_sequence;
        entry.log_bytes = log_bytes;
        entry.end = Some(EndPosition { time, retention_order });
        entry.claims = None;
        if let Some(summary) = summary {
            entry.summary = summary;
        }
        let owned = self.owners.entry(entry.owner.clone()).or_default();
        owned.ended.insert(retention_order, job_id.clone());
        owned.ended_bytes += log_bytes;
        if let Some(key) = entry.key.take_if(|_| frees_key)
            && owned.keys.get(&key.key) == Some(job_id)
        {
            owned.keys.remove(&key.key);
        }
        self.ended += 1;
        self.ended_bytes += log_bytes;
        self.unfinished.remove(job_id);
    }

    /// Marks an unfinished job as ended.
    pub(super) fn found_end(&mut self, job_id: &JobId, job: &Job, end: EndSummary) {
        let Some(entry) = self.jobs.get(job_id) else { return };
        // The catalogue omits the options from an end.
        let known = job.options.as_ref().filter(|options| **options != TaskOptions::default()).cloned();
        let (options, title) = entry.asked();
        let title = if job.title.is_empty() { title } else { job.title.clone() };
        let job = Job { title, ..job.clone() };
        self.mark_ended(job_id, Some(encoded_summary(known.or(options), &job)), end);
    }

    /// Marks a job as lost. A job that had not ended is given an end in the state INTERRUPTED.
    pub(super) fn mark_lost(&mut self, job_id: &JobId) {
        let Some(entry) = self.jobs.get_mut(job_id) else { return };
        entry.fault = Some(StorageFault::Lost);
        if entry.end.is_some() {
            return;
        }
        let created = Job::decode(&*entry.summary).unwrap_or_default().create_time;
        let (options, title) = entry.asked();
        let end = Job {
            state: JobState::Interrupted as i32,
            create_time: created,
            end_time: created,
            title,
            ..Job::default()
        };
        let summary = encoded_summary(options, &end);
        self.mark_ended(job_id, Some(summary), EndSummary::new(&end, 0, true));
    }

    /// Returns what is known of the record of a job: everything but its task.
    pub(super) fn record(&self, job_id: &JobId) -> Option<JobRecord> {
        let entry = self.jobs.get(job_id)?;
        let mut job = entry.job(job_id);
        job.is_summary = false;
        job.last_sequence = 0;
        job.set_state(JobState::Queued);
        Some(JobRecord {
            job: Some(job),
            request_digest: entry.key.as_ref().map(|key| key.request_digest.clone()).unwrap_or_default(),
            principal: Some(entry.owner.to_stored()),
        })
    }

    pub(super) fn job_ids(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn has(&self, job_id: &JobId) -> bool {
        self.jobs.contains_key(job_id)
    }

    pub(super) fn by_key(&self, owner: &Principal, key: &str, digests: &[&[u8]]) -> Result<Option<JobId>> {
        let Some(job_id) = self.owners.get(owner).and_then(|owned| owned.keys.get(key)) else {
            return Ok(None);
        };
        let known = self.jobs.get(job_id).and_then(|entry| entry.key.as_ref());
        if known.is_some_and(|known| digests.iter().any(|digest| known.request_digest == *digest)) {
            return Ok(Some(job_id.clone()));
        }
        let message = "the idempotency key was already used for another task or other options; use a new key";
        Err(Error::new(Reason::IdempotencyConflict, message)
            .at("options.idempotency_key")
            .for_job(job_id.as_str()))
    }

    pub(super) fn get(&self, job_id: &JobId) -> Result<JobOverview> {
        let entry = self.jobs.get(job_id).ok_or_else(|| JobId::not_found(job_id.as_str()))?;
        Ok(JobOverview {
            owner: entry.owner.clone(),
            state: entry.state,
            last_sequence: entry.last_sequence,
            is_ended: entry.end.is_some(),
            fault: entry.fault,
        })
    }

    pub(super) fn head(&self, job_id: &JobId) -> Result<LogHead> {
        self.get(job_id).map(|known| LogHead { last_sequence: known.last_sequence, is_ended: known.is_ended })
    }

    pub(super) fn list(&self, query: &Query) -> Vec<Job> {
        let Some(owned) = self.owners.get(&query.owner) else { return Vec::new() };
        let before = match &query.before {
            Some(before) => std::ops::Bound::Excluded(before.clone()),
            None => std::ops::Bound::Unbounded,
        };
        let jobs = owned.jobs.range((std::ops::Bound::Unbounded, before)).rev();
        jobs.filter_map(|job_id| Some((job_id, self.jobs.get(job_id)?)))
            .filter(|(_, entry)| entry.matches(&query.filter))
            .take(query.limit)
            .map(|(job_id, entry)| entry.job(job_id))
            .collect()
    }

    fn held(&mut self, claim: &Claim) -> Result<&mut IndexEntry, WriteRefusal> {
        let entry = self.jobs.get_mut(&claim.job_id).ok_or(WriteRefusal::Gone)?;
        match &entry.claims {
            Some(claims) if claims.epoch == claim.epoch => Ok(entry),
            Some(_) => Err(WriteRefusal::Stale),
            None => Err(WriteRefusal::Gone),
        }
    }

    /// Returns the last stored sequence of the job if `claim` is its latest claim.
    pub(super) fn check(&mut self, claim: &Claim) -> Result<u32, WriteRefusal> {
        self.held(claim).map(|entry| entry.last_sequence)
    }

    /// Records that events up to `last_sequence` are stored.
    pub(super) fn stored(&mut self, job_id: &JobId, last_sequence: u32) {
        if let Some(entry) = self.jobs.get_mut(job_id) {
            entry.last_sequence = last_sequence;
        }
    }

    pub(super) fn set_state(&mut self, claim: &Claim, state: JobState) -> Result<(), WriteRefusal> {
        self.held(claim)?.state = state;
        Ok(())
    }

    /// Marks a job as ended; a job that has already ended stays unchanged.
    pub(super) fn end(&mut self, claim: &Claim, job: &Job, log_bytes: u64, is_lost: bool) {
        self.found_end(&claim.job_id, job, EndSummary::new(job, log_bytes, is_lost));
    }

    /// Returns the stored bytes of a job if it has already ended.
    pub(super) fn ended_bytes_of(&self, job_id: &JobId) -> Option<u64> {
        self.jobs.get(job_id).filter(|entry| entry.end.is_some()).map(|entry| entry.log_bytes)
    }

    /// Returns up to `limit` unfinished jobs that nobody holds now.
    pub(super) fn claimable(&self, limit: usize) -> Vec<JobId> {
        let now = Instant::now();
        let is_free = |job_id: &&JobId| {
            self.jobs.get(*job_id).and_then(|entry| entry.claims.as_ref()).is_some_and(|claims| {
                claims.held.as_ref().is_none_or(|held| held.until <= now)
                    && claims.rests_until.is_none_or(|until| until <= now)
            })
        };
        self.unfinished.iter().filter(is_free).take(limit).cloned().collect()
    }

    /// Gives a job to the holder of `lease` under a new epoch. Returns `None` if there is no such job or it has ended.
    pub(super) fn take(&mut self, job_id: &JobId, lease: &Lease) -> Option<Claim> {
        let entry = self.jobs.get_mut(job_id)?;
        let claims = entry.claims.as_mut()?;
        claims.epoch += 1;
        claims.held = Some(LeaseHold { holder: lease.holder.clone(), until: Instant::now() + lease.time });
        claims.rests_until = None;
        entry.fault = None;
        Some(Claim { job_id: job_id.clone(), epoch: claims.epoch })
    }

    /// Releases a job that could not be read and excludes it from claims for `time`.
    pub(super) fn defer_claims(&mut self, job_id: &JobId, time: Duration) {
        if let Some(entry) = self.jobs.get_mut(job_id)
            && let Some(claims) = &mut entry.claims
        {
            claims.held = None;
            claims.rests_until = Some(Instant::now() + time);
            entry.fault = Some(StorageFault::Unreadable);
        }
    }

    pub(super) fn renew(&mut self, lease: &Lease) {
        let until = Instant::now() + lease.time;
        for job_id in &self.unfinished {
            let claims = self.jobs.get_mut(job_id).and_then(|entry| entry.claims.as_mut());
            let held = claims.and_then(|claims| claims.held.as_mut());
            if let Some(held) = held.filter(|held| held.holder == lease.holder) {
                held.until = until;
            }
        }
    }

    pub(super) fn remove(&mut self, job_id: &JobId) {
        let Some(entry) = self.jobs.remove(job_id) else { return };
        self.unfinished.remove(job_id);
        let Some(owned) = self.owners.get_mut(&entry.owner) else { return };
        owned.jobs.remove(job_id);
        if let Some(key) = &entry.key
            && owned.keys.get(&key.key) == Some(job_id)
        {
            owned.keys.remove(&key.key);
        }
        if let Some(end) = &entry.end {
            owned.ended.remove(&end.retention_order);
            owned.ended_bytes -= entry.log_bytes;
            self.ended -= 1;
            self.ended_bytes -= entry.log_bytes;
        }
        if owned.jobs.is_empty() {
            self.owners.remove(&entry.owner);
        }
    }

    /// See [`super::Catalogue::expired`].
    pub(super) fn expired(&self, retention: &Retention, limit: usize) -> Vec<JobId> {
        let age = i64::try_from(retention.max_age.as_millis()).unwrap_or(i64::MAX);
        let oldest = self.now().saturating_sub(age);
        let (mut jobs, mut bytes) = (self.ended, self.ended_bytes);
        let mut expired = Vec::new();
        // What each owner keeps once the expired jobs are removed.
        let mut left: Vec<_> = Vec::new();
        for owned in self.owners.values().filter(|owned| !owned.ended.is_empty()) {
            let mut rest = RetentionCursor {
                ended: owned.ended.iter().peekable(),
                jobs: owned.ended.len(),
                bytes: owned.ended_bytes,
            };
            while expired.len() < limit
                && rest.ended.peek().is_some_and(|((grown, _), _)| {
                    *grown <= oldest
                        || retention.max_jobs_per_owner.is_some_and(|most| rest.jobs > most)
                        || retention.max_bytes_per_owner.is_some_and(|most| rest.bytes > most)
                })
            {
                expired.extend(rest.next(&self.jobs, &mut jobs, &mut bytes));
            }
            left.push(rest);
        }
        while expired.len() < limit && (jobs > retention.max_jobs || bytes > retention.max_bytes) {
            let by_bytes = bytes > retention.max_bytes;
            let most =
                left.iter_mut().max_by_key(|rest| if by_bytes { rest.bytes } else { rest.jobs as u64 });
            match most.and_then(|most| most.next(&self.jobs, &mut jobs, &mut bytes)) {
                Some(job_id) => expired.push(job_id),
                None => break,
            }
        }
        expired
    }
}

/// The ended jobs of one owner, oldest first, while some of them are selected for removal.
struct RetentionCursor<'a> {
    ended: std::iter::Peekable<std::collections::btree_map::Iter<'a, (i64, u64), JobId>>,
    jobs: usize,
    bytes: u64,
}

impl RetentionCursor<'_> {
    fn next(
        &mut self,
        entries: &HashMap<JobId, Box<IndexEntry>>,
        jobs: &mut usize,
        bytes: &mut u64,
    ) -> Option<JobId> {
        let (_, job_id) = self.ended.next()?;
        let takes = entries.get(job_id).map_or(0, |entry| entry.log_bytes);
        self.jobs -= 1;
        self.bytes -= takes;
        *jobs -= 1;
        *bytes -= takes;
        Some(job_id.clone())
    }
}
