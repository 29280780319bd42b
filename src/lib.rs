//! The Conductor Gateway: a task submitted through any door (gRPC, HTTP, MCP) becomes a job whose numbered events reach every
//! reader.
//!
//! Start with docs/architecture.md, which lists the modules below by rank; `tests/it/tidy.rs` enforces the ranks.

pub mod agent;
pub mod ambient;
pub mod app;
pub mod bundled;
pub mod cli;
pub mod config;
pub mod conversation;
pub mod descriptors;
pub mod edge;
pub mod engine;
pub mod error;
pub mod files;
pub mod job;
pub mod journal;
mod json_rpc;
mod lenient_json;
pub mod llm;
pub mod mcp;
pub mod pb;
pub mod principal;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod quota;
pub mod secret;
#[cfg(test)]
mod simulation;
pub mod sync;
pub mod task;
pub mod telemetry;
pub mod text;
pub mod tool;
