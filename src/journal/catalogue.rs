//! What the journal asks of a catalogue: which jobs there are, whose they are, how they are, and who runs them.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Damage, JobId, Retention, Unfinished};
use crate::{
    error::{Error, Reason, Result},
    pb::{Job, JobState, storage::JobRecord},
    principal::Principal,
};

/// A process that runs jobs, as leases name it: no two processes have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(Arc<str>);

impl Holder {
    /// A new one.
    ///
    /// # Errors
    /// [`Reason::Internal`] when the system has no random numbers.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 8];
        crate::ambient::fill_random(&mut bytes).map_err(Error::internal)?;
        Ok(Self(data_encoding::HEXLOWER.encode(&bytes).into()))
    }
}

/// The right to write to a job. The epoch rises whenever somebody takes the job over; what is written under an older one is
/// refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job_id: JobId,
    /// From 1.
    pub epoch: u64,
}

/// For how long, from now, a holder has its jobs to itself.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Who.
    pub holder: Holder,
    /// How long. After this anybody may claim the job.
    pub time: Duration,
}

/// What became of a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// A new job, held by whoever asked.
    New(Claim),
    /// The owner's earlier job under that idempotency key.
    Existing(JobId),
}

/// Why a write was refused.
#[derive(Debug)]
pub enum Refusal {
    /// Somebody else has claimed the job since, or its log does not end where the write begins.
    Stale,
    /// There is no such job, or it has ended.
    Gone,
    /// Nothing is known to be stored; the same write may succeed later, and is stored once however often it is made.
    Unavailable(Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => formatter.write_str("another gateway has taken the job over"),
            Self::Gone => formatter.write_str("the job has ended or was removed"),
            Self::Unavailable(error) => write!(formatter, "{error}"),
        }
    }
}

/// Why a job cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing of it is left in the store but that it was accepted, or its log could not be written to its end.
    Lost,
    /// The store does not give it now, and is asked again.
    Unreadable,
}

/// What a catalogue knows of a job without reading its log.
#[derive(Clone, Debug)]
pub struct Known {
    /// Whose it is.
    pub owner: Principal,
    /// Its state, as far as that is stored.
    pub state: JobState,
    /// The last event that is stored.
    pub last_sequence: u32,
    /// Whether it has ended and is marked so.
    pub is_ended: bool,
    /// Why it cannot be read.
    pub trouble: Option<Trouble>,
}

/// A job as the store keeps it.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// What was accepted.
    pub record: JobRecord,
    /// The terminal job, once it ended.
    pub ended: Option<Job>,
}

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

/// Which jobs a page of a listing holds.
#[derive(Clone, Debug)]
pub struct Query {
    /// Whose jobs.
    pub owner: Principal,
    /// Which of them.
    pub filter: Filter,
    /// Only those before this one; `None`: from the newest on.
    pub before: Option<JobId>,
    /// At most so many.
    pub limit: usize,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Jobs that are now the claimer's.
    pub jobs: Vec<Unfinished>,
    /// What of them, or of others on the way, cannot be read.
    pub damage: Vec<Damage>,
}

/// Keeps what is known of jobs. Memory, files and later a database answer one contract suite (`journal::contract`). Where
/// nothing else is said, errors are [`Reason::StoreUnavailable`]: nothing is known to be stored, and the same call may succeed
/// later.
#[async_trait]
pub trait Catalogue: Send + Sync + 'static {
    /// Makes it ready. Called once, first. Answers with what is damaged; one job's damage, or one file that cannot be read, is no
    /// error.
    async fn open(&self) -> Result<Vec<Damage>>;

    /// Stores a new job of its owner's, held under `lease`, or finds the owner's earlier one under the same idempotency key, in
    /// one step: of two at once under one key one is new. The key lives as long as the job.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`] where the key stands for another request.
    async fn create(&self, record: &JobRecord, lease: &Lease) -> Result<Created>;

    /// The owner's job under an idempotency key. `digests`: any of them is the same request.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`] where the key stands for another request.
    async fn by_key(&self, owner: &Principal, key: &str, digests: &[&[u8]]) -> Result<Option<JobId>>;

    /// What is known of a job, without reading it.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`].
    async fn get(&self, job_id: &JobId) -> Result<Known>;

    /// Reads a job's record, and its end if there is one.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::DataLoss`].
    async fn read(&self, job_id: &JobId) -> Result<StoredJob>;

    /// A page of an owner's jobs, newest first, as summaries. Costs what the page costs and what its filter passes over, whatever
    /// others have.
    async fn list(&self, query: &Query) -> Result<Vec<Job>>;

    /// Notes a held job's state, for listings.
    async fn set_state(&self, claim: &Claim, state: JobState) -> Result<(), Refusal>;

    /// Marks a job as ended whose last event is stored. Answers with the bytes that its log and its answer take. Made again, it
    /// changes nothing.
    async fn end(&self, claim: &Claim, job: &Job) -> Result<u64, Refusal>;

    /// Marks a job as ended whose log cannot be written any more: it is [`Trouble::Lost`] from here on.
    async fn give_up(&self, claim: &Claim, job: &Job) -> Result<(), Refusal>;

    /// Takes over up to `limit` unfinished jobs that nobody holds: their epochs rise. A job that cannot be read now stays
    /// unclaimed, is [`Trouble::Unreadable`], and is left out for the time of a lease.
    async fn claim(&self, lease: &Lease, limit: usize) -> Result<Claimed>;

    /// Gives all that the holder holds the lease's time from now on.
    async fn renew(&self, lease: &Lease) -> Result<()>;

    /// Up to `limit` ended jobs that retention no longer allows: first what is too old, then the oldest of whoever has most.
    async fn expired(&self, retention: &Retention, limit: usize) -> Result<Vec<JobId>>;

    /// Removes a job and its events. Readers that are at it may still finish. Removing what is not there changes nothing.
    async fn delete(&self, job_id: &JobId) -> Result<()>;

    /// Whether it takes anything now; leaves nothing behind.
    async fn check(&self) -> Result<()>;

    /// Gives everything up; nothing is called afterwards.
    async fn close(&self);
}

/// A job that cannot be read, as its reader is told.
pub(super) fn unreadable(job_id: &JobId, trouble: Trouble) -> Error {
    let error = match trouble {
        Trouble::Unreadable => Error::new(
            Reason::StoreUnavailable,
            "the job cannot be read from the store now; that is tried again, ask later",
        ),
        Trouble::Lost => Error::new(
            Reason::DataLoss,
            "the store was damaged and this job is lost: it was accepted, and may have run; what was found of it is kept beside the store, in `damaged`",
        ),
    };
    error.for_job(job_id.as_str())
}
