//! The doors: one port for gRPC, grpc-web, SSE and JSON, one for MCP. They parse, translate and follow; they decide
//! nothing.
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
pub mod mcp;
mod problem;
mod taking;
mod timed_body;

pub use access::{Headers, Origins};
pub use config::{AuthConfig, Config};
pub use listener::Server;

use std::net::SocketAddr;

use axum::Router;

use crate::{
    job::{Desk, JobService},
    pb::Door,
};

/// Says through which of the doors on the port a request came.
#[derive(Clone, Copy, Debug)]
pub struct ThroughDoor(pub Door);

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
