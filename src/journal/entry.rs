//! One job, as the index of a catalogue keeps it in memory.

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::{Filter, Holder, JobId, StorageFault};
use crate::{
    pb::{Job, JobState, TaskOptions, Timestamp, storage::JobRecord},
    principal::Principal,
};

#[derive(Debug)]
pub(super) struct IdempotencyKey {
    pub(super) key: Box<str>,
    pub(super) request_digest: Bytes,
}

#[derive(Debug)]
pub(super) struct LeaseHold {
    pub(super) holder: Holder,
    pub(super) until: Instant,
}

/// Who holds an unfinished job.
#[derive(Debug)]
pub(super) struct ClaimState {
    pub(super) epoch: u64,
    pub(super) held: Option<LeaseHold>,
    /// The job must not be claimed before this instant, even if nobody holds it.
    pub(super) rests_until: Option<Instant>,
}

/// When a job ended, and its position in the retention order of its owner.
#[derive(Debug)]
pub(super) struct EndPosition {
    pub(super) time: Timestamp,
    /// The instant of the end in milliseconds on the clock of the index, and a tie-breaker. Changes of the time of day do not
    /// affect that clock, and only it decides how old the job is in this process.
    pub(super) retention_order: (i64, u64),
}

#[derive(Debug)]
pub(super) struct IndexEntry {
    pub(super) owner: Principal,
    pub(super) state: JobState,
    pub(super) fault: Option<StorageFault>,
    pub(super) last_sequence: u32,
    pub(super) log_bytes: u64,
    pub(super) end: Option<EndPosition>,
    /// Present until the job ends; boxed because most jobs have ended.
    pub(super) claims: Option<Box<ClaimState>>,
    pub(super) key: Option<Box<IdempotencyKey>>,
    /// The encoded job as listings show it, without the fields above.
    pub(super) summary: Box<[u8]>,
}

/// Returns a job as a listing shows it: without its task, its outcome and the schema of its question.
pub fn summary(job: &Job) -> Job {
    let question = job.question.clone().map(|question| crate::pb::InputQuestion { schema: None, ..question });
    Job { task: None, outcome: None, question, is_summary: true, ..job.clone() }
}

pub(super) fn encoded_summary(options: Option<TaskOptions>, job: &Job) -> Box<[u8]> {
    let kept = Job {
        options,
        door: job.door,
        create_time: job.create_time,
        start_time: job.start_time,
        expire_time: job.expire_time,
        cancel_request_time: job.cancel_request_time,
        usage: job.usage.clone(),
        title: job.title.clone(),
        ..Job::default()
    };
    kept.encode_to_vec().into()
}

impl IndexEntry {
    /// Creates the entry of an unfinished job. `summary_of` is the job to make the summary from, if it is not that of `record`.
    pub(super) fn new(record: JobRecord, summary_of: Option<&Job>) -> Self {
        let owner = Principal::of_record(&record);
        let JobRecord { job, request_digest, .. } = record;
        let mut job = job.unwrap_or_default();
        let options = job.options.take();
        let key = options.as_ref().map_or("", |options| &options.idempotency_key);
        Self {
            owner,
            state: JobState::Queued,
            fault: None,
            last_sequence: 0,
            log_bytes: 0,
            end: None,
            claims: Some(Box::new(ClaimState { epoch: 1, held: None, rests_until: None })),
            key: (!key.is_empty()).then(|| Box::new(IdempotencyKey { key: key.into(), request_digest })),
            summary: encoded_summary(options, summary_of.unwrap_or(&job)),
        }
    }

    /// Creates the entry of an ended job. `summary` is encoded as `IndexEntry::summary` is.
    pub(super) fn of_ended(owner: Principal, key: Option<Box<IdempotencyKey>>, summary: Box<[u8]>) -> Self {
        Self {
            owner,
            state: JobState::Unspecified,
            fault: None,
            last_sequence: 0,
            log_bytes: 0,
            end: None,
            claims: None,
            key,
            summary,
        }
    }

    /// Returns what the summary says that an end need not repeat: the options and the title.
    pub(super) fn asked(&self) -> (Option<TaskOptions>, String) {
        let kept = Job::decode(&*self.summary).unwrap_or_default();
        (kept.options, kept.title)
    }

    pub(super) fn job(&self, job_id: &JobId) -> Job {
        let kept = Job::decode(&*self.summary).unwrap_or_default();
        Job {
            job_id: job_id.to_string(),
            state: self.state as i32,
            caller: self.owner.name().to_owned(),
            end_time: self.end.as_ref().map(|end| end.time),
            last_sequence: self.last_sequence,
            is_summary: true,
            ..kept
        }
    }

    pub(super) fn matches(&self, filter: &Filter) -> bool {
        if !filter.states.is_empty() && !filter.states.contains(&self.state) {
            return false;
        }
        if filter.labels.is_empty() && filter.conversation_id.is_empty() && filter.text.is_empty() {
            return true;
        }
        let (options, title) = self.asked();
        let options = options.unwrap_or_default();
        let text = filter.text.to_lowercase();
        let has = |part: &str| part.to_lowercase().contains(&text);
        let is_labelled = || {
            options.labels.iter().any(|(key, value)| has(key) || has(value) || has(&format!("{key}:{value}")))
        };
        (text.is_empty() || has(&title) || is_labelled())
            && (filter.conversation_id.is_empty() || filter.conversation_id == options.conversation_id)
            && filter.labels.iter().all(|(key, value)| options.labels.get(key) == Some(value))
    }
}
