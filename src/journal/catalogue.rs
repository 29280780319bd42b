//! The catalogue that the journal requires of a store: which jobs exist, who owns them, their states, and who runs them.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Claim, Damage, JobId, Retention, Unfinished};
use crate::{
    error::{Error, Reason, Result},
    pb::{Job, JobState, storage::JobRecord},
    principal::Principal,
};

/// Identifies, in leases, a process that runs jobs. No two processes have the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(Arc<str>);

impl Holder {
    /// Generates a new, random holder.
    ///
    /// # Errors
    /// [`Reason::Internal`] if the system provides no random numbers.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 8];
        crate::ambient::fill_random(&mut bytes).map_err(Error::internal)?;
        Ok(Self(data_encoding::HEXLOWER.encode(&bytes).into()))
    }
}

/// A lease: for how long, from now on, a holder exclusively holds its jobs.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The holder.
    pub holder: Holder,
    /// The duration. Once it has elapsed without renewal, any process may claim the job.
    pub time: Duration,
}

/// The result of creating a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    /// A new job, held by the caller.
    New(Claim),
    /// The earlier job of the owner with the same idempotency key.
    Existing(JobId),
}

/// Why a write was refused.
#[derive(Debug)]
pub enum WriteRefusal {
    /// Another holder has claimed the job since, or the log does not end where the write begins.
    Stale,
    /// The job does not exist or has ended.
    Gone,
    /// The store cannot confirm the write. The same write may succeed later, and is stored once however often it is made.
    Unavailable(Error),
}

impl fmt::Display for WriteRefusal {
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
pub enum StorageFault {
    /// Nothing is left of the job but the fact that it was accepted, or its log could not be written to the end.
    Lost,
    /// The store cannot read the job at the moment; reading is tried again later.
    Unreadable,
}

/// What a catalogue knows of a job without reading its log.
#[derive(Clone, Debug)]
pub struct JobOverview {
    /// The owner of the job.
    pub owner: Principal,
    /// Its last stored state.
    pub state: JobState,
    /// The sequence of its last stored event.
    pub last_sequence: u32,
    /// Whether it is marked as ended.
    pub is_ended: bool,
    /// Why it cannot be read, if so.
    pub fault: Option<StorageFault>,
}

/// A job as the store keeps it.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// The job as it was accepted.
    pub record: JobRecord,
    /// The terminal job, if it has ended.
    pub ended: Option<Job>,
}

/// Which jobs a listing includes. An empty field matches every job.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Jobs in one of these states.
    pub states: Vec<JobState>,
    /// Jobs with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Jobs of this conversation.
    pub conversation_id: String,
    /// Jobs whose title, or one of whose labels (`key:value`), contains this text, whatever its case.
    pub text: String,
}

/// Which jobs a page of a listing holds.
#[derive(Clone, Debug)]
pub struct Query {
    /// The owner of the jobs.
    pub owner: Principal,
    /// Which of the jobs to include.
    pub filter: Filter,
    /// Only jobs older than this one; `None` starts at the newest.
    pub before: Option<JobId>,
    /// The maximum number of jobs.
    pub limit: usize,
}

/// The result of claiming jobs.
#[derive(Debug, Default)]
pub struct ClaimedJobs {
    /// Jobs that the caller now holds.
    pub jobs: Vec<Unfinished>,
    /// Damage that was found in these jobs or in others that were examined.
    pub damage: Vec<Damage>,
}

/// Stores what is known of jobs. All implementations (memory, files and later a database) must pass one contract suite
/// (`journal::contract`). Unless stated otherwise, errors are [`Reason::StoreUnavailable`]: the store cannot confirm the call,
/// which may succeed if it is retried.
#[async_trait]
pub trait Catalogue: Send + Sync + 'static {
    /// Opens the store. Must be called once, before any other method. Returns the damage that was found; damage to one job, or
    /// one unreadable file, is not an error.
    async fn open(&self) -> Result<Vec<Damage>>;

    /// Stores a new job, held under `lease`, or returns the owner's earlier job with the same idempotency key. This is one atomic
    /// step: of two concurrent calls with one key only one creates a job. A key is kept until its job is deleted, or ends because
    /// its clients disconnected.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`] if the key belongs to a different request.
    async fn create(&self, record: &JobRecord, lease: &Lease) -> Result<CreateOutcome>;

    /// Returns the owner's job with an idempotency key. A job that was created with any of `digests` counts as the same request.
    ///
    /// # Errors
    /// [`Reason::IdempotencyConflict`] if the key belongs to a different request.
    async fn by_key(&self, owner: &Principal, key: &str, digests: &[&[u8]]) -> Result<Option<JobId>>;

    /// Returns what is known of a job, without reading its log.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`].
    async fn get(&self, job_id: &JobId) -> Result<JobOverview>;

    /// Reads the record of a job, and its terminal job if it has ended.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::DataLoss`].
    async fn read(&self, job_id: &JobId) -> Result<StoredJob>;

    /// Returns a page of the jobs of an owner as summaries, newest first. The cost depends on the page and the jobs that the
    /// filter skips, not on the jobs of other owners.
    async fn list(&self, query: &Query) -> Result<Vec<Job>>;

    /// Records the state of a held job for listings.
    async fn set_state(&self, claim: &Claim, state: JobState) -> Result<(), WriteRefusal>;

    /// Marks a job as ended once its last event is stored, and returns the bytes that its log and its stored result take.
    /// Idempotent.
    async fn end(&self, claim: &Claim, job: &Job) -> Result<u64, WriteRefusal>;

    /// Marks a job whose log can no longer be written as ended; from then on it is [`StorageFault::Lost`].
    async fn give_up(&self, claim: &Claim, job: &Job) -> Result<(), WriteRefusal>;

    /// Takes over up to `limit` unfinished jobs that nobody holds, raising their epochs. A job that cannot be read stays
    /// unclaimed, becomes [`StorageFault::Unreadable`], and is skipped for the duration of a lease.
    async fn claim(&self, lease: &Lease, limit: usize) -> Result<ClaimedJobs>;

    /// Extends the lease of every job of the holder to the duration of `lease` from now on.
    async fn renew(&self, lease: &Lease) -> Result<()>;

    /// Returns up to `limit` ended jobs that retention no longer allows: first jobs that are too old or exceed the bounds of
    /// their owner, then the oldest jobs of whichever owner has the most.
    async fn expired(&self, retention: &Retention, limit: usize) -> Result<Vec<JobId>>;

    /// Removes a job and its events. Readers that are already open may still read to the end. Removing a job that does not exist
    /// has no effect.
    async fn delete(&self, job_id: &JobId) -> Result<()>;

    /// Checks that the store accepts writes now. Leaves no data behind.
    async fn check(&self) -> Result<()>;

    /// Releases all resources. No method may be called afterwards.
    async fn close(&self);
}

/// Returns the error that readers of an unreadable job receive.
pub(super) fn unreadable(job_id: &JobId, fault: StorageFault) -> Error {
    let error = match fault {
        StorageFault::Unreadable => Error::new(
            Reason::StoreUnavailable,
            "the job cannot be read from the store now; that is tried again, ask later",
        ),
        StorageFault::Lost => Error::new(
            Reason::DataLoss,
            "the store was damaged and this job is lost: it was accepted, and may have run; what was found of it is kept beside the store, in `damaged`",
        ),
    };
    error.for_job(job_id.as_str())
}
