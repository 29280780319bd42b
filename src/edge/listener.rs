//! The listener of a port: HTTP/1.1 and HTTP/2 without TLS (h2c, prior knowledge); every wait has a deadline.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    AuthConfig, Capacity, Config, OriginPolicy, ThroughDoor,
    access::{HeaderPolicy, caller_of, is_probe},
    connection_table::OpenConnection,
    disconnect::{DisconnectSignal, UntilDisconnectBody},
    form, grpc, problem,
    request_guards::RequestGuards,
    requests::RequestGuard,
    stall_timeout_stream::StallTimeoutStream,
    stall_watchdog::{StreamExecutor, WatchedBody},
    timed_body::{TimedBody, UnreadBody},
};
use crate::{
    error::{Error, Reason},
    pb::Door,
    task::Group,
};

/// The largest header list of an HTTP/2 request; larger ones are refused. HTTP/1.1 is bounded by [`READ_BUFFER_BYTES`], with
/// 431.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The HTTP/1.1 read buffer, which also bounds the header block; the smallest that hyper accepts. A larger one would dominate
/// the memory of an idle reader.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// The most concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// The accept backlog (listen(2); `net.core.somaxconn` bounds it too). With the usual 128, many readers that reconnect at
/// once would have to repeat their SYN a second later.
const BACKLOG: u32 = 4096;
/// The pause after a failed accept, which usually means that no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an MCP request whose client has half-closed may take to be answered or to become an event stream.
const HALF_CLOSED_TIME: Duration = Duration::from_secs(2);
/// The time after which a connection beyond the bound is closed, even during a request.
const BEYOND_TIME: Duration = Duration::from_secs(10);
/// The retry delay for a client that is refused because of too many connections.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How long a connection that was asked to close is given, and then the interval at which it is checked for being idle.
const LET_GO_TIME: Duration = Duration::from_secs(2);
/// How long connections may take to close at shutdown once their streams have ended.
const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// A bound listener with the doors that it will serve.
pub struct Server {
    listener: TcpListener,
    shared: Arc<ListenerShared>,
    connections: Group,
}

/// What all connections share.
struct ListenerShared {
    router: Router,
    config: Config,
    caller_header: Option<http::HeaderName>,
    origins: OriginPolicy,
    headers: HeaderPolicy,
    capacity: Capacity,
}

/// What belongs to one connection.
#[derive(Clone)]
struct ConnectionClient {
    departed: DisconnectSignal,
    open: Arc<OpenConnection>,
}

/// A response, and the request's entry in the shared quota.
type AnsweredRequest = (Response<Body>, Option<Arc<RequestGuard>>);

impl Server {
    /// Binds a port of the configured host, at the first of its addresses that can be bound.
    ///
    /// # Errors
    /// When no address can be bound, or the host has none.
    pub async fn bind(config: &Config, port: u16) -> io::Result<TcpListener> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((config.host.as_str(), port)).await? {
            let bind = || -> io::Result<TcpListener> {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                socket.listen(BACKLOG)
            };
            match bind() {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Combines doors with a bound listener. `headers` selects the headers that pages may send and read; the servers of one
    /// gateway share one capacity.
    ///
    /// # Errors
    /// When the configured caller header is not a valid header name.
    pub fn new(
        listener: TcpListener,
        config: &Config,
        auth: &AuthConfig,
        doors: Router,
        headers: HeaderPolicy,
        capacity: &Capacity,
    ) -> io::Result<Self> {
        let origins = OriginPolicy::new(
            &config.cors_origins, &config.allowed_hosts, &config.cors_headers, &config.host,
        );
        // Placed inside the CORS layer, so that pages can read these refusals too.
        let refusing = axum::middleware::from_fn(refuse_coded);
        let router = doors.fallback(problem::not_found).layer(refusing).layer(origins.cors_layer(headers));
        let caller_header =
            auth.caller_header.as_deref().map(str::parse).transpose().map_err(io::Error::other)?;
        Ok(Self {
            listener,
            shared: Arc::new(ListenerShared {
                router,
                config: config.clone(),
                caller_header,
                origins,
                headers,
                capacity: capacity.clone(),
            }),
            connections: Group::new("connections"),
        })
    }

    /// Returns the listener's address.
    ///
    /// # Errors
    /// When the socket's address cannot be read.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled, then waits up to twice `GOODBYE_TIME` for the connections to close.
    pub async fn serve(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                // Dropping the accept loses no connection, because it stays in the kernel's backlog.
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => self.open(stream, &stop),
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        self.connections.drain(GOODBYE_TIME).await;
        // The remaining connections are half-open or silent; stopping the group drops them.
        self.connections.stop();
        self.connections.drain(GOODBYE_TIME).await;
    }

    fn open(&self, stream: TcpStream, stop: &CancellationToken) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection without TCP_NODELAY");
        }
        let (shared, stop) = (self.shared.clone(), stop.clone());
        let (group, abort) = (self.connections.clone(), self.connections.stopping().clone());
        let open = shared.capacity.connections.opened();
        let serving = async move {
            let ends = open.ends.clone();
            tokio::select! {
                // The other branches drop the connection at once.
                () = serve_connection(stream, shared, open, group, stop) => {}
                () = ends.cancelled() => {}
                () = abort.cancelled() => {}
            }
        };
        self.connections.spawn("connection", serving);
    }
}

