//! The HTTP under the wires: deadlines for each part of an answer, and bounds on what a server may send.

#![expect(clippy::result_large_err, reason = "the error is the library's")]

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use rig_core::http_client::{self, Error, HttpClientExt, LazyBody, MultipartForm, StreamingResponse};
use tokio::time::{Instant, Sleep};

use super::{Selected, Timeouts};

/// A line of an answer beyond this is no token of any model.
const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
/// An answer beyond this is refused, however it is cut.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// So much of a refusal's body is read.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// A connection pool to one provider.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    client: reqwest::Client,
    timeouts: Timeouts,
}

/// TLS needs to know which cryptography it uses; once for the process.
pub(crate) fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that somebody was first, which is as good.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
    });
}

impl Connection {
    pub(super) fn new(selected: &Selected) -> Result<Self, String> {
        install_tls_provider();
        let mut headers = HeaderMap::new();
        for (name, value) in &selected.headers {
            let name: HeaderName =
                name.parse().map_err(|_| format!("agent.headers: `{name}` is no header's name"))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
                format!("agent.headers: the value of `{name}` holds characters that no header may")
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = reqwest::Client::builder()
            .connect_timeout(selected.timeouts.connect())
            .default_headers(headers)
            .tcp_nodelay(true)
            // The headers hold keys, which are for this server only.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("conductor-gateway/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no connection to models can be made: {error}"))?;
        Ok(Self { client, timeouts: selected.timeouts })
    }

    async fn open(
        self,
        method: http::Method,
        url: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> http_client::Result<reqwest::Response> {
        let request = self.client.request(method, url).headers(headers).body(body);
        let opened = tokio::time::timeout(self.timeouts.first_byte(), request.send()).await;
        let response = opened.map_err(|_| silent(self.timeouts.first_byte()))?.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = tokio::time::timeout(self.timeouts.idle(), refusal(response)).await.unwrap_or_default();
        Err(Error::non_success_with_details(status, headers, body))
    }
}

/// An error without the URL, which holds a key on some wires.
fn broken(error: reqwest::Error) -> Error {
    Error::instance(error.without_url())
}

fn silent(after: Duration) -> Error {
    Error::instance(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the model's server sent nothing for {} seconds", after.as_secs()),
    ))
}

async fn refusal(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_REFUSAL_BYTES {
            body.truncate(MAX_REFUSAL_BYTES);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

impl HttpClientExt for Connection {
    fn send<T, U>(
        &self,
        request: Request<T>,
    ) -> impl Future<Output = http_client::Result<Response<LazyBody<U>>>> + Send + 'static
    where
        T: Into<Bytes> + Send,
        U: From<Bytes> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        let body = body.into();
        let opening = self.clone().open(parts.method, parts.uri.to_string(), parts.headers, body);
        let idle = self.timeouts.idle();
        async move {
            let response = opening.await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body: LazyBody<U> = Box::pin(async move {
                let body = tokio::time::timeout(idle, response.bytes()).await;
                body.map_err(|_| silent(idle))?.map(U::from).map_err(broken)
            });
            let mut answer = Response::new(body);
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        }
    }

    fn send_multipart<U>(
        &self,
        _: Request<MultipartForm>,
    ) -> impl Future<Output = http_client::Result<Response<LazyBody<U>>>> + Send + 'static
    where
        U: From<Bytes> + Send + 'static,
    {
        // No wire of a conversation sends forms.
        std::future::ready(Err(Error::instance(io::Error::from(io::ErrorKind::Unsupported))))
    }

    fn send_streaming<T>(
        &self,
        request: Request<T>,
    ) -> impl Future<Output = http_client::Result<StreamingResponse>> + Send
    where
        T: Into<Bytes> + Send,
    {
        let (parts, body) = request.into_parts();
        let body = body.into();
        let opening = self.clone().open(parts.method, parts.uri.to_string(), parts.headers, body);
        let timeouts = self.timeouts;
        async move {
            let response = opening.await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = Watched::new(response.bytes_stream().map(|chunk| chunk.map_err(broken)), timeouts);
            let mut answer = Response::new(Box::pin(body) as http_client::BoxedStream);
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        }
    }
}

/// The body of an answer, ended when it falls silent or has no end.
struct Watched<S> {
    body: Pin<Box<S>>,
    idle: Duration,
    wait: Duration,
    silence: Pin<Box<Sleep>>,
    line_bytes: usize,
    total_bytes: usize,
    is_over: bool,
}

impl<S> Watched<S> {
    fn new(body: S, timeouts: Timeouts) -> Self {
        let wait = timeouts.first_byte();
        Self {
            body: Box::pin(body),
            idle: timeouts.idle(),
            wait,
            silence: Box::pin(tokio::time::sleep(wait)),
            line_bytes: 0,
            total_bytes: 0,
            is_over: false,
        }
    }

    fn measure(&mut self, chunk: &[u8]) -> http_client::Result<()> {
        self.total_bytes += chunk.len();
        match chunk.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => self.line_bytes = chunk.len() - end - 1,
            None => self.line_bytes += chunk.len(),
        }
        if self.line_bytes > MAX_LINE_BYTES || self.total_bytes > MAX_ANSWER_BYTES {
            let message = "the model's server sent more than any answer holds";
            return Err(Error::instance(io::Error::other(message)));
        }
        Ok(())
    }
}

impl<S: Stream<Item = http_client::Result<Bytes>>> Stream for Watched<S> {
    type Item = http_client::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match self.body.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.wait = self.idle;
                let until = Instant::now() + self.wait;
                self.silence.as_mut().reset(until);
                if let Err(error) = self.measure(&chunk) {
                    self.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(other) => {
                self.is_over = true;
                Poll::Ready(other)
            }
            Poll::Pending if self.silence.as_mut().poll(context).is_ready() => {
                self.is_over = true;
                Poll::Ready(Some(Err(silent(self.wait))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
