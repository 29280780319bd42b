//! Streams as bytes, read with nothing of ours: what came before a cut and what came after it can be compared byte by byte.

use bytes::{Buf, Bytes};
use conductor_gateway::pb;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    Sse,
    Grpc,
    GrpcWeb,
}

pub const DOORS: [Door; 3] = [Door::Sse, Door::Grpc, Door::GrpcWeb];

/// One event as it came: its sequence, and all its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    pub sequence: u32,
    pub bytes: Bytes,
}

/// An open stream.
pub struct Stream {
    door: Door,
    body: Incoming,
    pub headers: http::HeaderMap,
    /// All that came.
    pub bytes: Vec<u8>,
    /// The connection, for as long as the stream is read.
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn grpc_message(message: &impl Message) -> Bytes {
    let content = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    framed.extend(content);
    framed.into()
}

impl Stream {
    pub async fn open(address: &str, door: Door, job_id: &str, after: u32) -> Self {
        Self::try_open(address, door, job_id, after).await.unwrap()
    }

    pub async fn try_open(
        address: &str,
        door: Door,
        job_id: &str,
        after: u32,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let io = TokioIo::new(TcpStream::connect(address).await?);
        let watch = pb::WatchJobRequest { job_id: job_id.to_owned(), after_sequence: after };
        let method = "/conductor.gateway.v1.GatewayService/WatchJob";
        let request = match door {
            Door::Sse => {
                let request = http::Request::get(format!("/api/v1/stream/{job_id}")).header("host", address);
                let request = match after {
                    0 => request,
                    after => request.header("last-event-id", after),
                };
                request.body(Full::default())?
            }
            Door::Grpc => http::Request::post(format!("http://{address}{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(grpc_message(&watch)))?,
            Door::GrpcWeb => http::Request::post(method)
                .header("host", address)
                .header("content-type", "application/grpc-web+proto")
                .body(Full::new(grpc_message(&watch)))?,
        };
        let (response, connection) = if door == Door::Grpc {
            let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            (sender.send_request(request).await?, connection)
        } else {
            let (mut sender, connection) = conn::http1::handshake(io).await?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            (sender.send_request(request).await?, connection)
        };
        let (parts, body) = response.into_parts();
        let headers = parts.headers;
        Ok(Self { door, body, headers, bytes: Vec::new(), connection })
    }

    /// More bytes; how many, and `None` at the end of the stream, honest or not.
    pub async fn more(&mut self) -> Option<usize> {
        let frame = self.body.frame().await?.ok()?;
        let data = frame.into_data().unwrap_or_default();
        self.bytes.extend_from_slice(&data);
        Some(data.len())
    }

    /// Reads until there are this many bytes, or the end; what is above is as if it had never come.
    pub async fn cut_at(mut self, len: usize) -> Vec<RawEvent> {
        while self.bytes.len() < len && self.more().await.is_some() {}
        self.bytes.truncate(len);
        self.events()
    }

    pub async fn rest(mut self) -> Vec<RawEvent> {
        while self.more().await.is_some() {}
        self.events()
    }

    /// The whole events among the bytes.
    pub fn events(&self) -> Vec<RawEvent> {
        match self.door {
            Door::Sse => sse_events(&self.bytes),
            Door::Grpc | Door::GrpcWeb => grpc_events(&self.bytes),
        }
    }
}

/// Blocks that have data (HTML standard, 9.2.6; the gateway's lines end with LF alone), from their id on.
fn sse_events(bytes: &[u8]) -> Vec<RawEvent> {
    let (mut events, mut start) = (Vec::new(), 0);
    while let Some(len) = bytes[start..].windows(2).position(|pair| pair == b"\n\n") {
        let block = &bytes[start..start + len + 2];
        start += block.len();
        // How long to wait before coming back is said once in each stream, in front of its first event.
        let is_told = |line: &&[u8]| line.starts_with(b"retry: ");
        let told =
            block.split_inclusive(|byte| *byte == b'\n').take_while(is_told).map(<[u8]>::len).sum::<usize>();
        let block = &block[told..];
        let mut lines = block.split(|byte| *byte == b'\n');
        let id = lines.clone().find_map(|line| line.strip_prefix(b"id: "));
        if lines.any(|line| line.starts_with(b"data:")) {
            let id = std::str::from_utf8(id.expect("every event has an id")).unwrap();
            events.push(RawEvent { sequence: id.parse().unwrap(), bytes: Bytes::copy_from_slice(block) });
        }
    }
    events
}

/// Length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message"); grpc-web's trailers have the highest bit set.
fn grpc_events(bytes: &[u8]) -> Vec<RawEvent> {
    let mut left = bytes;
    let mut events = Vec::new();
    while left.len() >= 5 {
        let flags = left[0];
        let len = u32::from_be_bytes([left[1], left[2], left[3], left[4]]) as usize;
        let Some(content) = left.get(5..5 + len) else { break };
        if flags == 0 {
            let frame = pb::EventFrame::decode(content).unwrap();
            if let Some(event) = frame.event {
                let sequence = pb::JobEvent::decode(event.clone()).unwrap().sequence;
                events.push(RawEvent { sequence, bytes: event });
            }
        }
        left.advance(5 + len);
    }
    events
}
