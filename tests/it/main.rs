//! The integration tests: the real binary, real sockets, real child processes. Fakes stand for the outside world
//! only. What needs more than Rust and a C compiler is ignored by name and run by `tests/all`.

#![allow(missing_docs, unreachable_pub, clippy::type_complexity, clippy::collapsible_match)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[allow(dead_code, unused_imports, reason = "shared with the other tests, which need other parts of it")]
mod support;

mod agent;
mod bad_input;
mod capacity;
mod cli;
mod command_line;
mod compatibility;
mod configuration;
mod conversations;
mod cost;
mod crash;
mod dependencies;
mod doors;
mod engines;
mod figures;
mod flow;
mod golden;
mod hostile;
mod how_to;
mod imports;
mod inputs;
mod jobs;
mod limits;
mod mcp;
mod mcp_messages;
mod mean_engine;
mod openapi;
mod outside;
mod privacy;
mod providers;
mod readme;
mod real_engine;
mod shutdown;
mod soak;
mod telemetry;
mod tidy;
mod tools;
mod undead;
mod watch_jobs;
mod wire;
