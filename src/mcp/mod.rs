//! The tools over MCP: the server's handler, for clients and for the gateway's own agent, that agent's client, and the
//! clients of outside servers.
//!
//! *Lives here:* the handler, the clients, the lenient reading of messages, [`ToolRunner`], by which a call becomes a
//! job.
//! *May import:* `tool`, `engine`, rank 0. *May not:* know models, jobs, doors.

mod client;
mod elicit;
mod followed;
mod handler;
mod lines;
mod misread;
mod offered;
mod outcome;
mod outside;
mod prompts;
mod resources;
mod run;
mod runner;
mod spec;
mod watching;

pub use client::{AgentTools, OutsideTool, Own};
pub use handler::McpHandler;
pub use lines::Lines;
pub use outside::{OutsideServer, OutsideServers};
pub use runner::{Asked, OutsideCall, ToolRunner, Watched};
