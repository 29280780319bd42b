//! Job records and the event log: append, read, follow; the stores behind it.
//!
//! An event is stored before anybody sees it. It is encoded once, in [`Appender::append`]; every reader of
//! every door shares those bytes. The stored unit is a [`Batch`] (up to 64 KiB or 4 ms), because one record
//! per event would cost more than the wire.
//!
//! A store has two halves: a [`Catalogue`] knows which jobs there are, whose they are and who runs them; an [`EventLog`] keeps
//! their events. Nothing outside a store knows where a record lives, and nothing takes it that every unfinished job is this
//! process's: a job is written under a [`Claim`], whose epoch the store checks.
//!
//! *Lives here:* the journal, batches, the live tail, followers, retention, the stores and their one contract
//! suite. *May import:* rank 0. *May not:* know agents or doors.

mod batch;
mod catalogue;
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
mod id;
mod index;
mod live;
mod mark;
mod memory;
mod read_cache;
mod recovery;
mod room;

pub use batch::{Batch, Rendered};
pub use catalogue::{
    Catalogue, Claim, Claimed, Created, Filter, Holder, Known, Lease, Query, Refusal, StoredJob, Trouble,
};
pub use config::{Config, Durability, Kind, Retention};
pub use embedded::EmbeddedStore;
#[cfg(test)]
pub(crate) use embedded::lossy::LossyDisk;
#[cfg(any(test, fuzzing))]
pub(crate) use embedded::{read_catalogue, read_job_file};
pub use entry::summary;
pub use event_log::{Append, Chunk, EventLog, Head, Reader};
pub use follower::{Follower, Slice};
pub use handle::{Journal, Page, Parts, Submitted};
pub use id::JobId;
use id::MAX_SEQUENCE;

pub use live::{Appender, Counters, Stored};
pub use memory::MemoryStore;
pub use recovery::{Damage, Unfinished};
