//! The tools over MCP: the server's handler, for clients and for the gateway's own agent, that agent's client, and the
//! clients of outside servers.
//!
//! *Lives here:* the handler, the clients, the lenient reading of messages, [`ToolRunner`], by which a call becomes a
//! job.
//! *May import:* `tool`, `engine`, rank 0. *May not:* know models, jobs, doors.

mod call_followers;
mod client;
mod elicitation;
mod external_call;
mod external_servers;
mod handler;
mod line_transport;
mod misread_requests;
mod notifications;
mod offered_tools;
mod outcome;
mod prompts;
mod resources;
mod run;
mod runner;
mod server;
mod spec;
mod subscriptions;

pub(crate) use client::{AgentTools, InProcessClient};
pub(crate) use external_call::ExternalTool;
pub(crate) use external_servers::{ExternalServer, ExternalServers};
pub(crate) use line_transport::LineTransport;
pub(crate) use runner::{InboundCall, JobQuestion, JobUpdate, ToolRunner};
pub(crate) use server::McpHandler;
