//! An answer that takes long becomes a stream: proxies and clients end connections that carry nothing for a minute.

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

use super::super::departed::Departed;

/// A JSON answer is read up to this size; the library's own are far smaller.
const MAX_JSON_BYTES: usize = 64 * 1024 * 1024;

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Waits `silence` for the answer, or until its client sends no more. One that is not there then is sent as a stream of
/// server-sent events: a comment now and every `heartbeat`, then the answer itself. Dropping the stream drops `answering`: that ends a call without a session; one in a session
/// goes on until it is cancelled by name, as MCP says.
pub(super) async fn within(
    answering: impl Future<Output = Response<Body>> + Send + 'static,
    silence: Duration,
    departed: Option<Departed>,
    heartbeat: Duration,
) -> Response<Body> {
    let mut answering: Answering = Box::pin(answering);
    let silent = async {
        match departed {
            // A stream is what tells whether its client is gone.
            Some(departed) => drop(tokio::time::timeout(silence, departed.seen()).await),
            None => tokio::time::sleep(silence).await,
        }
    };
    tokio::select! {
        response = &mut answering => response,
        () = silent => {
            let body = Late {
                state: State::Waiting(answering),
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

enum State {
    Waiting(Answering),
    /// A stream of its own.
    Streaming(Body),
    /// One JSON document, to be sent as one event.
    Reading(Pin<Box<dyn Future<Output = Bytes> + Send>>),
    Over,
}

struct Late {
    state: State,
    ping: Pin<Box<Sleep>>,
    heartbeat: Duration,
}

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let this = &mut *self;
            match &mut this.state {
                State::Waiting(answering) => match answering.as_mut().poll(context) {
                    Poll::Ready(response) => this.state = read(response),
                    Poll::Pending => {
                        ready!(this.ping.as_mut().poll(context));
                        this.ping.as_mut().reset(Instant::now() + this.heartbeat);
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(
                            b": still running\n\n",
                        )))));
                    }
                },
                State::Streaming(body) => return Pin::new(body).poll_frame(context),
                State::Reading(document) => {
                    let document = ready!(document.as_mut().poll(context));
                    this.state = State::Over;
                    return Poll::Ready(Some(Ok(Frame::data(document))));
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

/// A failure as a message of JSON-RPC; whose answer it is is not known here (JSON-RPC 2.0, section 5: then the id is
/// null).
fn failure(status: http::StatusCode, text: &str) -> Bytes {
    let message = format!("{status}: {}", text.trim());
    let document = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": message}});
    Bytes::from(document.to_string())
}

fn read(response: Response<Body>) -> State {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind.starts_with(b"text/event-stream") {
        return State::Streaming(response.into_body());
    }
    let is_json = kind.starts_with(b"application/json");
    let status = response.status();
    let body = response.into_body();
    State::Reading(Box::pin(async move {
        let limited = http_body_util::Limited::new(body, MAX_JSON_BYTES).collect().await;
        let document = match limited {
            // Accepted, without a word.
            Ok(body) if status.is_success() => match body.to_bytes() {
                empty if empty.is_empty() => return Bytes::new(),
                document if is_json => document,
                _ => failure(status, "the answer is no message"),
            },
            // The status was sent long ago, so the message says it.
            Ok(body) => failure(status, &String::from_utf8_lossy(&body.to_bytes())),
            Err(_) => failure(status, "the answer is larger than 64 MiB"),
        };
        // Compact JSON has no line breaks; one that had would be two lines of data.
        let text = String::from_utf8_lossy(&document).replace(['\r', '\n'], " ");
        Bytes::from(format!("event: message\ndata: {text}\n\n"))
    }))
}
