//! The HTTP door: JSON routes, SSE, probes.
//!
//! *May import:* `edge`, `job`, rank 0. *May not:* import the other doors.

mod answers;
mod compatibility;
mod console;
mod contract;
mod health;
mod jobs;
mod openapi;
mod pages;
mod payload;
mod query;
mod render;
mod result;
mod route;
mod routes;
mod sse;
mod watch;

use std::sync::Arc;

use axum::Router;

#[cfg(any(test, fuzzing))]
pub(crate) use payload::body_task;
#[cfg(any(test, fuzzing))]
pub(crate) use render::render;
pub use render::write_event;

use super::{Operations, problem::wrong_method};

/// Returns the routes of the HTTP door.
pub(super) fn router(operations: Operations) -> Router {
    routes::router(&operations).method_not_allowed_fallback(wrong_method).with_state(Arc::new(operations))
}
