//! Job records and the event log: append, read, follow, and the stores behind them.
//!
//! An event is stored before any reader sees it. It is encoded once, in [`Appender::append`], and every reader, over whichever
//! door, shares those bytes. The stored unit is a [`EventBatch`] (up to 64 KiB, or what arrives within 4 ms), because one record per
//! event would cost more than sending it.
//!
//! A store has two halves: a [`Catalogue`] knows which jobs exist, who owns them and who runs them; an [`EventLog`] keeps their
//! events. No code outside a store knows where a record is kept, and none assumes that every unfinished job belongs to this
//! process: a job is written under a [`Claim`], whose epoch the store checks.
//!
//! *Lives here:* the journal, batches, the live tail, followers, retention, the stores and the contract suite that they share.
//! *May import:* rank 0. *May not:* know agents or doors.

mod batch;
mod batch_encoding;
mod catalogue;
mod claim;
mod commit_queue;
mod committer;
mod config;
#[cfg(test)]
mod contract;
mod embedded;
mod encode;
mod entry;
mod event_log;
mod follower;
mod handle;
mod high_water_mark;
mod id;
mod index;
mod live_log;
mod log_budget;
mod memory;
mod read_cache;
mod recovery;

pub use batch::{EventBatch, RenderedEvents, TextForm};
pub use catalogue::{
    Catalogue, ClaimedJobs, CreateOutcome, Filter, Holder, JobOverview, Lease, Query, StorageFault,
    StoredJob, WriteRefusal,
};
pub use claim::Claim;
pub use config::{Durability, Retention, StorageConfig, StoreKind};
#[cfg(test)]
pub(crate) use embedded::lossy::LossyDisk;
pub use embedded::{EmbeddedStore, StoreCheck, check};
#[cfg(any(test, fuzzing))]
pub(crate) use embedded::{read_catalogue, read_job_file};
pub use entry::summary;
pub use event_log::{BatchAppend, EventLog, LogHead, LogReader, ReadChunk};
pub use follower::{EventFollower, EventSlice};
pub use handle::{Journal, JournalParts, Page, SubmitOutcome};
pub use id::JobId;
use id::MAX_SEQUENCE;

pub use commit_queue::Counters;
pub use live_log::{Appender, StorageProgress};
pub use memory::MemoryStore;
pub use recovery::{Damage, Unfinished};
