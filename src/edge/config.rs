//! The `server` section.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the gateway listens, for whom, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address to bind. Anything but loopback wants `allow_anonymous_remote` while there is no
    /// authentication.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
    /// The port of the MCP server; 0 lets the system choose, null turns it off.
    pub mcp_port: Option<u16>,
    /// MCP sessions at the same time; only clients of versions before 2026-07-28 have sessions.
    pub mcp_max_sessions: u32,
    /// Those of one caller; null: no bound of its own. Where there are too many, one of whoever has most makes room.
    pub mcp_max_sessions_per_caller: Option<u32>,
    /// An MCP session that nobody uses for this long is ended, in seconds. A call that runs is a use.
    pub mcp_session_idle_seconds: u32,
    /// Says in words that anybody who reaches the address may use the gateway.
    pub allow_anonymous_remote: bool,
    /// Origins of pages that may call, exact, such as `https://app.example`; `loopback` means every page of
    /// this machine.
    pub cors_origins: Vec<String>,
    /// Headers that pages may send beside the usual ones.
    pub cors_headers: Vec<String>,
    /// Host names that requests may name beside loopback ones; `*` allows every name.
    pub allowed_hosts: Vec<String>,
    /// The largest JSON body, in bytes.
    pub max_body_bytes: u32,
    /// The largest gRPC message, in and out, in bytes.
    pub max_message_bytes: u32,
    /// The longest time for the first request of a connection, for later headers, and for a body, in seconds.
    pub request_timeout_seconds: u32,
    /// A silent stream carries a sign of life this often, in seconds.
    pub heartbeat_seconds: u32,
    /// A connection whose client takes no data for this long is closed, a stream of HTTP/2 reset, in seconds.
    pub stall_timeout_seconds: u32,
    /// Connections at the same time, of both ports together. Beyond it the one that was idle for longest is let go; where none is,
    /// a further one is told to come back, and probes are answered.
    pub max_connections: u32,
    /// Requests in progress, each a stream of HTTP/2 or an exchange of HTTP/1.1. The last quarter is for callers who have none;
    /// beyond that a reader's stream of whoever has most ends for a caller who has fewer.
    pub max_streams: u32,
    /// Those of one caller; null: no bound of its own.
    pub max_streams_per_caller: Option<u32>,
    /// The time between "not ready" and refusing jobs, for load balancers, in seconds.
    pub shutdown_delay_seconds: u32,
    /// The time that running jobs have to end at a shutdown, in seconds.
    pub shutdown_grace_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 5006,
            mcp_port: Some(8006),
            mcp_max_sessions: 1000,
            mcp_max_sessions_per_caller: None,
            mcp_session_idle_seconds: 1800,
            allow_anonymous_remote: false,
            cors_origins: vec!["loopback".into()],
            cors_headers: Vec::new(),
            allowed_hosts: Vec::new(),
            max_body_bytes: 1024 * 1024,
            max_message_bytes: 4 * 1024 * 1024,
            request_timeout_seconds: 30,
            heartbeat_seconds: 15,
            stall_timeout_seconds: 60,
            max_connections: 16_000,
            max_streams: 32_768,
            max_streams_per_caller: None,
            shutdown_delay_seconds: 0,
            shutdown_grace_seconds: 30,
        }
    }
}

impl Config {
    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds.into())
    }

    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds.into())
    }

    pub(super) fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout_seconds.into())
    }
}

/// Who callers are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The header in which a proxy that has authenticated the caller names it. Unset: there is one caller. Only for a
    /// gateway that nobody reaches but by that proxy.
    pub caller_header: Option<String>,
}
