//! The project's own store: one checksummed log file for each job.

use std::{path::Path, sync::Arc, time::Duration};

use conductor_gateway::{
    caller::Caller,
    journal::{Damage, Durability, EmbeddedStore, Filter, Follower, JobId, Journal, Store, Unfinished},
    pb::{Job, JobState, Timestamp},
};
use tokio::runtime::Runtime;

use crate::{
    candidate::{Candidate, Outcome, Piece, Visit},
    units::{Unit, record},
};

/// Written through the store, read through the journal over it, as the gateway does.
pub struct Own {
    store: EmbeddedStore,
    journal: Journal,
    unfinished: Vec<Unfinished>,
    damage: Vec<Damage>,
    runtime: Runtime,
}

impl Own {
    pub fn open(path: &Path, runtime: Runtime) -> Outcome<Self> {
        let store = EmbeddedStore::open(path, Durability::Process)?;
        let opened = runtime.block_on(Journal::open(Arc::new(store.clone()), 1 << 20));
        let (journal, unfinished, damage) = opened?;
        Ok(Self { store, journal, unfinished, damage, runtime })
    }

    fn follower(&self, job: &JobId, after: u32) -> Option<Follower> {
        match self.unfinished.iter().find(|left| left.job_id == *job) {
            Some(left) => Some(self.journal.replay(left)),
            None => {
                let (listed, _) = self.journal.list(&Caller::local(), &Filter::default(), None, 1000);
                // A job that nobody knows of any more is missing data, not an error.
                listed.contains(job).then(|| self.journal.follow(&Caller::local(), job, after).ok())?
            }
        }
    }
}

impl Candidate for Own {
    fn complaints(&self) -> Vec<String> {
        self.damage.iter().map(Damage::to_string).collect()
    }

    fn create(&self, job: &JobId) -> Outcome {
        Ok(self.runtime.block_on(self.store.create(job, &record(job)))?)
    }

    fn append(&self, job: &JobId, unit: &Arc<Unit>) -> Outcome {
        Ok(self.runtime.block_on(self.store.append(job, std::slice::from_ref(&unit.batch)))?)
    }

    fn finish(&self, job: &JobId, last_sequence: u32) -> Outcome {
        let mut end: Job = record(job).job.unwrap_or_default();
        end.state = JobState::Succeeded as i32;
        end.last_sequence = last_sequence;
        end.end_time = Some(Timestamp::now());
        self.runtime.block_on(self.store.finish(job, &end))?;
        Ok(())
    }

    fn scan(&self, job: &JobId, visit: Visit<'_>) -> Outcome {
        let Some(mut follower) = self.follower(job, 0) else { return Ok(()) };
        loop {
            let before = follower.last_seen();
            match self.runtime.block_on(follower.next()) {
                Ok(Some(slice)) => visit(Ok((slice.first_sequence(), Piece::Batch(slice.batch)))),
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
