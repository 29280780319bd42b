//! The doors, which are the protocol front ends: one port for gRPC, grpc-web, SSE and JSON, one for MCP. They parse,
//! translate and follow jobs; they decide nothing.
//!
//! *Lives here:* the listener, its limits and deadlines, access control by origin, host and caller, the operations that every
//! door offers (`operations.rs`), and the stream of a job's events that the gRPC and HTTP doors adapt. *May import:* `job` and rank 0. *May not:* import anything below `job`; the
//! doors may not import each other.

mod access;
mod capacity;
mod config;
mod connection_table;
mod disconnect;
mod events;
mod form;
pub mod grpc;
pub mod http;
mod listener;
pub mod mcp;
mod mcp_path;
mod operations;
mod problem;
mod request_guards;
mod requests;
mod stall_timeout_stream;
mod stall_watchdog;
mod through_door;
mod timed_body;
mod watch_jobs;
mod whole_body;

pub use access::{HeaderPolicy, OriginPolicy};
pub use capacity::Capacity;
pub use config::{AuthConfig, ServerConfig};
pub use listener::Server;
pub use operations::Addresses;
use operations::Operations;
use through_door::ThroughDoor;

use axum::Router;

use crate::job::{DirectoryService, JobService};

/// Returns the routes of the first port: gRPC, grpc-web, JSON and SSE.
pub fn doors(
    service: &JobService,
    directory_service: &DirectoryService,
    config: &ServerConfig,
    addresses: Addresses,
) -> Router {
    let operations = Operations::new(service.clone(), directory_service.clone(), config, addresses);
    http::router(operations.clone()).merge(grpc::router(operations, config.max_message_bytes as usize))
}
