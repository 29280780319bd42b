//! A simulated store that is slow, fails, and crashes between storing data and confirming it. Beneath it is a real store, which
//! checks claims, gaps and repeated appends.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{backing_store::BackingStore, world::World};
use crate::{
    error::{Error, Reason, Result},
    journal::{
        BatchAppend, Catalogue, Claim, ClaimedJobs, CreateOutcome, Damage, EventLog, JobId, JobOverview,
        Lease, LogHead, LogReader, Query, ReadChunk, Retention, StoredJob, WriteRefusal,
    },
    pb::{Job, JobState, storage::JobRecord},
    principal::Principal,
};

#[derive(Clone)]
pub(super) struct SimulatedStore {
    world: Arc<World>,
    /// The gateway that uses the store.
    gateway: u32,
    store: Arc<dyn BackingStore>,
    is_faulty: bool,
    /// The failure rate in percent.
    failures: u64,
    longest_wait: u64,
    /// The owner whose events are never accepted.
    never_takes: Option<Principal>,
}

impl SimulatedStore {
    pub(super) fn new(world: Arc<World>, gateway: u32, is_faulty: bool) -> Self {
        let failures = if is_faulty { *[0, 0, 3, 25].get(world.below(4) as usize).unwrap_or(&0) } else { 0 };
        let longest_wait = 1 + world.below(if is_faulty { 40 } else { 3 });
        let store = world.store();
        Self { world, gateway, store, is_faulty, failures, longest_wait, never_takes: None }
    }

    /// Makes the store never accept an event of this owner.
    pub(super) fn never_taking(self, whose: Principal) -> Self {
        Self { never_takes: Some(whose), ..self }
    }

    /// Waits while its gateway is cut off from it.
    async fn reach(&self) {
        while let Some(until) = self.world.reaches(self.gateway).filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    async fn wait(&self) {
        self.reach().await;
        if self.is_faulty {
            self.world.may_fill_the_disk();
        }
        // Occasionally the disk takes much longer.
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

    /// Runs an operation between random delays and failures. The gateway may crash at any await, before or after the data is
    /// stored, and an operation that fails may have stored its data all the same.
    async fn around<T, E: From<Error>>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.wait().await;
        self.fail(what)?;
        let done = work.await;
        self.wait().await;
        if what != "create" && self.world.percent(self.failures / 4) {
            self.world.note(format_args!("store: {what} is done, and not said"));
            return Err(Error::new(Reason::StoreUnavailable, "simulated").into());
        }
        done
    }
}

#[async_trait]
impl Catalogue for SimulatedStore {
    async fn open(&self) -> Result<Vec<Damage>> {
        self.wait().await;
        if !self.world.opens() {
            return Ok(Vec::new());
        }
        let damage = self.store.open().await?;
        let is_tail = |damage: &Damage| damage.job_id.is_none() && damage.what.contains("cut off");
        assert!(damage.iter().all(is_tail), "nobody has damaged anything: {damage:?}");
        Ok(damage)
    }

    async fn create(&self, record: &JobRecord, lease: &Lease) -> Result<CreateOutcome> {
        self.around("create", self.store.create(record, lease)).await
    }

    async fn by_key(&self, owner: &Principal, key: &str, digests: &[&[u8]]) -> Result<Option<JobId>> {
        self.reach().await;
        self.store.by_key(owner, key, digests).await
    }

    async fn get(&self, job_id: &JobId) -> Result<JobOverview> {
        self.reach().await;
        self.store.get(job_id).await
    }

    async fn read(&self, job_id: &JobId) -> Result<StoredJob> {
        self.around("read", self.store.read(job_id)).await
    }

    async fn list(&self, query: &Query) -> Result<Vec<Job>> {
        self.reach().await;
        self.store.list(query).await
    }

    async fn set_state(&self, claim: &Claim, state: JobState) -> Result<(), WriteRefusal> {
        self.reach().await;
        self.store.set_state(claim, state).await
    }

    async fn end(&self, claim: &Claim, job: &Job) -> Result<u64, WriteRefusal> {
        self.around("end", self.store.end(claim, job)).await
    }

    async fn give_up(&self, claim: &Claim, job: &Job) -> Result<(), WriteRefusal> {
        self.around("give_up", self.store.give_up(claim, job)).await
    }

    async fn claim(&self, lease: &Lease, limit: usize) -> Result<ClaimedJobs> {
        self.wait().await;
        self.fail("claim")?;
        let claimed = self.store.claim(lease, limit).await?;
        assert!(claimed.damage.is_empty(), "nobody has damaged anything: {:?}", claimed.damage);
        Ok(claimed)
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.around("renew", self.store.renew(lease)).await
    }

    async fn expired(&self, retention: &Retention, limit: usize) -> Result<Vec<JobId>> {
        self.reach().await;
        self.store.expired(retention, limit).await
    }

    async fn delete(&self, job_id: &JobId) -> Result<()> {
        self.wait().await;
        self.fail("delete")?;
        let _going = self.world.remove(job_id);
        self.store.delete(job_id).await?;
        self.wait().await;
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        self.reach().await;
        self.store.check().await
    }

    async fn close(&self) {}
}

#[async_trait]
impl EventLog for SimulatedStore {
    async fn append(&self, appends: Vec<BatchAppend>) -> Vec<Result<(), WriteRefusal>> {
        self.wait().await;
        let mut answers = Vec::new();
        for append in appends {
            let owner = self.store.get(&append.claim.job_id).await.ok().map(|known| known.owner);
            if self.never_takes.is_some() && owner == self.never_takes {
                answers.push(Err(Error::new(Reason::StoreUnavailable, "simulated").into()));
                continue;
            }
            if let Err(error) = self.fail("append") {
                answers.push(Err(error.into()));
                continue;
            }
            let answer = self.store.append(vec![append]).await.pop();
            let answer = answer.unwrap_or_else(|| Err(Error::internal("no answer").into()));
            answers.push(match self.world.percent(self.failures / 4) {
                true => Err(Error::new(Reason::StoreUnavailable, "simulated").into()),
                false => answer,
            });
        }
        self.wait().await;
        answers
    }

    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(SimulatedReader { store: self.clone(), reader: self.store.reader(job_id).await? }))
    }

    async fn changed(&self, job_id: &JobId, last_sequence: u32) -> Result<LogHead> {
        self.reach().await;
        self.store.changed(job_id, last_sequence).await
    }

    async fn put_result(&self, claim: &Claim, text: bytes::Bytes) -> Result<(), WriteRefusal> {
        self.around("put_result", self.store.put_result(claim, text)).await
    }

    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<bytes::Bytes> {
        self.reach().await;
        self.store.result(job_id, from, max_bytes).await
    }
}

struct SimulatedReader {
    store: SimulatedStore,
    reader: Box<dyn LogReader>,
}

#[async_trait]
impl LogReader for SimulatedReader {
    async fn read(&mut self, next_sequence: u32, last_sequence: u32, max_bytes: usize) -> Result<ReadChunk> {
        self.store.wait().await;
        self.store.fail("read")?;
        self.reader.read(next_sequence, last_sequence, max_bytes).await
    }
}
