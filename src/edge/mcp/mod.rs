//! The MCP door: streamable HTTP at `/mcp`, on a separate port in the same runtime.
//!
//! The composition root supplies the handler. This module adds what the protocol's library leaves open: how many sessions
//! there may be, who owns them, when idle ones are closed, and heartbeats on the stream of a long call.
//!
//! *May import:* `edge`, rank 0. *May not:* import the other doors.

mod accept;
mod batch;
mod keep_alive;
mod refusals;
mod replay_log;
mod routes;
mod session;
mod session_manager;
mod sessions;
mod standalone;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::State, routing::any};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use rmcp::{
    ServerHandler,
    transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService},
};
use tokio_util::sync::CancellationToken;

pub use super::mcp_path::PATH;
use super::{
    ServerConfig,
    access::no_caller,
    disconnect::DisconnectSignal,
    problem::{NothingFurther, to_response as problem, with_status},
    whole_body::read_whole,
};
use crate::{
    error::{Error, Reason},
    json_rpc::{self, JsonRpcRefusal, ParsedMessages},
    principal::Principal,
    quota::Bounds,
    task::Group,
};
use accept::AcceptedFormats;
use refusals::refused;
use session_manager::ResumableSessionManager;
use sessions::Sessions;

/// A call that takes longer than this becomes a stream with heartbeats, if its client accepts streams.
const SILENCE: Duration = Duration::from_secs(8);
/// The first version without sessions.
const WITHOUT_SESSIONS: &str = "2026-07-28";

struct McpShared<H> {
    service: StreamableHttpService<Arc<H>, ResumableSessionManager>,
    sessions: Arc<Sessions>,
    heartbeat: Duration,
    max_body_bytes: usize,
}

/// Returns the routes that serve a handler. The product and the tests use the same router, so that test results apply to the
/// product. Sessions end when `stop` is cancelled.
pub fn router<H: ServerHandler>(
    handler: Arc<H>,
    config: &ServerConfig,
    stop: CancellationToken,
    tasks: &Group,
) -> Router {
    let manager = Arc::new(ResumableSessionManager::default());
    let options = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(true)
        .with_json_response(true)
        .with_max_request_body_bytes(config.max_body_bytes as usize)
        .with_sse_keep_alive(Some(config.heartbeat()))
        // Sessions send the ids to come back with themselves.
        .with_sse_retry(None)
        .with_cancellation_token(stop.clone())
        // The listener checks both for every door.
        .disable_allowed_hosts()
        .disable_allowed_origins();
    let service = StreamableHttpService::new(move || Ok(handler.clone()), manager.clone(), options);
    let idle = Duration::from_secs(config.mcp_session_idle_seconds.into());
    let bounds = Bounds {
        most: config.mcp_max_sessions as usize,
        most_per_caller: config.mcp_max_sessions_per_caller.map(|most| most as usize),
    };
    let sessions = Arc::new(Sessions::new(manager, bounds, idle));
    tasks.spawn("mcp_sessions", sessions.clone().end_idle_ones(stop));
    let max_body_bytes = config.max_body_bytes as usize;
    let shared = McpShared { service, sessions, heartbeat: config.heartbeat(), max_body_bytes };
    Router::new()
        .route(PATH, any(serve::<H>))
        .route(&format!("{PATH}/"), any(serve::<H>))
        .route("/sse", any(gone))
        .route("/messages", any(gone))
        .with_state(Arc::new(shared))
}

/// Answers clients of the older transport, which had an address of its own for its event stream.
async fn gone() -> Response<Body> {
    let message = format!("the transport with an event stream of its own is gone; use {PATH}");
    let error = Error::new(Reason::RouteNotFound, message);
    let mut response = with_status(&error, 410, &NothingFurther {});
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(PATH));
    response
}

fn header_text<'r>(request: &'r Request<Body>, name: &str) -> Option<&'r str> {
    request.headers().get(name)?.to_str().ok()
}

