//! Relays a model's tokens as server-sent events with a library's wires: each request asks the model at the address that is the one
//! argument. Prints its own address. `cargo bench -- model` of the gateway builds it, starts it and measures against it.

#![allow(clippy::result_large_err)] // the library's own error

use std::{convert::Infallible, future::Future, io, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::{body::Frame, service::service_fn};
use hyper_util::rt::TokioIo;
use rig_core::{
    DynModel,
    completion::CompletionRequest,
    http_client::{self, HttpClientExt, LazyBody, MultipartForm, StreamingResponse},
    operation::Completion,
    providers::openai::{OpenAIConfig, wire::OPENAI},
    streaming::{Item, StreamEvent},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// The library's connection as thin as it can be.
#[derive(Clone, Debug)]
struct Thin(reqwest::Client);

fn unsupported() -> http_client::Error {
    http_client::Error::instance(io::Error::from(io::ErrorKind::Unsupported))
}

impl HttpClientExt for Thin {
    fn send<T, U>(
        &self,
        _: http::Request<T>,
    ) -> impl Future<Output = http_client::Result<http::Response<LazyBody<U>>>> + Send + 'static
    where
        T: Into<Bytes> + Send,
        U: From<Bytes> + Send + 'static,
    {
        std::future::ready(Err(unsupported()))
    }

    fn send_multipart<U>(
        &self,
        _: http::Request<MultipartForm>,
    ) -> impl Future<Output = http_client::Result<http::Response<LazyBody<U>>>> + Send + 'static
    where
        U: From<Bytes> + Send + 'static,
    {
        std::future::ready(Err(unsupported()))
    }

    fn send_streaming<T>(
        &self,
        request: http::Request<T>,
    ) -> impl Future<Output = http_client::Result<StreamingResponse>> + Send
    where
        T: Into<Bytes> + Send,
    {
        let (parts, body) = request.into_parts();
        let request =
            self.0.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body.into());
        async move {
            let response = request.send().await.map_err(http_client::Error::instance)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes_stream().map(|chunk| chunk.map_err(http_client::Error::instance));
            let mut answer = http::Response::new(Box::pin(body) as http_client::BoxedStream);
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        }
    }
}

async fn relay(model: DynModel<Completion>, sender: mpsc::Sender<Bytes>) {
    let request = CompletionRequest::new("hello").preamble("Be short.".to_owned());
    let mut answer = model.stream(request).unwrap();
    let mut sequence = 0u32;
    while let Some(item) = answer.next().await {
        let Ok(Item::Event(StreamEvent::Text { text, .. })) = item else { continue };
        sequence += 1;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let event = serde_json::json!({
            "event": "on_llm_new_token",
            "data": {"step": 1, "text": &text, "is_reasoning": false},
            "timestamp": now.as_secs_f64(),
            "job_id": "job_06h0k9ch90vqgpmfjg5g2n330a3k83d69ctg",
            "sequence": sequence,
        });
        let line = format!("id: {sequence}\ndata: {event}\n\n");
        if sender.send(Bytes::from(line)).await.is_err() {
            return;
        }
    }
}

#[tokio::main]
async fn main() {
    let _once = rustls::crypto::ring::default_provider().install_default();
    let model = std::env::args().nth(1).expect("the address of a model");
    let config = OpenAIConfig::with_key(&OPENAI, "x").with_base_url(format!("http://{model}/v1"));
    let model: Arc<DynModel<Completion>> =
        Arc::new(config.connect(Thin(reqwest::Client::new())).chat("m").erase());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let model = model.clone();
        let service = service_fn(move |_| {
            let (sender, receiver) = mpsc::channel(1024);
            tokio::spawn(relay((*model).clone(), sender));
            // What waits is sent together: one write for each event would be a poor baseline.
            let together = ReceiverStream::new(receiver).ready_chunks(128);
            let frames =
                together.map(|chunks| Ok::<_, Infallible>(Frame::data(Bytes::from(chunks.concat()))));
            let response = http::Response::builder().header("content-type", "text/event-stream");
            std::future::ready(Ok::<_, Infallible>(response.body(StreamBody::new(frames)).unwrap()))
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}
