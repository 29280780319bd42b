//! The listener of a port: HTTP/1.1 and HTTP/2 without TLS (h2c, prior knowledge); every wait has a deadline.

mod exchange;
mod shared;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use self::{
    exchange::{answer, refuse_coded},
    shared::{ConnectionClient, ListenerShared},
};
use super::{
    AuthConfig, Capacity, OriginPolicy, ServerConfig, access::HeaderPolicy, connection_table::OpenConnection,
    disconnect::DisconnectSignal, problem, stall_timeout_stream::StallTimeoutStream,
    stall_watchdog::StreamExecutor,
};
use crate::task::Group;

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
/// The time after which a connection beyond the bound is closed, even during a request.
const BEYOND_TIME: Duration = Duration::from_secs(10);
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

impl Server {
    /// Binds a port of the configured host, at the first of its addresses that can be bound.
    ///
    /// # Errors
    /// When no address can be bound, or the host has none.
    pub async fn bind(config: &ServerConfig, port: u16) -> io::Result<TcpListener> {
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
        config: &ServerConfig,
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
