//! A store that is slow, fails, and crashes between having stored and having said so.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::world::{Kept, World};
use crate::{
    error::{Error, Reason, Result},
    journal::{Batch, Chunk, Ended, JobId, Loaded, Reader, Store, StoredJob},
    pb::{Job, storage::JobRecord},
};

#[derive(Clone)]
pub(super) struct SimulatedStore {
    world: Arc<World>,
    /// How often of a hundred times something fails.
    failures: u64,
    longest_wait: u64,
}

impl SimulatedStore {
    pub(super) fn new(world: Arc<World>, is_faulty: bool) -> Self {
        let failures = if is_faulty { *[0, 0, 3, 25].get(world.below(4) as usize).unwrap_or(&0) } else { 0 };
        let longest_wait = 1 + world.below(if is_faulty { 40 } else { 3 });
        Self { world, failures, longest_wait }
    }

    async fn wait(&self) {
        // Now and then a disk that thinks for long.
        let bound = if self.world.percent(2) { self.longest_wait * 20 } else { self.longest_wait };
        let wait = self.world.below(bound + 1);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    fn fail(&self, what: &str) -> Result<()> {
        if self.world.percent(self.failures) {
            self.world.note(format_args!("store: {what} fails"));
            return Err(Error::new(Reason::StoreUnavailable, "simulated"));
        }
        Ok(())
    }

    /// A write: at any await the gateway may crash, before it was stored or after.
    async fn write<T>(&self, what: &str, job_id: &JobId, write: impl FnOnce(&mut Kept) -> T) -> Result<T> {
        self.wait().await;
        self.fail(what)?;
        let written = self.world.kept(|kept| kept.get_mut(job_id).map(write));
        self.wait().await;
        written.ok_or_else(|| JobId::not_found(job_id.as_str()))
    }
}

#[async_trait]
impl Store for SimulatedStore {
    async fn load(&self) -> Result<Loaded> {
        self.wait().await;
        let mut loaded = Loaded::default();
        self.world.kept(|kept| {
            for kept in kept.values() {
                match &kept.ended {
                    Some(job) => {
                        let (record, job) = (kept.record.clone(), job.clone());
                        loaded.ended.push(Ended { record, job, log_bytes: 1 });
                    }
                    None => {
                        let last_sequence = kept.log.last().map_or(0, |batch| batch.last_sequence());
                        loaded.unfinished.push((kept.record.clone(), last_sequence));
                    }
                }
            }
        });
        Ok(loaded)
    }

    async fn create(&self, job_id: &JobId, record: &JobRecord) -> Result<()> {
        self.wait().await;
        self.fail("create")?;
        let new = Kept { record: record.clone(), ..Kept::default() };
        self.world.kept(|kept| kept.insert(job_id.clone(), new));
        self.wait().await;
        Ok(())
    }

    async fn append(&self, job_id: &JobId, batches: &[Arc<Batch>]) -> Result<()> {
        self.write("append", job_id, |kept| {
            let mut next = kept.log.last().map_or(0, |batch| batch.last_sequence()) + 1;
            assert!(kept.ended.is_none(), "{job_id}: events behind the end");
            for batch in batches {
                assert_eq!(batch.first_sequence(), next, "{job_id}: a gap, or a repeat");
                next = batch.last_sequence() + 1;
                kept.log.push(batch.clone());
            }
        })
        .await
    }

    async fn finish(&self, job_id: &JobId, job: &Job) -> Result<u64> {
        self.write("finish", job_id, |kept| {
            kept.ended = Some(job.clone());
            1
        })
        .await
    }

    /// Nothing of a simulation is that long.
    async fn put_result(&self, job_id: &JobId, _: bytes::Bytes) -> Result<()> {
        self.write("put_result", job_id, |_| ()).await
    }

    async fn result(&self, job_id: &JobId, _: u64, _: usize) -> Result<bytes::Bytes> {
        Err(JobId::not_found(job_id.as_str()))
    }

    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn Reader>> {
        Ok(Box::new(SimulatedReader { store: self.clone(), job_id: job_id.clone() }))
    }

    async fn job(&self, job_id: &JobId) -> Result<StoredJob> {
        self.wait().await;
        self.fail("job")?;
        let found = self.world.kept(|kept| {
            kept.get(job_id).map(|kept| StoredJob { record: kept.record.clone(), ended: kept.ended.clone() })
        });
        found.ok_or_else(|| JobId::not_found(job_id.as_str()))
    }

    async fn delete(&self, job_id: &JobId) -> Result<()> {
        self.wait().await;
        self.fail("delete")?;
        let _going = self.world.remove(job_id);
        self.wait().await;
        Ok(())
    }

    async fn close(&self) {}
}

struct SimulatedReader {
    store: SimulatedStore,
    job_id: JobId,
}

#[async_trait]
impl Reader for SimulatedReader {
    async fn read(&mut self, next_sequence: u32, last_sequence: u32, max_bytes: usize) -> Result<Chunk> {
        self.store.wait().await;
        self.store.fail("read")?;
        let log = self.store.world.kept(|kept| kept.get(&self.job_id).map(|kept| kept.log.clone()));
        let log = log.ok_or_else(|| JobId::not_found(self.job_id.as_str()))?;
        let mut bytes = 0;
        let batches = log
            .into_iter()
            .filter(|batch| batch.last_sequence() >= next_sequence)
            .take_while(|batch| {
                let takes = bytes < max_bytes && batch.first_sequence() <= last_sequence;
                bytes += batch.bytes().len();
                takes
            })
            .collect();
        Ok(Chunk { batches, damage: None })
    }
}
