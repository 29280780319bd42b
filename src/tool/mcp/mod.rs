//! The catalogue over MCP: the handler for outside clients and for the gateway's own agent, and that agent's client.

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
mod spec;
mod watching;

pub use client::{AgentTools, OutsideTool, Own};
pub use handler::McpHandler;
pub use lines::Lines;
pub use outside::{OutsideServer, OutsideServers};
