//! The HTTP door: JSON routes, SSE, probes.
//!
//! *May import:* `edge`, `job`, rank 0. *May not:* import the other doors.

mod answers;
mod compatibility;
mod console;
mod health;
mod jobs;
mod pages;
mod payload;
mod query;
mod render;
mod result;
mod sse;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Request,
    routing::{delete, get, post},
};
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
    let routes = if operations.is_compatible() { compatibility::routes() } else { Router::new() };
    let routes = match operations.has_console() {
        true => routes.route("/", get(console::index)).route("/console/{name}", get(console::file)),
        false => routes.route("/", get(pages::start)),
    };
    routes
        .route("/docs/errors", get(pages::errors))
        .route("/docs/errors/{reason}", get(pages::error))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/execute", post(jobs::execute))
        .route("/api/v1/stream-execute", post(jobs::stream_execute))
        .route("/api/v1/stream/{job_id}", get(sse::stream))
        .route("/api/v1/watch", get(watch::watch))
        .route("/api/v1/jobs", get(jobs::list))
        .route("/api/v1/jobs/{job_id}", get(jobs::get).delete(jobs::delete))
        .route("/api/v1/jobs/{job_id}/result", get(result::result))
        .route("/api/v1/jobs/{job_id}/cancel", post(jobs::cancel))
        .route("/api/v1/jobs/{job_id}/input", post(jobs::input))
        .route("/api/v1/conversations", get(jobs::conversations))
        .route("/api/v1/conversations/{conversation_id}", delete(jobs::delete_conversation))
        .route("/api/v1/agents", get(jobs::agents))
        .route("/api/v1/tools", get(jobs::tools))
        .route("/api/v1/info", get(jobs::info))
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::new(operations))
}

async fn wrong_method(request: Request) -> Response<Body> {
    let message = format!(
        "`{}` does not take {}; see docs/protocol.md",
        quoted(request.uri().path()),
        quoted(request.method().as_str())
    );
    problem(&Error::new(Reason::MethodNotAllowed, message))
}
