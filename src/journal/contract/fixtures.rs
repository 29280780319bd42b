//! Jobs, events and journals for the suite.

use super::super::*;
use crate::{
    pb::{self, Job, JobState, TaskOptions, Timestamp, job_event::Payload, storage::JobRecord},
    principal::{OwnersOnly, Principal},
};
use std::sync::Arc;

pub(super) fn record(job_id: &JobId, key: &str, digest: u8) -> JobRecord {
    let options = TaskOptions { idempotency_key: key.into(), ..TaskOptions::default() };
    let job = Job {
        job_id: job_id.to_string(),
        state: JobState::Queued as i32,
        caller: "local".into(),
        options: Some(options),
        create_time: Some(Timestamp::now()),
        ..Job::default()
    };
    JobRecord { job: Some(job), request_digest: vec![digest; 32].into(), principal: None }
}

pub(super) fn token(text: &str) -> Payload {
    Payload::OnLlmNewToken(pb::LlmNewToken { step: 1, text: text.into(), is_reasoning: false })
}

pub(super) fn end() -> Payload {
    Payload::EndOfStream(pb::EndOfStream { state: JobState::Succeeded as i32, message: String::new() })
}

pub(super) fn ended(job_id: &JobId, last_sequence: u32) -> Job {
    let mut job = record(job_id, "", 0).job.unwrap();
    job.state = JobState::Succeeded as i32;
    job.last_sequence = last_sequence;
    job.end_time = Some(Timestamp::now());
    job
}

pub(super) async fn submit(journal: &Journal, key: &str, digest: u8) -> Appender {
    let job_id = JobId::generate().unwrap();
    match journal.submit(record(&job_id, key, digest)).await.unwrap() {
        SubmitOutcome::New(appender) => appender,
        SubmitOutcome::Existing(job_id) => panic!("{job_id} is not new"),
    }
}

pub(super) async fn texts(mut follower: EventFollower) -> Vec<(u32, String)> {
    let mut seen = Vec::new();
    while let Some(slice) = follower.next().await.unwrap() {
        for (sequence, payload) in slice.batch.payloads(slice.from) {
            let text = match payload {
                Payload::OnLlmNewToken(token) => token.text,
                other => pb::event_name(&other).to_owned(),
            };
            seen.push((sequence, text));
        }
    }
    seen
}

pub(super) async fn open<S: Catalogue + EventLog>(store: S) -> (Journal, Vec<Damage>) {
    let store = Arc::new(store);
    let parts = JournalParts {
        catalogue: store.clone(),
        events: store,
        policy: Arc::new(OwnersOnly),
        max_tail_bytes: 4096,
        max_log_bytes: crate::quota::Bounds { most: 1 << 40, most_per_caller: None },
    };
    Journal::open(parts).await.unwrap()
}

/// Returns the principal with this name, as tests name them.
pub(super) fn principal(name: &str) -> Principal {
    if name == "local" { Principal::local() } else { Principal::from_proxy(name) }
}

pub(super) fn lost() -> Job {
    panic!("nothing is lost")
}
