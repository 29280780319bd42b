//! The doors: one port for gRPC, grpc-web, SSE and JSON. They parse, translate and follow; they decide nothing.
//!
//! *Lives here:* the listener, its limits and deadlines, who may call from where, and the stream of a job's
//! events that both doors adapt. *May import:* `job` and rank 0. *May not:* import anything below `job`; the
//! doors may not import each other.

mod access;
mod config;
mod connection;
mod events;
pub mod grpc;
pub mod http;
mod listener;
mod timed_body;

pub use access::Origins;
pub use config::Config;
pub use listener::Server;

use crate::pb::Door;

/// Says through which of the doors on the port a request came.
#[derive(Clone, Copy, Debug)]
pub struct ThroughDoor(pub Door);
