//! The doors: one port for gRPC, grpc-web, SSE and JSON, one for MCP. They parse, translate and follow; they decide
//! nothing.
//!
//! *Lives here:* the listener, its limits and deadlines, who may call from where, and the stream of a job's
//! events that both doors adapt. *May import:* `job` and rank 0. *May not:* import anything below `job`; the
//! doors may not import each other.

mod access;
mod capacity;
mod config;
mod connection;
mod connections;
mod departed;
mod events;
mod form;
pub mod grpc;
pub mod http;
mod listener;
pub mod mcp;
mod problem;
mod requests;
mod taking;
mod timed_body;
mod whole_body;

pub use access::{Headers, Origins};
pub use capacity::Capacity;
pub use config::{AuthConfig, Config};
pub use listener::Server;

use std::net::SocketAddr;

use axum::Router;

use crate::{
    job::{Desk, JobService, ServerInfo},
    pb::{Door, Limits},
};

/// Says through which of the doors on the port a request came.
#[derive(Clone, Copy, Debug)]
pub struct ThroughDoor(pub Door);

/// What the doors take at most.
#[derive(Clone, Copy, Debug)]
struct DoorLimits {
    max_body_bytes: u32,
    max_message_bytes: u32,
}

impl DoorLimits {
    fn from_config(config: &Config) -> Self {
        Self { max_body_bytes: config.max_body_bytes, max_message_bytes: config.max_message_bytes }
    }

    /// All limits of the gateway.
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

/// Where the two ports are.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Of gRPC, grpc-web, SSE and JSON.
    pub api: SocketAddr,
    /// Of MCP; `None` where it is off.
    pub mcp: Option<SocketAddr>,
}

impl Addresses {
    /// Where MCP is, as clients take it.
    pub fn mcp_url(&self) -> Option<String> {
        self.mcp.map(|address| format!("http://{address}{}", mcp::PATH))
    }
}

/// The doors of the first port: gRPC, grpc-web, JSON and SSE.
pub fn doors(service: &JobService, desk: &Desk, config: &Config, addresses: Addresses) -> Router {
    let http = http::router((service.clone(), desk.clone()), config, addresses);
    http.merge(grpc::router((service.clone(), desk.clone()), config, addresses))
}
