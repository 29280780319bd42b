//! Turns a slow response into a stream, because proxies and clients close connections that are silent for about a minute.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::{Instant, Sleep};

use super::super::disconnect::DisconnectSignal;

/// The largest JSON response that is read; the library's own are far smaller.
const MAX_JSON_BYTES: usize = 64 * 1024 * 1024;

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Returns the response if it is ready within `silence` and before the client half-closes. Otherwise returns a stream of
/// server-sent events: a comment at once and every `heartbeat`, then the response itself. Dropping the stream drops
/// `answering`, which ends a call without a session; a call in a session goes on until it is cancelled explicitly, as MCP
/// requires.
pub(super) async fn within(
    answering: impl Future<Output = Response<Body>> + Send + 'static,
    silence: Duration,
    departed: Option<DisconnectSignal>,
    heartbeat: Duration,
) -> Response<Body> {
    let mut answering: Answering = Box::pin(answering);
    let silent = async {
        match departed {
            // Only a stream can show whether its client is gone.
            Some(departed) => drop(tokio::time::timeout(silence, departed.wait_for_disconnect()).await),
            None => tokio::time::sleep(silence).await,
        }
    };
    tokio::select! {
        response = &mut answering => response,
        () = silent => {
            let body = DelayedResponseBody {
                state: DelayedBodyState::Waiting(answering),
                ping: Box::pin(tokio::time::sleep(Duration::ZERO)),
                heartbeat,
            };
            let mut response = Response::new(Body::new(body));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
    }
}

enum DelayedBodyState {
    Waiting(Answering),
    /// The response is a stream itself.
    Streaming(Body),
    /// A JSON document that is being read, to be sent as one event.
    Reading(Pin<Box<dyn Future<Output = Bytes> + Send>>),
    Over,
}

struct DelayedResponseBody {
    state: DelayedBodyState,
    ping: Pin<Box<Sleep>>,
    heartbeat: Duration,
}

impl http_body::Body for DelayedResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let this = &mut *self;
            match &mut this.state {
                DelayedBodyState::Waiting(answering) => match answering.as_mut().poll(context) {
                    Poll::Ready(response) => this.state = read(response),
                    Poll::Pending => {
                        ready!(this.ping.as_mut().poll(context));
                        this.ping.as_mut().reset(Instant::now() + this.heartbeat);
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(
                            b": still running\n\n",
                        )))));
                    }
                },
                DelayedBodyState::Streaming(body) => return Pin::new(body).poll_frame(context),
                DelayedBodyState::Reading(document) => {
                    let document = ready!(document.as_mut().poll(context));
                    this.state = DelayedBodyState::Over;
                    return Poll::Ready(Some(Ok(Frame::data(document))));
                }
                DelayedBodyState::Over => return Poll::Ready(None),
            }
        }
    }
}

/// Returns a failure as a JSON-RPC message. The id of the request is unknown here and therefore null (JSON-RPC 2.0, section
/// 5).
fn failure(status: http::StatusCode, text: &str) -> Bytes {
    let message = format!("{status}: {}", text.trim());
    let document = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": message}});
    Bytes::from(document.to_string())
}

fn read(response: Response<Body>) -> DelayedBodyState {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind.starts_with(b"text/event-stream") {
        return DelayedBodyState::Streaming(response.into_body());
    }
    let is_json = kind.starts_with(b"application/json");
    let status = response.status();
    let body = response.into_body();
    DelayedBodyState::Reading(Box::pin(async move {
        let limited = http_body_util::Limited::new(body, MAX_JSON_BYTES).collect().await;
        let document = match limited {
            // An accepted message has an empty response.
            Ok(body) if status.is_success() => match body.to_bytes() {
                empty if empty.is_empty() => return Bytes::new(),
                document if is_json => document,
                _ => failure(status, "the answer is no message"),
            },
            // The HTTP status was already sent, so the message reports the failure.
            Ok(body) => failure(status, &String::from_utf8_lossy(&body.to_bytes())),
            Err(_) => failure(status, "the answer is larger than 64 MiB"),
        };
        // Compact JSON has no line breaks; any others would split the event's data into two lines.
        let text = String::from_utf8_lossy(&document).replace(['\r', '\n'], " ");
        Bytes::from(format!("event: message\ndata: {text}\n\n"))
    }))
}
