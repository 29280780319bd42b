//! `GET /api/v1/stream/{job_id}`: a job's events as server-sent events (HTML standard, section 9.2).

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, ready},
};

use axum::{
    body::Body,
    extract::{Extension, Path, RawQuery, State},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use tokio_stream::Stream;

use super::{
    super::{
        Operations,
        disconnect::{DisconnectProbe, DisconnectSignal, PING},
        events::StreamItem,
        problem::to_response,
        requests::RequestGuard,
    },
    compatibility::COMPATIBLE_EVENTS,
    query::Pairs,
    render::SERVER_SENT_EVENTS,
};
use crate::{
    error::{Error, Reason, Result},
    pb::Door,
    principal::Principal,
    text::{bounded, quoted},
};

/// Returns a random reconnection delay of 1 to 3 seconds, so that readers do not all come back at once.
fn retry_milliseconds() -> u16 {
    let mut byte = [0u8];
    match getrandom::fill(&mut byte) {
        Ok(()) => 1000 + u16::from(byte[0]) * 8,
        Err(_) => 2000,
    }
}

/// Returns the reader's cursor. The `Last-Event-ID` header of a reconnecting reader takes precedence over the query.
fn after_sequence(headers: &HeaderMap, query: Option<&str>) -> Result<u32> {
    let from_header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").trim().to_owned());
    let (field, text) = match from_header.filter(|id| !id.is_empty()) {
        Some(id) => ("Last-Event-ID", id),
        None => match Pairs::of(query).one("after")? {
            "" => return Ok(0),
            after => ("after", after.to_owned()),
        },
    };
    let shown = quoted(&text);
    text.parse()
        .map_err(|_| Error::invalid(field, format!("`{shown}` is no sequence; it is a number from 0")))
}

/// Serves a job's events after the cursor.
pub(super) async fn stream(
    State(operations): State<Arc<Operations>>,
    Extension(caller): Extension<Principal>,
    Path(job_id): Path<String>,
    RawQuery(query): RawQuery,
    departed: Option<Extension<DisconnectSignal>>,
    request: Option<Extension<Arc<RequestGuard>>>,
    headers: HeaderMap,
) -> Response<Body> {
    let mut form = &SERVER_SENT_EVENTS;
    let follow = async {
        let after = after_sequence(&headers, query.as_deref())?;
        operations.follow(&caller, &job_id, after).await
    };
    let follower = match follow.await {
        Ok(follower) => follower,
        Err(error) => return to_response(&error),
    };
    if follower.is_ended() && follower.last_seen() == follower.last_sequence() {
        // 204 stops the reconnection of a reader that has seen the last event (HTML standard).
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return response;
    }
    if operations.is_compatible() {
        // What the earlier gateway's clients look for is written for jobs that came from them.
        let job = operations.job(&caller, &job_id).await;
        if job.is_ok_and(|job| job.door() == Door::Compatibility) {
            form = &COMPATIBLE_EVENTS;
        }
    }
    let events = operations.stream(follower, request.as_deref(), None);
    let items = tokio_stream::StreamExt::map(events, move |item| match item {
        Ok(StreamItem::Slice(slice)) => slice.batch.rendered(form).from(slice.from),
        Ok(StreamItem::Heartbeat(_)) => PING,
        // The stream ends without `end_of_stream`, so the reason is sent as a comment.
        Err(error) => comment(&error),
    });
    event_stream(items, departed)
}

/// Returns the response of a stream of server-sent events, given as their text.
pub(super) fn event_stream(
    items: impl Stream<Item = Bytes> + Send + Unpin + 'static,
    departed: Option<Extension<DisconnectSignal>>,
) -> Response<Body> {
    // Sent within the first event's block, because some readers take a separate block for an empty event.
    let preamble = Bytes::from(format!("retry: {}\n", retry_milliseconds()));
    let mut response = Response::new(Body::new(SseBody {
        items,
        preamble: Some(preamble),
        departure: departed.map(|Extension(departed)| DisconnectProbe::of(departed)),
    }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

struct SseBody<S> {
    items: S,
    preamble: Option<Bytes>,
    departure: Option<DisconnectProbe>,
}

impl<S: Stream<Item = Bytes> + Unpin> http_body::Body for SseBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(preamble) = self.preamble.take() {
            return Poll::Ready(Some(Ok(Frame::data(preamble))));
        }
        let next = Pin::new(&mut self.items).poll_next(task);
        if next.is_pending()
            && self.departure.as_mut().is_some_and(|departure| departure.poll_due(task).is_ready())
        {
            return Poll::Ready(Some(Ok(Frame::data(PING))));
        }
        Poll::Ready(ready!(next).map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Returns the reason why a stream ends early, as a comment, because it is not an event of the job. The reader reconnects
/// with its last id and resumes there; after damage it is sent the id to resume from.
fn comment(error: &Error) -> Bytes {
    let mut comment = comment_text(error);
    if let (Reason::DataLoss, Some(sequence)) = (error.reason(), error.sequence()) {
        // An id without data moves the reader's cursor past the events that can no longer be read.
        comment += &format!("id: {sequence}\n\n");
    }
    Bytes::from(comment)
}

/// Returns an error as a comment, for a reader that reconnects by itself.
pub(super) fn comment_text(error: &Error) -> String {
    let text = bounded(error.message(), 1024).replace('\n', " ");
    format!(": {} {text}\n\n", error.reason().name())
}
