//! What every door is given: where the gateway is reached, the bounds of requests, and which door a request came through.

use std::net::SocketAddr;

use super::{Config, mcp_path::PATH};
use crate::{
    job::ServerInfo,
    pb::{Door, Limits},
};

/// A request extension that names the door through which the request came.
#[derive(Clone, Copy, Debug)]
pub struct ThroughDoor(pub Door);

/// The size limits that the doors enforce.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorLimits {
    max_body_bytes: u32,
    max_message_bytes: u32,
}

impl DoorLimits {
    pub(super) fn from_config(config: &Config) -> Self {
        Self { max_body_bytes: config.max_body_bytes, max_message_bytes: config.max_message_bytes }
    }

    /// Returns all size limits of the gateway, those of `info` included.
    pub(super) fn with(self, info: &ServerInfo) -> Limits {
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
        self.mcp.map(|address| format!("http://{address}{}", PATH))
    }
}
