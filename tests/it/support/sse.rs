//! A reader of server-sent events, written from the HTML standard and not from our writer.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

#[derive(Clone, Debug, PartialEq)]
pub struct SseEvent {
    pub id: String,
    pub data: String,
}

/// Parses complete lines (HTML standard, 9.2.6). Answers with the dispatched events and what is left.
pub fn parse_sse(text: &str) -> (Vec<SseEvent>, usize) {
    let (mut events, mut used) = (Vec::new(), 0);
    let (mut id, mut data) = (String::new(), Vec::<&str>::new());
    let mut at = 0;
    while let Some(end) = text[at..].find(['\n', '\r']) {
        let line = &text[at..at + end];
        let is_crlf = text[at + end..].starts_with("\r\n");
        at += end + if is_crlf { 2 } else { 1 };
        if line.is_empty() {
            // One without data moves the cursor only; a test may want to see it.
            if !data.is_empty() || !id.is_empty() {
                events.push(SseEvent { id: id.clone(), data: data.join("\n") });
            }
            data.clear();
            used = at;
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value),
            "id" if !value.contains('\0') => id = value.to_owned(),
            _ => {}
        }
    }
    (events, used)
}

pub struct SseReader {
    pub status: u16,
    pub headers: http::HeaderMap,
    body: Incoming,
    buffer: Vec<u8>,
    ready: std::collections::VecDeque<SseEvent>,
}

impl SseReader {
    pub async fn open(address: &str, job_id: &str, after: u32) -> Self {
        Self::try_open(address, job_id, after).await.unwrap()
    }

    /// The same where the server may vanish at any moment.
    pub async fn try_open(
        address: &str,
        job_id: &str,
        after: u32,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Self::try_open_as(address, job_id, after, &[]).await
    }

    /// The same with further headers.
    pub async fn try_open_as(
        address: &str,
        job_id: &str,
        after: u32,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let cursor = if after > 0 { after.to_string() } else { String::new() };
        Self::try_open_at(address, &format!("/api/v1/stream/{job_id}"), &cursor, headers).await
    }

    /// The same of any path, after a cursor; empty for none.
    pub async fn try_open_at(
        address: &str,
        path: &str,
        cursor: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let cursor = (!cursor.is_empty()).then_some(("last-event-id", cursor));
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = http::Request::get(path).header("host", address);
        for (name, value) in headers.iter().copied().chain(cursor) {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await?;
        let (parts, body) = response.into_parts();
        Ok(Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            buffer: Vec::new(),
            ready: Default::default(),
        })
    }

    /// The next event; `None` at the end of the stream, honest or not.
    pub async fn next_raw(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
            let valid = match std::str::from_utf8(&self.buffer) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
            let (events, used) = parse_sse(std::str::from_utf8(&self.buffer[..valid]).unwrap());
            self.buffer.drain(..used);
            self.ready.extend(events);
        }
    }

    /// The next event's document; its id is its sequence.
    pub async fn next(&mut self) -> Option<Value> {
        let event = loop {
            let event = self.next_raw().await?;
            if !event.data.is_empty() {
                break event;
            }
        };
        let document: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(event.id, document["sequence"].to_string());
        Some(document)
    }

    /// Reads until an event of this name.
    pub async fn until(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
            if event["event"] == name {
                return event;
            }
        }
    }

    /// All that is left.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}
