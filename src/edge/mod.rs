//! The doors, which are the protocol front ends: one port for gRPC, grpc-web, SSE and JSON, one for MCP. They parse,
//! translate and follow jobs; they decide nothing.
//!
//! *Lives here:* the listener, its limits and deadlines, access control by origin, host and caller, and the stream of a job's
//! events that the gRPC and HTTP doors adapt. *May import:* `job` and rank 0. *May not:* import anything below `job`; the
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
mod problem;
mod requests;
mod stall_timeout_stream;
mod stall_watchdog;
mod timed_body;
mod whole_body;

pub use access::{HeaderPolicy, OriginPolicy};
pub use capacity::Capacity;
pub use config::{AuthConfig, Config};
pub use listener::Server;

use std::net::SocketAddr;

use axum::Router;

use crate::{
    job::{DirectoryService, JobService, ServerInfo},
    pb::{Door, Limits},
};

/// A request extension that names the door through which the request came.
#[derive(Clone, Copy, Debug)]
pub struct ThroughDoor(pub Door);

/// The size limits that the doors enforce.
#[derive(Clone, Copy, Debug)]
struct DoorLimits {
    max_body_bytes: u32,
    max_message_bytes: u32,
}

impl DoorLimits {
    fn from_config(config: &Config) -> Self {
        Self { max_body_bytes: config.max_body_bytes, max_message_bytes: config.max_message_bytes }
    }

    /// Returns all size limits of the gateway, those of `info` included.
    fn with(self, info: &ServerInfo) -> Limits {
        Limits {
            max_command_bytes: info.max_command_bytes,
            max_input_bytes: info.max_input_bytes,
            max_arguments_bytes: info.max_arguments_bytes,
            max_output_bytes: info.max_output_bytes,
            max_body_bytes: self.max_body_bytes,
            max_message_bytes: self.max_message_bytes,
        }
    }
}

/// The addresses of the two listeners.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The listener of gRPC, grpc-web, SSE and JSON.
    pub api: SocketAddr,
    /// The listener of MCP; `None` if it is disabled.
    pub mcp: Option<SocketAddr>,
}

impl Addresses {
    /// Returns the URL of the MCP endpoint, or `None` if it is disabled.
    pub fn mcp_url(&self) -> Option<String> {
        self.mcp.map(|address| format!("http://{address}{}", mcp::PATH))
    }
}

/// Returns the routes of the first port: gRPC, grpc-web, JSON and SSE.
pub fn doors(
    service: &JobService,
    directory_service: &DirectoryService,
    config: &Config,
    addresses: Addresses,
) -> Router {
    let http = http::router((service.clone(), directory_service.clone()), config, addresses);
    http.merge(grpc::router((service.clone(), directory_service.clone()), config, addresses))
}
