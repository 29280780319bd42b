//! What is appended: batches as the gateway's own journal makes them.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use conductor_gateway::{
    principal::{OwnersOnly, Principal},
    journal::{EventBatch, JobId, Journal, MemoryStore, JournalParts, SubmitOutcome},
    pb::{self, Job, JobState, TaskOptions, Timestamp, job_event::Payload, storage::JobRecord},
};

use crate::candidate::Outcome;

/// The two append patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 800 events, just below 64 KiB: a job that writes as fast as it can.
    Large,
    /// One event of about 120 bytes: a job that writes now and then.
    Small,
}

impl Shape {
    pub const ALL: [Self; 2] = [Self::Large, Self::Small];

    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "64 KiB",
            Self::Small => "120 B",
        }
    }

    pub fn parse(name: &str) -> Outcome<Self> {
        Self::ALL.into_iter().find(|shape| shape.name() == name).ok_or_else(|| "no such shape".into())
    }

    /// Events in one batch, which is the distance between first sequences.
    pub fn step(self) -> u32 {
        match self {
            Self::Large => 800,
            Self::Small => 1,
        }
    }

    fn text_len(self) -> usize {
        match self {
            Self::Large => 12,
            Self::Small => 53,
        }
    }
}

/// One batch, and the value that a database stores for it.
pub struct Unit {
    pub batch: Arc<EventBatch>,
    pub value: Vec<u8>,
}

impl Unit {
    pub fn first(&self) -> u32 {
        self.batch.first_sequence()
    }
}

/// A batch as one value: where each event ends, then the events. Our own files hold the same.
pub fn value_of(batch: &EventBatch) -> Vec<u8> {
    let mut value = Vec::with_capacity(batch.bytes().len() + 4 * batch.len());
    let mut end = 0;
    for index in 0..batch.len() {
        end += batch.event(index).len() as u32;
        value.extend_from_slice(&end.to_le_bytes());
    }
    value.extend_from_slice(batch.bytes());
    value
}

/// The same for the same bytes, in every process of this program.
pub fn digest(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value);
    hasher.finish()
}

/// A job as it is when it was just accepted.
pub fn record(job_id: &JobId) -> JobRecord {
    let job = Job {
        job_id: job_id.to_string(),
        state: JobState::Queued as i32,
        caller: Principal::local().name().to_owned(),
        options: Some(TaskOptions::default()),
        create_time: Some(Timestamp::now()),
        ..Job::default()
    };
    JobRecord { job: Some(job), request_digest: vec![0; 32].into(), principal: None }
}

/// Letters without a pattern, so that a store which compresses finds no more to gain than in real text.
fn noise(state: &mut u64, len: usize) -> String {
    let mut letter = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + ((*state >> 33) % 26) as u8)
    };
    (0..len).map(|_| letter()).collect()
}

/// Makes `count` batches that follow one another from sequence 1, through a journal in memory.
pub fn make(shape: Shape, count: usize) -> Outcome<Vec<Arc<Unit>>> {
    // On one thread the journal's writer runs only when we wait for it, so that each batch has its full size.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Arc::new(MemoryStore::default());
        let policy = Arc::new(OwnersOnly);
        let parts = JournalParts { catalogue: store.clone(), events: store, policy, max_tail_bytes: 1 << 20 , max_log_bytes: conductor_gateway::quota::Bounds { most: 1 << 40, most_per_caller: None } };
        let (journal, _) = Journal::open(parts).await?;
        let SubmitOutcome::New(appender) = journal.submit(record(&JobId::generate()?)).await? else {
            return Err("a new job is not new".into());
        };
        let mut follower = journal.follow(&Principal::local(), appender.job_id(), 0).await?;
        let mut state = 1;
        let mut units = Vec::with_capacity(count);
        while units.len() < count {
            for _ in 0..shape.step() {
                let text = noise(&mut state, shape.text_len());
                let token = pb::LlmNewToken { step: 1, text, is_reasoning: false };
                appender.append(&Payload::OnLlmNewToken(token), |_| None).await?;
            }
            appender.flushed(Duration::from_secs(5)).await?;
            let batch = follower.next().await?.ok_or("the job ended")?.batch;
            if batch.len() != shape.step() as usize {
                return Err(format!("a batch of {} events", batch.len()).into());
            }
            units.push(Arc::new(Unit { value: value_of(&batch), batch }));
        }
        Ok(units)
    })
}
