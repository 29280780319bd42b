//! Job records and the event log: append, read, follow; the stores behind it.
//!
//! An event is stored before anybody sees it. It is encoded once, in [`Appender::append`]; every reader of
//! every door shares those bytes. The stored unit is a [`Batch`] (up to 64 KiB or 2 ms), because one record
//! per event would cost more than the wire.
//!
//! *Lives here:* the journal, batches, the live tail, followers, retention, the stores and their one contract
//! suite. *May import:* rank 0. *May not:* know agents or doors.

mod batch;
mod config;
#[cfg(test)]
mod contract;
mod embedded;
mod encode;
mod follower;
mod handle;
mod id;
mod index;
mod live;
mod mark;
mod memory;
mod read_cache;
mod recovery;
mod store;

pub use batch::{Batch, Rendered};
pub use config::{Config, Durability, Kind, Retention};
pub use embedded::EmbeddedStore;
#[cfg(any(test, fuzzing))]
pub(crate) use embedded::{read_catalogue, read_job_file};
pub use follower::{Follower, Slice};
pub use handle::{Journal, Submitted};
pub use id::JobId;
use id::MAX_SEQUENCE;
pub use index::Filter;
pub use live::{Appender, Counters, Stored};
pub use memory::MemoryStore;
pub use recovery::{Damage, Unfinished};
pub use store::{Chunk, Ended, Loaded, Reader, Store, StoredJob};
