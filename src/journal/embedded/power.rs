//! Tests the store on a disk that loses what was not synced, is full at times, and fails permanently for single files: what was
//! acknowledged is found again, what was not is either whole or absent, and no damage is reported that did not happen.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use super::{
    super::{BatchAppend, Catalogue, Claim, CreateOutcome, Damage, EventBatch, EventLog, Holder, Lease},
    lossy::LossyDisk,
    *,
};
use crate::{
    ambient::simulated::{self, Random},
    pb::{JobState, StatusUpdate, TaskOptions, Timestamp, job_event::Payload},
};

/// What was requested of the store for one job, and what it acknowledged.
#[derive(Debug, Default)]
struct ExpectedJob {
    claim: Option<Claim>,
    is_created: bool,
    /// The number of events whose append was acknowledged.
    stored: u32,
    /// The number of events that may be stored.
    written: u32,
    end_asked: bool,
    is_ended: bool,
    delete_asked: bool,
    is_deleted: bool,
    /// Its file accepts no more writes.
    is_broken: bool,
}

struct PowerLossRun {
    disk: LossyDisk,
    path: PathBuf,
    durability: Durability,
    random: Random,
    jobs: BTreeMap<JobId, ExpectedJob>,
}

fn payload(job_id: &JobId, sequence: u32) -> Payload {
    // Some payloads are larger than a sector and than a page.
    let message =
        format!("{job_id} {sequence} {}", "x".repeat(if sequence.is_multiple_of(7) { 5_000 } else { 100 }));
    Payload::StatusUpdate(StatusUpdate { message, ..StatusUpdate::default() })
}

fn job(job_id: &JobId, state: JobState, last_sequence: u32) -> Job {
    Job {
        job_id: job_id.to_string(),
        caller: "local".into(),
        state: state as i32,
        options: Some(TaskOptions::default()),
        create_time: Some(Timestamp::now()),
        last_sequence,
        ..Job::default()
    }
}

fn lease() -> Lease {
    Lease { holder: Holder::generate().unwrap(), time: Duration::from_secs(30) }
}

impl PowerLossRun {
    async fn create(&mut self, store: &EmbeddedStore) {
        let job_id = JobId::generate().unwrap();
        let record = JobRecord { job: Some(job(&job_id, JobState::Queued, 0)), ..JobRecord::default() };
        let created = store.create(&record, &lease()).await;
        let asked = self.jobs.entry(job_id.clone()).or_default();
        if let Ok(CreateOutcome::New(claim)) = created {
            (asked.claim, asked.is_created) = (Some(claim), true);
            if self.random.percent(4) {
                asked.is_broken = true;
                self.disk.breaks(&self.path.join("jobs").join(job_id.as_str()));
            }
        }
    }

    async fn append(&mut self, store: &EmbeddedStore, job_id: &JobId) {
        let count = 1 + u32::try_from(self.random.below(4)).unwrap();
        let asked = self.jobs.get_mut(job_id).unwrap();
        // No event may follow an end, not even one that has to be written again.
        let Some(claim) = asked.claim.clone().filter(|_| !asked.end_asked) else { return };
        let events: Vec<Payload> =
            (asked.stored + 1..).take(count as usize).map(|sequence| payload(job_id, sequence)).collect();
        let batches = vec![Arc::new(EventBatch::encoded(job_id, asked.stored + 1, &events))];
        asked.written = asked.written.max(asked.stored + count);
        if store.append(vec![BatchAppend { claim, batches }]).await.remove(0).is_ok() {
            asked.stored += count;
            // The new frame overwrites what an earlier failed append left at this position.
            asked.written = asked.stored;
        }
    }

    async fn end(&mut self, store: &EmbeddedStore, job_id: &JobId) {
        let asked = self.jobs.get_mut(job_id).unwrap();
        let Some(claim) = asked.claim.clone() else { return };
        asked.end_asked = true;
        let ended = store.end(&claim, &job(job_id, JobState::Succeeded, asked.stored)).await;
        if ended.is_ok() {
            (asked.is_ended, asked.claim) = (true, None);
        }
    }

    async fn delete(&mut self, store: &EmbeddedStore, job_id: &JobId) {
        let asked = self.jobs.get_mut(job_id).unwrap();
        if asked.is_ended && !asked.is_deleted {
            asked.delete_asked = true;
            asked.is_deleted = store.delete(job_id).await.is_ok();
        }
    }

