//! Renders errors as problem+json (RFC 9457).

use axum::{body::Body, extract::Request};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::{
    error::{Error, Reason},
    text::{bounded, quoted, write_json},
};

/// The most bytes of an error's message and field that a response carries.
const MAX_DETAIL_BYTES: usize = 4096;
const MAX_FIELD_BYTES: usize = 256;
/// How many segments of a path a link goes up at most.
const MAX_DEPTH: usize = 16;

/// A problem document.
#[derive(Serialize)]
struct Problem<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sequence: Option<u32>,
    #[serde(flatten)]
    further: &'a T,
}

/// A problem document without members of its own.
#[derive(Serialize)]
pub(super) struct NothingFurther {}

/// Returns the response for an error: the status of the table, the `reason`, and the message with the invalid field.
pub(super) fn to_response(error: &Error) -> Response<Body> {
    with_status(error, error.reason().codes().http, &NothingFurther {})
}

/// Returns the response for an error with a different status and additional members.
pub(super) fn with_status(error: &Error, status: u16, further: &impl Serialize) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(cause) = error.cause() {
        tracing::warn!(reason = error.reason().name(), cause, "request failed");
    }
    let detail = match error.field() {
        Some(field) if error.reason() != Reason::NoTask => format!("{field}: {}", error.message()),
        _ => error.message().to_owned(),
    };
    let detail = bounded(&detail, MAX_DETAIL_BYTES);
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: &detail,
        reason: error.reason().name(),
        field: error.field().map(|field| bounded(field, MAX_FIELD_BYTES)),
        job_id: error.job_id(),
        last_sequence: error.sequence(),
        further,
    };
    let mut response = json_response(status, &problem, "application/problem+json");
    response.extensions_mut().insert(ProblemReason(error.reason()));
    if let Some(delay) = error.retry_delay() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(delay.as_secs().max(1)));
    }
    response
}

/// The reason of a problem document, kept with its response until the path of the request is known.
#[derive(Clone, Copy, Debug)]
struct ProblemReason(Reason);

/// Adds the link from a problem document to the page that explains it. It is relative to the path of the request, so that it
/// holds behind a proxy that adds a path of its own.
pub(super) fn link_to_page(path: &str, response: &mut Response<Body>) {
    let Some(ProblemReason(reason)) = response.extensions_mut().remove() else { return };
    let up = "../".repeat(path.matches('/').count().saturating_sub(1).min(MAX_DEPTH));
    if let Ok(link) = HeaderValue::from_str(&format!("<{up}docs/errors/{}>; rel=\"help\"", reason.name())) {
        response.headers_mut().insert(header::LINK, link);
    }
}

/// Returns a response with a JSON document.
pub(super) fn json_response(
    status: StatusCode,
    document: &impl Serialize,
    kind: &'static str,
) -> Response<Body> {
    let mut body = Vec::new();
    let (status, body) = match write_json(&mut body, document) {
        Ok(()) => (status, body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec())
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns the response for a path without a route, as gRPC or as a problem document.
pub(super) async fn not_found(request: Request) -> Response<Body> {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let message = format!("there is nothing at `{}`; see docs/protocol.md", quoted(request.uri().path()));
    if kind.starts_with(b"application/grpc") {
        return tonic_unimplemented(&message);
    }
    to_response(&Error::new(Reason::RouteNotFound, message))
}

/// Returns the response for a path whose routes do not take the request's method.
pub(super) async fn wrong_method(request: Request) -> Response<Body> {
    let message = format!(
        "`{}` does not take {}; see docs/protocol.md",
        quoted(request.uri().path()),
        quoted(request.method().as_str())
    );
    to_response(&Error::new(Reason::MethodNotAllowed, message))
}

/// Returns UNIMPLEMENTED for an unknown gRPC method (gRPC over HTTP/2: a trailers-only response has its status in the
/// headers).
fn tonic_unimplemented(message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("12"));
    let message: String =
        message.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').filter(|c| *c != '%').collect();
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert("grpc-message", message);
    }
    response
}
