//! The answers to messages and sessions that are not taken.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    error::{Error, Reason},
    json_rpc::JsonRpcRefusal,
    quota::Bounds,
};

/// Returns the response for a message that cannot be handled (JSON-RPC 2.0, section 5.1).
pub(super) fn refused(refusal: &JsonRpcRefusal) -> Response<Body> {
    let mut response = Response::new(Body::from(refusal.to_value().to_string()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns the error for too many sessions, with a retry delay.
pub(super) fn too_many(bounds: Bounds) -> Error {
    let Bounds { most, most_per_caller } = bounds;
    let own = most_per_caller.map_or_else(String::new, |own| format!(", {own} of one caller"));
    let message = format!(
        "this gateway keeps {most} MCP sessions{own}, and none that is idle can make room; try again later, or raise server.mcp_max_sessions"
    );
    Error::new(Reason::TooManySessions, message).retry_after(Duration::from_secs(5))
}
