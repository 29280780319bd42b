//! Detects whether the client of an HTTP/1.1 connection has closed its sending side (RFC 9112, section 9.6).
//!
//! A client that only half-closes still expects a response, and until something is written it cannot be told from one that is
//! gone. Requests whose job ends with the client and gRPC calls are therefore abandoned at this sign; MCP requests after a
//! grace period; all others are answered. An event stream sends a ping at once and then often: the write fails if the client
//! is gone, which ends the stream. (`hostile::a_client_of_mcp_that_is_gone_and_one_that_is_done_are_told_apart`)

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, header};
use http_body::{Frame, SizeHint};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, Sleep},
};

/// The interval at which a client that has pipelined its next request is checked again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Detects the half-close of a client; an extension of HTTP/1.1 requests. Without a waiter it costs nothing.
#[derive(Clone, Debug)]
pub(super) struct DisconnectSignal(Weak<TcpStream>);

impl DisconnectSignal {
    pub(super) fn of(stream: &Arc<TcpStream>) -> Self {
        Self(Arc::downgrade(stream))
    }

    /// Waits until the client has closed its sending side or the connection is gone.
    pub(super) fn wait_for_disconnect(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Some(stream) = self.0.upgrade() else { return };
            loop {
                match stream.peek(&mut [0]).await {
                    Ok(0) | Err(_) => return,
                    // Pipelined data is not read before this response is written, but the socket's readiness still shows the
                    // half-close.
                    Ok(_)
                        if stream
                            .ready(Interest::READABLE)
                            .await
                            .is_ok_and(|ready| ready.is_read_closed()) =>
                    {
                        return;
                    }
                    Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        })
    }
}

impl DisconnectSignal {
    /// Waits as [`DisconnectSignal::wait_for_disconnect`], and then for `time`.
    pub(super) fn wait_for_lasting_disconnect(
        self,
        time: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            self.wait_for_disconnect().await;
            tokio::time::sleep(time).await;
        })
    }
}

/// A comment of the event stream format, which readers ignore.
pub(super) const PING: Bytes = Bytes::from_static(b": ping\n\n");
/// The delay of the second ping: the kernel reports a departed client only at the write after the one that the peer rejected.
const SOON: Duration = Duration::from_millis(100);
/// The longest pause between pings to a reader that has half-closed.
const OFTEN: Duration = Duration::from_secs(1);

/// Determines when an event stream has to send a ping. No ping is due before the client closes its sending side; then one
/// is due at once, the next after 100 milliseconds, and each later pause is twice as long, up to 1 second. A write to a
/// client that is gone fails, which ends the stream.
pub(super) struct DisconnectProbe {
    seen: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    again: Pin<Box<Sleep>>,
    pause: Duration,
}

impl DisconnectProbe {
    pub(super) fn of(departed: DisconnectSignal) -> Self {
        Self {
            seen: Some(departed.wait_for_disconnect()),
            again: Box::pin(tokio::time::sleep(Duration::ZERO)),
            pause: SOON,
        }
    }

    /// Returns ready when a [`PING`] is due.
    pub(super) fn poll_due(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if let Some(seen) = &mut self.seen {
            ready!(seen.as_mut().poll(task));
            self.seen = None;
        }
        ready!(self.again.as_mut().poll(task));
        self.again.as_mut().reset(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(OFTEN);
        Poll::Ready(())
    }
}

/// A response body that ends when its client leaves.
pub(super) struct UntilDisconnectBody {
    body: Body,
    watch: DisconnectWatch,
}

enum DisconnectWatch {
    /// An event stream: pings detect whether the reader is gone.
    DisconnectProbe(DisconnectProbe),
    /// Any other body fails when this future completes.
    Break(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl UntilDisconnectBody {
    pub(super) fn new(
        response: Response<Body>,
        departed: DisconnectSignal,
        grace: Duration,
    ) -> Response<Self> {
        let is_events = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        response.map(|body| {
            let watch = match is_events {
                true => DisconnectWatch::DisconnectProbe(DisconnectProbe::of(departed)),
                false => DisconnectWatch::Break(departed.wait_for_lasting_disconnect(grace)),
            };
            Self { body, watch }
        })
    }
}

impl http_body::Body for UntilDisconnectBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(task) {
            return Poll::Ready(frame);
        }
        match &mut self.watch {
            DisconnectWatch::DisconnectProbe(probe) => {
                probe.poll_due(task).map(|()| Some(Ok(Frame::data(PING))))
            }
            DisconnectWatch::Break(seen) => {
                seen.as_mut().poll(task).map(|()| Some(Err(axum::Error::new("the client has left"))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
