//! The raw baselines: a tonic server that streams from a channel, a hyper SSE stream of the same bytes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use conductor_gateway::pb::{JobEvent, LlmNewToken, Timestamp, job_event::Payload};
use http_body::Frame;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// The message with the event typed, as a plain tonic server would declare it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(message, optional, tag = "1")]
    pub event: Option<JobEvent>,
}

/// The same small event that the gateway's jobs append.
pub fn token(sequence: u32) -> Payload {
    Payload::OnLlmNewToken(LlmNewToken {
        step: 1,
        text: format!("token {sequence:>7} "),
        is_reasoning: false,
    })
}

pub fn event(job_id: &str, sequence: u32) -> JobEvent {
    JobEvent {
        job_id: job_id.to_owned(),
        sequence,
        event_time: Some(Timestamp::now()),
        payload: Some(token(sequence)),
    }
}

const CHANNEL: usize = 1024;
type Producer = Arc<dyn Fn(mpsc::Sender<Result<Message, tonic::Status>>) + Send + Sync>;

#[derive(Clone)]
struct Streaming(Producer);

impl tonic::server::ServerStreamingService<Message> for Streaming {
    type Response = Message;
    type ResponseStream = ReceiverStream<Result<Message, tonic::Status>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, tonic::Status>>;

    fn call(&mut self, _: tonic::Request<Message>) -> Self::Future {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        (self.0)(sender);
        std::future::ready(Ok(tonic::Response::new(ReceiverStream::new(receiver))))
    }
}

/// A tonic server whose every call streams what `producer` sends.
pub async fn grpc_server(producer: Producer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let producer = producer.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let producer = producer.clone();
                async move {
                    let codec = tonic_prost::ProstCodec::<Message, Message>::default();
                    let response =
                        tonic::server::Grpc::new(codec).server_streaming(Streaming(producer), request).await;
                    Ok::<_, Infallible>(response)
                }
            });
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(256 * 1024);
            tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    address
}

/// Sends what waits in the channel together, up to 32 KiB: one write for each event would be a poor baseline.
struct ChannelBody(mpsc::Receiver<Bytes>, Vec<Bytes>);

impl http_body::Body for ChannelBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self(receiver, waiting) = &mut *self;
        match receiver.poll_recv_many(context, waiting, 128) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(0) => Poll::Ready(None),
            Poll::Ready(1) => Poll::Ready(waiting.pop().map(|bytes| Ok(Frame::data(bytes)))),
            Poll::Ready(_) => {
                let mut together = Vec::with_capacity(32 * 1024);
                waiting.drain(..).for_each(|bytes| together.extend_from_slice(&bytes));
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(together)))))
            }
        }
    }
}

/// A hyper server that answers every request with the bytes that `producer` sends.
pub async fn sse_server(producer: Arc<dyn Fn(mpsc::Sender<Bytes>) + Send + Sync>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let producer = producer.clone();
            let service = service_fn(move |_: http::Request<Incoming>| {
                let (sender, receiver) = mpsc::channel(CHANNEL);
                producer(sender);
                let response = http::Response::builder().header("content-type", "text/event-stream");
                std::future::ready(Ok::<_, Infallible>(
                    response.body(ChannelBody(receiver, Vec::new())).unwrap(),
                ))
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}
