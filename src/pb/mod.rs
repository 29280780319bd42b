//! The wire types: generated messages, and a few types that are written by hand.
//!
//! *Lives here:* the messages of `proto/`, their JSON, event names, the timestamp, the stream frame. *May import:*
//! rank 0. *May not:* contain logic.

pub(crate) mod fields;
mod frame;
mod json;
mod name;
mod timestamp;

#[allow(missing_docs, clippy::all, unreachable_pub)] // generated; the proto files hold the comments
mod generated {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/conductor.gateway.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/conductor.gateway.v1.serde.rs"));
    }
    pub mod storage {
        // The module path that the generated code expects for `conductor.gateway.v1`.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/conductor.gateway.storage.v1.rs"));
        }
    }
}

pub use frame::{EventFrame, JobsFrame};
pub use generated::v1::*;
pub use json::CompactError;
pub use name::event_name;
pub use timestamp::Timestamp;

/// What the stores keep besides events (`proto/conductor/gateway/storage/v1`).
pub mod storage {
    pub use super::generated::storage::v1::*;
}

/// The compiled descriptors of every proto file, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest encoded [`JobEvent`], in bytes. Writers split text and cut results to stay below it.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// The value of `cancelled_by` for a job that was cancelled because its clients had disconnected.
pub const CANCELLED_BY_DISCONNECT: &str = "disconnect";