/// Notified when the first request has arrived; hyper itself, even its header timeout, never ends a connection that sends
/// nothing or half a preface.
#[derive(Default)]
struct FirstRequest {
    has_come: AtomicBool,
    came: Notify,
}

async fn serve_connection(
    stream: TcpStream,
    shared: Arc<ListenerShared>,
    open: Arc<OpenConnection>,
    group: Group,
    stop: CancellationToken,
) {
    let config = &shared.config;
    let timeout = config.request_timeout();
    let first = Arc::new(FirstRequest::default());

    let stream = Arc::new(stream);
    let (seen, answering) = (first.clone(), shared.clone());
    let client = ConnectionClient { departed: DisconnectSignal::of(&stream), open: open.clone() };
    let service = service_fn(move |request: Request<Incoming>| {
        if !seen.has_come.swap(true, Ordering::Relaxed) {
            seen.came.notify_one();
        }
        answer(request, answering.clone(), client.clone())
    });
    let mut builder = Builder::new(StreamExecutor { group, stall_timeout: config.stall_timeout() });
    builder
        .http1()
        // A client may half-close its connection and still wait for the response.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(READ_BUFFER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(256 * 1024)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(config.heartbeat())
        .keep_alive_timeout(config.stall_timeout());
    let io = TokioIo::new(StallTimeoutStream::new(stream, config.stall_timeout()));
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut is_stopping = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = open.let_go.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = no_request_within(timeout, &first) => return,
            () = gone(&open) => return,
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Returns when `timeout` passes without a first request; never returns once one has arrived.
async fn no_request_within(timeout: Duration, first: &FirstRequest) {
    if !first.has_come.load(Ordering::Relaxed)
        && tokio::time::timeout(timeout, first.came.notified()).await.is_err()
    {
        return;
    }
    std::future::pending().await
}

/// Returns when a connection that was asked to close is idle after [`LET_GO_TIME`], or when one that is still beyond the
/// bound has lasted for [`BEYOND_TIME`], whatever it is doing.
async fn gone(open: &OpenConnection) {
    let beyond = async {
        tokio::time::sleep(BEYOND_TIME).await;
        if !open.is_beyond() {
            std::future::pending::<()>().await;
        }
    };
    let let_go = async {
        open.let_go.cancelled().await;
        loop {
            tokio::time::sleep(LET_GO_TIME).await;
            if open.is_idle() {
                return;
            }
        }
    };
    tokio::select! {
        // Cancel safe: both branches only wait.
        () = beyond, if open.is_beyond() => {}
        () = let_go => {}
    }
}

async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<ListenerShared>,
    client: ConnectionClient,
) -> Result<Response<WatchedBody>, Infallible> {
    let door = form::door_of(request.headers());
    let is_http1 = request.version() < Version::HTTP_2;
    let ConnectionClient { departed, open } = client;
    if is_http1 {
        request.extensions_mut().insert(departed.clone());
    }
    let busy = open.busy();
    // The panic itself is logged as one line (`telemetry::start`) and ends only this request.
    let answering = AssertUnwindSafe(exchange(request, door, &shared, &open)).catch_unwind();
    // After a half-close, JSON and SSE requests are still answered, while a gRPC client means that it has left. An MCP call
    // ends with its client, but whether that has left shows only in an event stream; until one begins, the call has a short
    // grace period.
    let is_mcp = shared.headers == HeaderPolicy::Mcp;
    if !is_http1 || (door == Door::Http && !is_mcp) {
        let (response, in_progress) = answering.await.unwrap_or_else(|_| failed(door));
        let holds = RequestGuards { _busy: busy, _in_progress: in_progress };
        return Ok(response.map(|body| WatchedBody::new(body, holds)));
    }
    let grace = if is_mcp { HALF_CLOSED_TIME } else { Duration::ZERO };
    let (response, in_progress) = tokio::select! {
        // If the client leaves, the request is dropped with everything that it holds.
        response = answering => response.unwrap_or_else(|_| failed(door)),
        () = departed.clone().wait_for_lasting_disconnect(grace) => {
            let mut response = problem::to_response(&Error::new(Reason::RequestTimedOut, "the client has left"));
            close(&mut response);
            (response, None)
        }
    };
    let holds = RequestGuards { _busy: busy, _in_progress: in_progress };
    Ok(UntilDisconnectBody::new(response, departed, grace)
        .map(|body| WatchedBody::new(Body::new(body), holds)))
}