async fn serve<H: ServerHandler>(
    State(shared): State<Arc<McpShared<H>>>,
    request: Request<Body>,
) -> Response<Body> {
    let Some(caller) = request.extensions().get::<Principal>().cloned() else {
        return problem(&no_caller());
    };
    let takes = AcceptedFormats::of(request.headers());
    let is_post = request.method() == Method::POST;
    let mut sent = Bytes::new();
    let (mut head, body) = request.into_parts();
    // Any other method is answered by a stream, if with anything.
    if is_post || takes.stream {
        takes.expand_accept(&mut head.headers);
    }
    let request = if is_post {
        // Read here, so that its errors are reported as at every other door.
        match read_whole(&head.headers, body, shared.max_body_bytes).await {
            Ok(bytes) => {
                sent = bytes.clone();
                Request::from_parts(head, Body::from(bytes))
            }
            Err(error) => return problem(&error),
        }
    } else {
        Request::from_parts(head, body)
    };
    let session_id = header_text(&request, "mcp-session-id").map(str::to_owned);
    let is_sessionless =
        header_text(&request, "mcp-protocol-version").is_some_and(|version| version >= WITHOUT_SESSIONS);
    // A response that becomes a stream loses its status and headers. The answer to `initialize` carries the session's id in a
    // header, so it is never converted; it is fast anyway.
    let may_be_late = session_id.is_some() || is_sessionless;
    let use_of_session = match &session_id {
        Some(id) => match shared.sessions.enter(id, &caller, request.method() == Method::GET) {
            Ok(entered) => Some(entered),
            Err(error) => return problem(&error),
        },
        None => None,
    };
    let is_delete = request.method() == Method::DELETE;
    let takes_stream = may_be_late && is_post && takes.stream;
    let is_json = header_text(&request, header::CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"));
    let departed = request.extensions().get::<DisconnectSignal>().cloned();
    let (service, sessions) = (shared.service.clone(), shared.sessions.clone());
    let answering = async move {
        let mut response = match is_json {
            true => handle_leniently(&service, request, &sent).await,
            false => service.handle(request).await.map(Body::new),
        };
        if let (Some(id), true) = (&session_id, is_delete && response.status().is_success()) {
            sessions.forget(id);
            // 204 instead of the library's 202, which clients treat as a failure.
            response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        let opened = response.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
        let in_use = match (use_of_session, opened) {
            (None, Some(id)) if session_id.is_none() => match sessions.opened(id, caller).await {
                Ok(in_use) => Some(in_use),
                Err(error) => return problem(&error),
            },
            (in_use, _) => in_use,
        };
        let response = response.map(|body| sessions::guarded(body, in_use));
        if is_post {
            accept::negotiated(response, takes).await.unwrap_or_else(|error| problem(&error))
        } else {
            response
        }
    };
    if takes_stream {
        keep_alive::within(answering, SILENCE, departed, shared.heartbeat).await
    } else {
        answering.await
    }
}

/// Handles a POST body. If the library cannot read it, it is parsed leniently, and its messages are handled as intended or
/// refused.
async fn handle_leniently<H: ServerHandler>(
    service: &StreamableHttpService<Arc<H>, ResumableSessionManager>,
    request: Request<Body>,
    sent: &Bytes,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let handle = |head: Parts, body: Body| async move {
        let response = service.handle(Request::from_parts(head, body)).await.map(Body::new);
        // The media type is right, so this status means that the library could not parse the body.
        (response.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE).then_some(response)
    };
    if !sent.trim_ascii_start().starts_with(b"[")
        && !json_rpc::may_have_null_id(sent)
        && let Some(response) = handle(head.clone(), body).await
    {
        return response;
    }
    let unread = || refused(&JsonRpcRefusal::in_words(None, "this is no message of MCP"));
    match json_rpc::read(sent) {
        Ok(ParsedMessages::Message(message)) => {
            let id = message.get("id").cloned();
            let unread = || refused(&JsonRpcRefusal::in_words(id, "this is no message of MCP"));
            handle(head, Body::from(message.to_string())).await.unwrap_or_else(unread)
        }
        Ok(ParsedMessages::Batch(messages)) => {
            let one =
                |head, message| async { handle(head, Body::from(message)).await.unwrap_or_else(unread) };
            batch::answer(&head, messages, one).await
        }
        Err(refusal) => refused(&refusal),
    }
}
