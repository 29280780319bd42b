//! `GET /api/v1/jobs/{job_id}/result`: the complete answer as text, or a range of it (RFC 9110, section 14).

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Extension, Path, State},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::super::{Operations, problem::to_response};
use crate::{
    error::{Error, Reason},
    job::{JobService, WholeResult},
    principal::Principal,
};

/// The part of the answer that the request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestedRange {
    Whole,
    /// From the first to the last byte, both inclusive and within the answer.
    Part(u64, u64),
    /// A range outside the answer.
    Nothing,
}

/// Parses a single byte range; anything else is ignored, as if no range were requested.
fn wanted(range: Option<&str>, length: u64) -> RequestedRange {
    let Some((first, last)) = range.and_then(|range| range.trim().strip_prefix("bytes=")?.split_once('-'))
    else {
        return RequestedRange::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(0) => RequestedRange::Nothing,
            Some(_) if length == 0 => RequestedRange::Nothing,
            Some(count) => RequestedRange::Part(length.saturating_sub(count), length - 1),
            None => RequestedRange::Whole,
        },
        (first, last) => match (number(first), if last.is_empty() { Some(u64::MAX) } else { number(last) }) {
            (Some(first), Some(last)) if first > last => RequestedRange::Whole,
            (Some(first), Some(_)) if first >= length => RequestedRange::Nothing,
            (Some(first), Some(last)) => RequestedRange::Part(first, last.min(length - 1)),
            _ => RequestedRange::Whole,
        },
    }
}

/// Serves the answer, with ranges, an ETag and conditional requests.
pub(super) async fn result(
    State(operations): State<Arc<Operations>>,
    Extension(caller): Extension<Principal>,
    Path(job_id): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let result = match operations.result(&caller, &job_id).await {
        Ok(result) => result,
        Err(error) => return to_response(&error),
    };
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A result never changes, so its job and size identify it.
    let tag = format!("\"{}-{}\"", result.job_id.as_str(), result.bytes);
    let is_known = text(header::IF_NONE_MATCH).is_some_and(|tags| {
        tags.split(',')
            .any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag)
    });
    let is_same = text(header::IF_RANGE).is_none_or(|known| known == tag);
    let range = text(header::RANGE).filter(|_| is_same);
    let (status, part) = match wanted(range, result.bytes) {
        _ if is_known => (StatusCode::NOT_MODIFIED, None),
        RequestedRange::Whole => (StatusCode::OK, Some((0, result.bytes))),
        RequestedRange::Part(first, last) => (StatusCode::PARTIAL_CONTENT, Some((first, last + 1))),
        RequestedRange::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let mut response = match (status, part) {
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
            let message = format!("the answer has {} bytes", result.bytes);
            let mut response = to_response(&Error::invalid("Range", message));
            *response.status_mut() = status;
            response
        }
        (_, Some((first, end))) => {
            // The first piece is read before the headers are sent, so that a lost answer is reported as an error, not as a
            // broken body.
            let piece = match operations.service().result_piece(&result, first).await {
                Ok(piece) if !piece.is_empty() || first == end => piece,
                Ok(_) => {
                    return to_response(&Error::new(Reason::DataLoss, "the answer is lost").for_job(&job_id));
                }
                Err(error) => return to_response(&error),
            };
            let mut response = Response::new(Body::from_stream(pieces(
                operations.service().clone(),
                result.clone(),
                piece,
                first,
                end,
            )));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - first));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            response
        }
        (_, None) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
    };
    let content_range = match (status, part) {
        (StatusCode::PARTIAL_CONTENT, Some((first, end))) => {
            Some(format!("bytes {first}-{}/{}", end - 1, result.bytes))
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => Some(format!("bytes */{}", result.bytes)),
        _ => None,
    };
    let headers = response.headers_mut();
    let further = [(header::ETAG, Some(tag)), (header::CONTENT_RANGE, content_range)];
    for (name, value) in further {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Only the caller may cache it, and must revalidate it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

fn pieces(
    service: JobService,
    result: WholeResult,
    first_piece: Bytes,
    first: u64,
    end: u64,
) -> impl tokio_stream::Stream<Item = Result<Bytes, Error>> + Send {
    async_stream::try_stream! {
        let (mut at, mut next) = (first, first_piece);
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            next.truncate(left);
            at += next.len() as u64;
            yield next;
            if at < end {
                next = service.result_piece(&result, at).await?;
                if next.is_empty() {
                    Err(Error::new(Reason::DataLoss, "the end of the answer is lost"))?;
                }
            } else {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
