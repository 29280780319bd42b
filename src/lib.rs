//! The Conductor Gateway: a task submitted through any door (gRPC, HTTP, MCP) becomes a job whose numbered events reach every
//! reader.
//!
//! Start with docs/architecture.md, which lists the modules below by rank; `tests/it/tidy.rs` enforces the ranks.

pub(crate) mod agent;
pub(crate) mod ambient;
pub mod app;
pub(crate) mod bundled;
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(not(feature = "client"))]
pub(crate) mod client;
pub mod config;
pub(crate) mod conversation;
pub(crate) mod descriptors;
pub mod edge;
pub(crate) mod engine;
pub mod error;
pub(crate) mod files;
pub(crate) mod job;
pub mod journal;
mod json_rpc;
mod lenient_json;
pub(crate) mod llm;
pub(crate) mod logging;
pub(crate) mod loopback;
pub(crate) mod mcp;
pub(crate) mod operators;
pub mod pb;
pub mod principal;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod quota;
pub(crate) mod secret;
#[cfg(test)]
mod simulation;
pub(crate) mod sync;
pub mod task;
pub(crate) mod telemetry;
pub(crate) mod text;
pub(crate) mod time_limit;
pub mod tool;