    /// Checks that everything acknowledged is present and that nothing acknowledged as deleted is.
    async fn check(&mut self, store: &EmbeddedStore, damage: &[Damage]) {
        for damage in damage {
            let is_tail = damage.job_id.is_none() && damage.what.contains("cut off");
            // A deletion on a full disk removes the file first, to make room for the entry, and may have been cut short there.
            let is_going = damage.job_id.as_ref().is_some_and(|job_id| self.jobs[job_id].delete_asked);
            assert!(is_tail || is_going, "nobody has damaged anything: {damage:?}");
        }
        let claimed = store.claim(&lease(), usize::MAX).await.unwrap();
        let asked = |damage: &Damage| damage.job_id.as_ref().and_then(|job_id| self.jobs.get(job_id));
        let damaged = claimed.damage.first().map(|damage| (damage, asked(damage)));
        assert!(damaged.is_none(), "nobody has damaged anything: {damaged:?}");
        let mut found: BTreeMap<JobId, (Claim, u32)> = BTreeMap::new();
        for left in claimed.jobs {
            found.insert(left.claim.job_id.clone(), (left.claim, left.last_sequence));
        }
        for (job_id, asked) in &mut self.jobs {
            let known = store.get(job_id).await;
            if asked.is_deleted {
                assert!(known.is_err(), "{job_id} was deleted");
                continue;
            }
            let may_be_missing = !asked.is_created || asked.delete_asked;
            let Ok(known) = known else {
                assert!(may_be_missing, "{job_id} is missing: {asked:?}");
                asked.claim = None;
                continue;
            };
            asked.is_created = true;
            if asked.delete_asked {
                // Half of the job may already be deleted.
                continue;
            }
            assert_eq!(known.fault, None, "{job_id}: {asked:?}");
            let last_sequence = match found.remove(job_id) {
                Some((claim, last_sequence)) => {
                    assert!(!asked.is_ended, "{job_id} had ended: {asked:?}");
                    asked.claim = Some(claim);
                    last_sequence
                }
                None => {
                    assert!(known.is_ended && asked.end_asked, "{job_id}: {known:?} {asked:?}");
                    (asked.is_ended, asked.claim) = (true, None);
                    let stored = store.read(job_id).await.unwrap();
                    assert_eq!(stored.ended.unwrap().last_sequence, asked.stored, "{job_id}");
                    known.last_sequence
                }
            };
            let stored = asked.stored..=asked.written.max(asked.stored);
            assert!(stored.contains(&last_sequence), "{job_id}: {last_sequence} of {asked:?}");
            (asked.stored, asked.written) = (last_sequence, last_sequence);
            let mut reader = store.reader(job_id).await.unwrap();
            let mut next = 1;
            while next <= last_sequence {
                let chunk = reader.read(next, last_sequence, 1 << 14).await.unwrap();
                assert!(chunk.damage.is_none(), "{job_id}: {:?}", chunk.damage);
                for batch in &chunk.batches {
                    for (sequence, event) in (0..batch.len()).flat_map(|index| batch.payloads(index)) {
                        if sequence >= next {
                            assert_eq!((sequence, event), (next, payload(job_id, next)), "{job_id}");
                            next += 1;
                        }
                    }
                }
            }
        }
        assert!(found.is_empty(), "jobs that nobody created: {found:?}");
    }

    async fn live(&mut self, store: &EmbeddedStore) {
        for _ in 0..self.random.below(60) {
            let ids: Vec<JobId> = self.jobs.keys().cloned().collect();
            let one = (!ids.is_empty())
                .then(|| ids[usize::try_from(self.random.below(ids.len() as u64)).unwrap()].clone());
            match (self.random.below(100), one) {
                (0..15, _) | (_, None) => self.create(store).await,
                (15..75, Some(job_id)) => self.append(store, &job_id).await,
                (75..85, Some(job_id)) => self.end(store, &job_id).await,
                (85..93, Some(job_id)) => self.delete(store, &job_id).await,
                (93..97, _) => self.disk.has_room_for(self.random.below(6_000)),
                _ => self.disk.has_room_for(u64::MAX),
            }
        }
    }
}

async fn run(seed: u64, durability: Durability) {
    let mut random = Random(seed);
    let mut run = PowerLossRun {
        disk: LossyDisk::new(random.below(u64::MAX)),
        path: PathBuf::from("/store"),
        durability,
        random: Random(random.below(u64::MAX)),
        jobs: BTreeMap::new(),
    };
    let lives = 2 + random.below(4);
    for life in 0..=lives {
        run.disk.is_used_for(u64::MAX);
        let store = EmbeddedStore::open_on(Arc::new(run.disk.clone()), &run.path, run.durability).unwrap();
        let damage = Catalogue::open(&store).await.unwrap();
        run.check(&store, &damage).await;
        if life == lives {
            return;
        }
        // In half of the lives the process may die in the middle of an operation.
        if random.percent(50) {
            run.disk.is_used_for(random.below(120));
        }
        run.live(&store).await;
        if random.percent(20) {
            store.close().await;
        }
        if random.percent(60) && durability == Durability::Fsync {
            run.disk.loses_power();
        }
        // A third of the lives begin on a full disk.
        run.disk.has_room_for(if random.percent(33) { random.below(2_000) } else { u64::MAX });
    }
}

/// Runs a thousand seeds; `POWER_SEED=n` runs only seed `n`.
fn run_seeds(durability: Durability) {
    let given = std::env::var("POWER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = given.map_or(0..1_000, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            simulated::begin(seed);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                simulated::set_clock(Duration::from_secs(1_800_000_000));
                run(seed, durability).await;
            });
            simulated::end();
        });
        assert!(run.is_ok(), "POWER_SEED={seed} with {durability:?}");
    }
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_power() {
    run_seeds(Durability::Fsync);
}

#[test]
fn what_was_acknowledged_survives_the_end_of_the_process() {
    run_seeds(Durability::Process);
}
