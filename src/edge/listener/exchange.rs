//! One request and its response on a connection.

use super::super::{
    ThroughDoor,
    access::{HeaderPolicy, caller_of, is_probe},
    connection_table::OpenConnection,
    disconnect::UntilDisconnectBody,
    form, grpc, problem,
    request_guards::RequestGuards,
    requests::RequestGuard,
    stall_watchdog::WatchedBody,
    timed_body::{TimedBody, UnreadBody},
};
use super::shared::{AnsweredRequest, ConnectionClient, ListenerShared};

/// How long an MCP request whose client has half-closed may take to be answered or to become an event stream.
const HALF_CLOSED_TIME: Duration = Duration::from_secs(2);
/// The retry delay for a client that is refused because of too many connections.
const RETRY_AFTER: Duration = Duration::from_secs(2);

use crate::{
    error::{Error, Reason},
    pb::Door,
    telemetry::{self, TraceContext},
};
use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::Instant;
use tower::ServiceExt;

pub(super) async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<ListenerShared>,
    client: ConnectionClient,
) -> Result<Response<WatchedBody>, Infallible> {
    let door = form::door_of(request.headers());
    let is_http1 = request.version() < Version::HTTP_2;
    let ConnectionClient { departed, open } = client;
    if is_http1 {
        request.extensions_mut().insert(departed.clone());
    }
    let busy = open.busy();
    // The panic itself is logged as one line (`logging::start`) and ends only this request.
    let answering = AssertUnwindSafe(exchange(request, door, &shared, &open)).catch_unwind();
    // After a half-close, JSON and SSE requests are still answered, while a gRPC client means that it has left. An MCP call
    // ends with its client, but whether that has left shows only in an event stream; until one begins, the call has a short
    // grace period.
    let is_mcp = shared.headers == HeaderPolicy::Mcp;
    if !is_http1 || (door == Door::Http && !is_mcp) {
        let (response, in_progress) = answering.await.unwrap_or_else(|_| failed(door));
        let holds = RequestGuards { _busy: busy, _in_progress: in_progress };
        return Ok(response.map(|body| WatchedBody::new(body, holds)));
    }
    let grace = if is_mcp { HALF_CLOSED_TIME } else { Duration::ZERO };
    let (response, in_progress) = tokio::select! {
        // If the client leaves, the request is dropped with everything that it holds.
        response = answering => response.unwrap_or_else(|_| failed(door)),
        () = departed.clone().wait_for_lasting_disconnect(grace) => {
            let mut response = problem::to_response(&Error::new(Reason::RequestTimedOut, "the client has left"));
            close(&mut response);
            (response, None)
        }
    };
    let holds = RequestGuards { _busy: busy, _in_progress: in_progress };
    Ok(UntilDisconnectBody::new(response, departed, grace)
        .map(|body| WatchedBody::new(Body::new(body), holds)))
}

/// Checks the origin, identifies the caller and counts the request against the quotas. Probes have no caller and are not
/// counted.
fn begin(
    request: &mut Request<Body>,
    shared: &ListenerShared,
    open: &OpenConnection,
) -> crate::error::Result<Option<Arc<RequestGuard>>> {
    shared.origins.check(request)?;
    if is_probe(request.uri().path()) {
        return Ok(None);
    }
    let Some(caller) = caller_of(request, shared.caller_header.as_ref())? else { return Ok(None) };
    let begun = shared.capacity.requests.begin(&caller, open.is_beyond());
    if begun.is_ok() {
        // Another caller's stream was ended for this request, and its connection will close, so this one may stay.
        open.readmit();
    }
    let in_progress = begun.map_err(|error| match open.is_beyond() {
        true => Error::new(
            Reason::TooManyConnections,
            "there are as many connections as this gateway keeps, and none is idle; try again later",
        )
        .retry_after(RETRY_AFTER),
        false => error,
    })?;
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(in_progress.clone());
    Ok(Some(in_progress))
}

fn failed(door: Door) -> AnsweredRequest {
    let error = Error::new(Reason::Internal, "the gateway failed at this request; its log says why");
    (refusal(door, &error), None)
}

/// Marks the response as the last one on its connection (RFC 9112, section 9.6).
fn close(response: &mut Response<Body>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Returns an error in the format of the door.
fn refusal(door: Door, error: &Error) -> Response<Body> {
    match door {
        Door::Http => problem::to_response(error),
        _ => grpc::refusal(error),
    }
}

/// Handles one request. On HTTP/1.1 the unread rest of its body is drained, so that the next request can be read.
async fn exchange(
    request: Request<Incoming>,
    door: Door,
    shared: &ListenerShared,
    open: &OpenConnection,
) -> AnsweredRequest {
    let (is_http1, rest) = (request.version() < Version::HTTP_2, UnreadBody::default());
    let is_asked_for = request.headers().contains_key(header::EXPECT);
    let deadline = Instant::now() + shared.config.request_timeout();
    let is_misformed = form::check(&request).err();
    let path = request.uri().path().to_owned();
    let request = request.map(|body| Body::new(TimedBody::new(body, deadline, rest.clone())));
    let mut closes = false;
    let (mut response, in_progress) = match is_misformed {
        Some((error, status)) => {
            drop(request);
            let response = match door {
                Door::Http => problem::with_status(&error, status.as_u16(), &problem::NothingFurther {}),
                _ => grpc::refusal(&error),
            };
            closes = true;
            (response, None)
        }
        None => route(request, door, shared, open).await,
    };
    if door == Door::Http {
        response = form::finalize(response).await;
        problem::link_to_page(&path, &mut response);
    }
    let name = match (shared.headers, door) {
        (HeaderPolicy::Mcp, _) => "mcp",
        (_, Door::Http) => "http",
        (_, Door::GrpcWeb) => "grpc_web",
        _ => "grpc",
    };
    telemetry::count_request(name, response.status().as_u16());
    if is_http1 && (!rest.drain(deadline, is_asked_for).await || closes || open.is_beyond()) {
        close(&mut response);
    }
    (response, in_progress)
}

pub(super) async fn refuse_coded(request: Request<Body>, next: axum::middleware::Next) -> Response<Body> {
    let is_http = request.extensions().get::<ThroughDoor>().is_some_and(|door| door.0 == Door::Http);
    match form::refuse_content_encoding(request.headers()).filter(|_| is_http) {
        Some(refused) => refused,
        None => next.run(request).await,
    }
}

async fn route(
    mut request: Request<Body>,
    door: Door,
    shared: &ListenerShared,
    open: &OpenConnection,
) -> AnsweredRequest {
    let begun = begin(&mut request, shared, open);
    open.close_after_answer();
    let in_progress = match begun {
        Ok(in_progress) => in_progress,
        Err(error) => return (refusal(door, &error), None),
    };
    if door != Door::Http {
        form::plain_media_type(request.headers_mut());
    }
    if let Some(header) = &shared.caller_header {
        form::remove_from_preflight(request.headers_mut(), header);
    }
    request.extensions_mut().insert(ThroughDoor(door));
    // Two different contexts are none (W3C Trace Context, section 3.2).
    let mut contexts = request.headers().get_all("traceparent").iter();
    let context = contexts.next().filter(|_| contexts.next().is_none());
    if let Some(trace) = context.and_then(|value| TraceContext::parse(value.to_str().ok()?)) {
        request.extensions_mut().insert(trace);
    }
    let response = shared.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    (response, in_progress)
}