/// Checks the origin, identifies the caller and counts the request against the quotas. Probes have no caller and are not
/// counted.
fn begin(
    request: &mut Request<Body>,
    shared: &ListenerShared,
    open: &OpenConnection,
) -> crate::error::Result<Option<Arc<RequestGuard>>> {
    shared.origins.check(request)?;
    if is_probe(request.uri().path()) {
        return Ok(None);
    }
    let Some(caller) = caller_of(request, shared.caller_header.as_ref())? else { return Ok(None) };
    let begun = shared.capacity.requests.begin(&caller, open.is_beyond());
    if begun.is_ok() {
        // Another caller's stream was ended for this request, and its connection will close, so this one may stay.
        open.readmit();
    }
    let in_progress = begun.map_err(|error| match open.is_beyond() {
        true => Error::new(
            Reason::TooManyConnections,
            "there are as many connections as this gateway keeps, and none is idle; try again later",
        )
        .retry_after(RETRY_AFTER),
        false => error,
    })?;
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(in_progress.clone());
    Ok(Some(in_progress))
}

fn failed(door: Door) -> AnsweredRequest {
    let error = Error::new(Reason::Internal, "the gateway failed at this request; its log says why");
    (refusal(door, &error), None)
}

/// Marks the response as the last one on its connection (RFC 9112, section 9.6).
fn close(response: &mut Response<Body>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Returns an error in the format of the door.
fn refusal(door: Door, error: &Error) -> Response<Body> {
    match door {
        Door::Http => problem::to_response(error),
        _ => grpc::refusal(error),
    }
}

/// Handles one request. On HTTP/1.1 the unread rest of its body is drained, so that the next request can be read.
async fn exchange(
    request: Request<Incoming>,
    door: Door,
    shared: &ListenerShared,
    open: &OpenConnection,
) -> AnsweredRequest {
    let (is_http1, rest) = (request.version() < Version::HTTP_2, UnreadBody::default());
    let is_asked_for = request.headers().contains_key(header::EXPECT);
    let deadline = Instant::now() + shared.config.request_timeout();
    let is_misformed = form::check(&request).err();
    let request = request.map(|body| Body::new(TimedBody::new(body, deadline, rest.clone())));
    let mut closes = false;
    let (mut response, in_progress) = match is_misformed {
        Some((error, status)) => {
            drop(request);
            let response = match door {
                Door::Http => problem::with_status(&error, status.as_u16(), serde_json::json!({})),
                _ => grpc::refusal(&error),
            };
            closes = true;
            (response, None)
        }
        None => route(request, door, shared, open).await,
    };
    if door == Door::Http {
        response = form::finalize(response).await;
    }
    if is_http1 && (!rest.drain(deadline, is_asked_for).await || closes || open.is_beyond()) {
        close(&mut response);
    }
    (response, in_progress)
}

async fn refuse_coded(request: Request<Body>, next: axum::middleware::Next) -> Response<Body> {
    let is_http = request.extensions().get::<ThroughDoor>().is_some_and(|door| door.0 == Door::Http);
    match form::refuse_content_encoding(request.headers()).filter(|_| is_http) {
        Some(refused) => refused,
        None => next.run(request).await,
    }
}

async fn route(
    mut request: Request<Body>,
    door: Door,
    shared: &ListenerShared,
    open: &OpenConnection,
) -> AnsweredRequest {
    let begun = begin(&mut request, shared, open);
    open.close_after_answer();
    let in_progress = match begun {
        Ok(in_progress) => in_progress,
        Err(error) => return (refusal(door, &error), None),
    };
    if door != Door::Http {
        form::plain_media_type(request.headers_mut());
    }
    if let Some(header) = &shared.caller_header {
        form::remove_from_preflight(request.headers_mut(), header);
    }
    request.extensions_mut().insert(ThroughDoor(door));
    let response = shared.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    (response, in_progress)
}
