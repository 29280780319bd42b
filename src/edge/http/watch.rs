//! `GET /api/v1/watch`: many jobs as one stream of server-sent events, because a browser has six connections.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Extension, RawQuery, State},
};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::{
    super::{
        Operations,
        disconnect::{DisconnectSignal, PING},
        problem::to_response,
        requests::RequestGuard,
        watch_jobs::WatchItem,
    },
    query::Pairs,
    render::EVENTS_WITHOUT_IDS,
    sse::{comment_text, event_stream},
};
use crate::{
    error::{Error, Result},
    pb::{Job, JobPosition},
    principal::Principal,
    text::{quoted, write_json},
};

/// Reads the jobs that are named: `job=ID` or `job=ID:SEQUENCE`, repeated or with commas between them.
fn positions(query: &Pairs) -> Result<Vec<JobPosition>> {
    if query.all("job").next().is_some()
        && query.all("job").all(|jobs| jobs.trim_matches([',', ' ']).is_empty())
    {
        return Err(Error::invalid("job", "names no job; leave it out to follow all of yours"));
    }
    let named = query.all("job").flat_map(|jobs| jobs.split(',')).map(str::trim);
    named
        .filter(|job| !job.is_empty())
        .map(|job| {
            let (job_id, after) = job.split_once(':').unwrap_or((job, "0"));
            let after_sequence = after.parse().map_err(|_| {
                Error::invalid("job", format!("`{}` is no sequence; write ID or ID:SEQUENCE", quoted(after)))
            })?;
            Ok(JobPosition { job_id: job_id.to_owned(), after_sequence })
        })
        .collect()
}

/// Returns the reader's cursor. The `Last-Event-ID` header of a reconnecting reader takes precedence over the query.
fn cursor(headers: &HeaderMap, query: &Pairs) -> Result<String> {
    let from_header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").trim().to_owned());
    match from_header.filter(|id| !id.is_empty()) {
        Some(id) => Ok(id),
        None => Ok(query.one("cursor")?.to_owned()),
    }
}

/// Serves the events of named jobs, or the states of all jobs of the caller.
pub(super) async fn watch(
    State(operations): State<Arc<Operations>>,
    Extension(caller): Extension<Principal>,
    RawQuery(query): RawQuery,
    departed: Option<Extension<DisconnectSignal>>,
    request: Option<Extension<Arc<RequestGuard>>>,
    headers: HeaderMap,
) -> Response<Body> {
    let watch = async {
        let query = Pairs::of(query.as_deref());
        let (jobs, cursor) = (positions(&query)?, cursor(&headers, &query)?);
        operations.watch_jobs(&caller, jobs, &cursor, request.as_deref()).await
    };
    match watch.await {
        Err(error) => to_response(&error),
        Ok(None) => {
            // 204 stops the reconnection of a reader that has seen everything (HTML standard).
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Ok(Some(items)) => {
            let items = tokio_stream::StreamExt::map(items, |item| match item {
                Ok(WatchItem::Slice(slice)) => slice.batch.rendered(&EVENTS_WITHOUT_IDS).from(slice.from),
                Ok(WatchItem::Job(job)) => job_block(&job),
                // An id without data moves the reader's cursor and is no event (HTML standard, section 9.2.6).
                Ok(WatchItem::Cursor(cursor)) => Bytes::from(format!("id: {cursor}\n\n")),
                Ok(WatchItem::Heartbeat) => PING,
                Err(error) => Bytes::from(comment_text(&error)),
            });
            event_stream(items, departed)
        }
    }
}

/// Returns a job as a block of the stream.
fn job_block(job: &Job) -> Bytes {
    let mut block = b"data: {\"event\":\"job\",\"data\":".to_vec();
    if let Err(error) = write_json(&mut block, job) {
        tracing::error!(%error, "a job could not be rendered");
        return PING;
    }
    block.extend_from_slice(b"}\n\n");
    Bytes::from(block)
}
