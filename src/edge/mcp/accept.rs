//! What a client takes as an answer (RFC 9110, section 12.5.1), and an answer made what it takes.
//!
//! The protocol wants clients to take JSON and streams of events, and its library refuses those that do not spell both out. `*/*`,
//! ranges and no header at all take both; a client that takes one of them gets its answer as that.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::error::{Error, Reason};

pub(super) const JSON: &str = "application/json";
pub(super) const STREAM: &str = "text/event-stream";
/// An answer that is collected is not larger.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes {
    pub(super) json: bool,
    pub(super) stream: bool,
}

impl Takes {
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
            // The most precise range counts.
            let family = wanted.split_once('/').map_or("", |(family, _)| family);
            let of = |range: &str| ranges.iter().find_map(|candidate| weight(candidate, range));
            of(wanted).or_else(|| of(&format!("{family}/*"))).or_else(|| of("*/*")).unwrap_or(false)
        };
        Self { json: takes(JSON), stream: takes(STREAM) }
    }

    /// Spells both out where the client takes either.
    pub(super) fn spell_out(self, headers: &mut HeaderMap) {
        if self.json || self.stream {
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        }
    }
}

/// Whether this is the range, and whether it is taken: a weight of 0 refuses it.
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

/// The answer to a request in the one form that its client takes.
pub(super) async fn as_taken(response: Response<Body>, takes: Takes) -> Result<Response<Body>, Error> {
    if response.status() != StatusCode::OK || takes.json == takes.stream {
        return Ok(response);
    }
    let (from, to) = if takes.json { (STREAM, JSON) } else { (JSON, STREAM) };
    if !is(&response, from) {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let body = match takes.json {
        true => answer_of(body).await?,
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

/// The answer among the messages of a stream. What the server says or asks on the way is not taken by such a client.
pub(super) async fn answer_of(mut body: Body) -> Result<Bytes, Error> {
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
        // Each event is one message, on one line of data.
        while let Some(end) = text[from..].iter().position(|byte| *byte == b'\n') {
            let line = &text[from..from + end];
            from += end + 1;
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let message: Value = serde_json::from_slice(data).unwrap_or_default();
            if message.get("result").is_some() || message.get("error").is_some() {
                return Ok(Bytes::copy_from_slice(data.trim_ascii()));
            }
        }
        if is_end {
            return Err(Error::internal("a stream without an answer"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_weights_are_read() {
        let takes = |accept: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            let Takes { json, stream } = Takes::of(&headers);
            (json, stream)
        };
        for both in [
            &[][..],
            &["*/*"],
            &["application/*, text/*"],
            &["Application/JSON", "text/event-stream;q=0.1"],
            &[""],
        ] {
            assert_eq!(takes(both), (true, true), "{both:?}");
        }
        assert_eq!(takes(&["application/json"]), (true, false));
        assert_eq!(takes(&["text/event-stream"]), (false, true));
        assert_eq!(takes(&["*/*;q=0.5, text/event-stream;q=0"]), (true, false));
        assert_eq!(takes(&["text/html, image/*"]), (false, false));
    }
}
