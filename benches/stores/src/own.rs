//! The project's own store: one checksummed log file for each job.

use std::{path::Path, sync::Arc, time::Duration};

use conductor_gateway::{
    journal::{
        BatchAppend, Catalogue, Claim, ClaimedJobs, CreateOutcome, Damage, Durability, EmbeddedStore, EventLog, EventFollower, Holder, JobId, Journal,
        Lease, JournalParts, Unfinished,
    },
    pb::{Job, JobState, Timestamp},
    principal::{OwnersOnly, Principal},
};
use tokio::runtime::Runtime;

use crate::{
    candidate::{Candidate, Outcome, Piece, Visit},
    units::{Unit, record},
};

/// Written through the store, read through the journal over it, as the gateway does.
pub struct Own {
    store: EmbeddedStore,
    lease: Lease,
    journal: Journal,
    unfinished: Vec<Unfinished>,
    damage: Vec<Damage>,
    runtime: Runtime,
}

impl Own {
    pub fn open(path: &Path, runtime: Runtime) -> Outcome<Self> {
        let store = EmbeddedStore::open(path, Durability::Process)?;
        let lease = Lease { holder: Holder::generate()?, time: Duration::from_secs(3600) };
        let halves = Arc::new(store.clone());
        let policy = Arc::new(OwnersOnly);
        let parts = JournalParts { catalogue: halves.clone(), events: halves, policy, max_tail_bytes: 1 << 20 , max_log_bytes: conductor_gateway::quota::Bounds { most: 1 << 40, most_per_caller: None } };
        let (journal, mut damage) = runtime.block_on(Journal::open(parts))?;
        let ClaimedJobs { jobs: unfinished, damage: of_jobs } = runtime.block_on(journal.claim(usize::MAX))?;
        damage.extend(of_jobs);
        Ok(Self { store, lease, journal, unfinished, damage, runtime })
    }

    fn follower(&self, job: &JobId, after: u32) -> Option<EventFollower> {
        match self.unfinished.iter().find(|left| left.claim.job_id == *job) {
            Some(left) => Some(self.journal.replay(left)),
            // A job that nobody knows of any more is missing data, not an error.
            None => self.runtime.block_on(self.journal.follow(&Principal::local(), job, after)).ok(),
        }
    }
}

/// The first claim of a job, as its creation gave it.
fn claim(job: &JobId) -> Claim {
    Claim { job_id: job.clone(), epoch: 1 }
}

impl Candidate for Own {
    fn complaints(&self) -> Vec<String> {
        self.damage.iter().map(Damage::to_string).collect()
    }

    fn create(&self, job: &JobId) -> Outcome {
        match self.runtime.block_on(self.store.create(&record(job), &self.lease))? {
            CreateOutcome::New(_) => Ok(()),
            CreateOutcome::Existing(_) => Err("a new job is not new".into()),
        }
    }

    fn append(&self, job: &JobId, unit: &Arc<Unit>) -> Outcome {
        let append = BatchAppend { claim: claim(job), batches: vec![unit.batch.clone()] };
        let answer = self.runtime.block_on(self.store.append(vec![append])).pop();
        Ok(answer.ok_or("no answer")?.map_err(|refusal| refusal.to_string())?)
    }

    fn finish(&self, job: &JobId, last_sequence: u32) -> Outcome {
        let mut end: Job = record(job).job.unwrap_or_default();
        end.state = JobState::Succeeded as i32;
        end.last_sequence = last_sequence;
        end.end_time = Some(Timestamp::now());
        self.runtime.block_on(self.store.end(&claim(job), &end)).map_err(|refusal| refusal.to_string())?;
        Ok(())
    }

    fn scan(&self, job: &JobId, visit: Visit<'_>) -> Outcome {
        let Some(mut follower) = self.follower(job, 0) else { return Ok(()) };
        loop {
            let before = follower.last_seen();
            match self.runtime.block_on(follower.next()) {
                Ok(Some(slice)) => visit(Ok((slice.first_sequence(), Piece::EventBatch(slice.batch)))),
                Ok(None) => return Ok(()),
                Err(error) => {
                    visit(Err(error.into()));
                    if follower.last_seen() == before {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn get(&self, job: &JobId, first: u32) -> Outcome<Option<Piece>> {
        let mut found = None;
        self.scan(job, &mut |read| match read {
            Ok((at, piece)) if at == first => found = Some(piece),
            _ => {}
        })?;
        Ok(found)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.runtime.block_on(self.journal.close(Duration::from_millis(1)));
        Ok(())
    }
}
