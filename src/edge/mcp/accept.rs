//! Content negotiation (RFC 9110, section 12.5.1), and the conversion of responses to a format that the client accepts.
//!
//! The protocol requires clients to accept both JSON and event streams, and its library refuses those that do not name both.
//! Here `*/*`, ranges and a missing header accept both, and a client that accepts only one of them gets its response in that
//! format.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::error::{Error, Reason};

pub(super) const JSON: &str = "application/json";
pub(super) const STREAM: &str = "text/event-stream";
/// The largest response that is collected in memory to be converted.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The formats that a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptedFormats {
    pub(super) json: bool,
    pub(super) stream: bool,
}

impl AcceptedFormats {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
        if values.peek().is_none() {
            return Self { json: true, stream: true };
        }
        let ranges: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        if ranges.iter().all(|range| range.trim().is_empty()) {
            return Self { json: true, stream: true };
        }
        let takes = |wanted: &str| {
            // The most specific matching range decides.
            let family = wanted.split_once('/').map_or("", |(family, _)| family);
            let of = |range: &str| ranges.iter().find_map(|candidate| weight(candidate, range));
            of(wanted).or_else(|| of(&format!("{family}/*"))).or_else(|| of("*/*")).unwrap_or(false)
        };
        Self { json: takes(JSON), stream: takes(STREAM) }
    }

    /// Replaces the header by one that names both formats, if the client accepts either.
    pub(super) fn expand_accept(self, headers: &mut HeaderMap) {
        if self.json || self.stream {
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        }
    }
}

/// Returns `None` if this is a different range, otherwise whether it is accepted: a weight of 0 refuses it.
fn weight(candidate: &str, range: &str) -> Option<bool> {
    let mut parts = candidate.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(range) {
        return None;
    }
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some(quality.and_then(|quality| quality.trim().parse::<f64>().ok()).is_none_or(|quality| quality > 0.0))
}

pub(super) fn is(response: &Response<Body>, kind: &str) -> bool {
    let found = response.headers().get(header::CONTENT_TYPE).and_then(|found| found.to_str().ok());
    found.is_some_and(|found| found.to_ascii_lowercase().starts_with(kind))
}

/// Returns a successful response in the only format that its client accepts.
pub(super) async fn negotiated(
    response: Response<Body>,
    takes: AcceptedFormats,
) -> Result<Response<Body>, Error> {
    if response.status() != StatusCode::OK || takes.json == takes.stream {
        return Ok(response);
    }
    let (from, to) = if takes.json { (STREAM, JSON) } else { (JSON, STREAM) };
    if !is(&response, from) {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let body = match takes.json {
        true => match answer_of(body).await? {
            Some(answer) => answer,
            // The client has cancelled the request, or ended the session.
            None => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::ACCEPTED;
                return Ok(response);
            }
        },
        false => {
            let document = collected(body).await?;
            let text = String::from_utf8_lossy(&document);
            let lines: String = text.lines().map(|line| format!("data: {line}\n")).collect();
            Bytes::from(lines + "\n")
        }
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(to));
    Ok(Response::from_parts(head, Body::from(body)))
}

pub(super) async fn collected(body: Body) -> Result<Bytes, Error> {
    let limited = http_body_util::Limited::new(body, MAX_ANSWER_BYTES);
    limited.collect().await.map(http_body_util::Collected::to_bytes).map_err(Error::internal)
}

/// Returns the answer among the messages of a stream; `None` if it ended without one. Notifications and requests of the server
/// before it are dropped.
pub(super) async fn answer_of(mut body: Body) -> Result<Option<Bytes>, Error> {
    let (mut text, mut from) = (Vec::new(), 0);
    loop {
        let frame = body.frame().await.transpose().map_err(Error::internal)?;
        let is_end = frame.is_none();
        text.extend(frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default());
        if text.len() > MAX_ANSWER_BYTES {
            return Err(Error::new(
                Reason::TooLarge,
                "the answer is too large for one JSON document; accept text/event-stream",
            ));
        }
        // Each event carries one message on one line of data.
        while let Some(end) = text[from..].iter().position(|byte| *byte == b'\n') {
            let line = &text[from..from + end];
            from += end + 1;
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let message: Value = serde_json::from_slice(data).unwrap_or_default();
            if message.get("result").is_some() || message.get("error").is_some() {
                return Ok(Some(Bytes::copy_from_slice(data.trim_ascii())));
            }
        }
        if is_end {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests;
