//! The `server` and `auth` sections of the configuration.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the gateway listens, for whom, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The address to bind. Anything but loopback requires `allow_anonymous_remote` as long as there is no authentication.
    pub host: String,
    /// The port of the API; 0 lets the system choose.
    pub port: u16,
    /// The port of the MCP server; 0 lets the system choose, null turns it off.
    pub mcp_port: Option<u16>,
    /// The most concurrent MCP sessions; only clients of versions before 2026-07-28 have sessions.
    pub mcp_max_sessions: u32,
    /// The most sessions of one caller; null sets no separate bound. Beyond a bound, a session of the caller that has most is
    /// closed.
    pub mcp_max_sessions_per_caller: Option<u32>,
    /// The time after which an unused MCP session is closed, in seconds. A running call counts as use.
    pub mcp_session_idle_seconds: u32,
    /// Confirms that anyone who can reach the address may use the gateway.
    pub allow_anonymous_remote: bool,
    /// Exact origins of pages that may call, such as `https://app.example`; `loopback` means every page of this machine.
    pub cors_origins: Vec<String>,
    /// Additional headers that pages may send.
    pub cors_headers: Vec<String>,
    /// Host names that requests may name besides loopback ones; `*` allows every name.
    pub allowed_hosts: Vec<String>,
    /// The largest JSON or MCP body, in bytes.
    pub max_body_bytes: u32,
    /// The largest gRPC message in either direction, in bytes.
    pub max_message_bytes: u32,
    /// The longest time for the first request of a connection, for later headers, and for a body, in seconds.
    pub request_timeout_seconds: u32,
    /// The interval of heartbeats on a silent stream, in seconds.
    pub heartbeat_seconds: u32,
    /// The time after which a connection, or an HTTP/2 stream, is closed if its client reads no data, in seconds.
    pub stall_timeout_seconds: u32,
    /// The most connections of both ports together. Beyond it the longest idle one is closed; if none is idle, a new
    /// connection is told to retry, and probes are answered.
    pub max_connections: u32,
    /// The most requests in progress, each an HTTP/2 stream or an HTTP/1.1 exchange. The last quarter is reserved for callers
    /// that have none; beyond that a reader's stream of the caller that has most ends for a caller that has fewer.
    pub max_streams: u32,
    /// The most requests in progress of one caller; null sets no separate bound.
    pub max_streams_per_caller: Option<u32>,
    /// The time between reporting "not ready" and refusing jobs, for load balancers, in seconds.
    pub shutdown_delay_seconds: u32,
    /// The grace period that running jobs have at shutdown, in seconds.
    pub shutdown_grace_seconds: u32,
    /// Whether `/` is the console, a page to run and look at jobs, and `/docs` the reference of the API; without it a short page names the doors.
    pub console: bool,
    /// Whether paths and bodies of the earlier gateway are served as its clients know them.
    pub compatibility: bool,
}

impl Default for ServerConfig {
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
            console: true,
            compatibility: true,
        }
    }
}

impl ServerConfig {
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

/// How callers are identified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The header in which an authenticating proxy names the caller. Unset means a single caller. Only for a gateway that
    /// cannot be reached except through that proxy.
    pub caller_header: Option<String>,
}
