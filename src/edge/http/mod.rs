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

use axum::{Router, body::Body, extract::Request};
use http::Response;

#[cfg(any(test, fuzzing))]
pub(crate) use payload::body_task;
#[cfg(any(test, fuzzing))]
pub(crate) use render::render;
pub use render::write_event;

use super::{Operations, problem::to_response as problem};
use crate::{
    error::{Error, Reason},
    text::quoted,
};

/// Returns the routes of the HTTP door.
pub(super) fn router(operations: Operations) -> Router {
    routes::router(&operations).method_not_allowed_fallback(wrong_method).with_state(Arc::new(operations))
}

async fn wrong_method(request: Request) -> Response<Body> {
    let message = format!(
        "`{}` does not take {}; see docs/protocol.md",
        quoted(request.uri().path()),
        quoted(request.method().as_str())
    );
    problem(&Error::new(Reason::MethodNotAllowed, message))
}
