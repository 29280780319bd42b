//! Whether the client of an HTTP/1.1 connection has ended its side (RFC 9112, section 9.6).
//!
//! One that has only said that it sends no more is answered; one that is gone looks the same until something is written to it.
//! So who asked for its job to end with it and a gRPC call are given up at that sign; everybody else is answered. A stream of
//! events writes a sign of life at once and then often: the write fails when the client is gone, which ends the stream.
//! (`hostile::a_client_of_mcp_that_is_gone_and_one_that_is_done_are_told_apart`)

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

/// A client that has sent its next request already is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The sign, for whoever wants to see it; among a request's extensions on HTTP/1.1. Nobody looks while nobody wants to.
#[derive(Clone, Debug)]
pub(super) struct Departed(Weak<TcpStream>);

impl Departed {
    pub(super) fn of(stream: &Arc<TcpStream>) -> Self {
        Self(Arc::downgrade(stream))
    }

    /// Waits until the client sends no more.
    pub(super) fn seen(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Some(stream) = self.0.upgrade() else { return };
            loop {
                match stream.peek(&mut [0]).await {
                    Ok(0) | Err(_) => return,
                    // What it has sent already is not read before this answer is written; the system knows of its end all the same.
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

impl Departed {
    /// Waits until that is so for some time.
    pub(super) fn seen_for(self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            self.seen().await;
            tokio::time::sleep(time).await;
        })
    }
}

/// A comment in a stream of events, which readers pass over.
pub(super) const PING: Bytes = Bytes::from_static(b": ping\n\n");
/// The system says that a client is gone in answer to a write, so the second write, after this time, tells it.
const SOON: Duration = Duration::from_millis(100);
/// A reader that sends no more is written to at least this often.
const OFTEN: Duration = Duration::from_secs(1);

/// The watch over the reader of a stream of events that may be gone.
pub(super) struct Probe {
    seen: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    again: Pin<Box<Sleep>>,
    pause: Duration,
}

impl Probe {
    pub(super) fn of(departed: Departed) -> Self {
        Self { seen: Some(departed.seen()), again: Box::pin(tokio::time::sleep(Duration::ZERO)), pause: SOON }
    }

    /// Ready when a [`PING`] is due.
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

/// The body of an answer whose call ends with its client.
pub(super) struct UntilDeparted {
    body: Body,
    watch: Watch,
}

enum Watch {
    /// A stream of events: its readers are written to.
    Probe(Probe),
    /// Anything else breaks off.
    Break(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl UntilDeparted {
    pub(super) fn new(response: Response<Body>, departed: Departed, grace: Duration) -> Response<Self> {
        let is_events = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        response.map(|body| {
            let watch = match is_events {
                true => Watch::Probe(Probe::of(departed)),
                false => Watch::Break(departed.seen_for(grace)),
            };
            Self { body, watch }
        })
    }
}

impl http_body::Body for UntilDeparted {
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
            Watch::Probe(probe) => probe.poll_due(task).map(|()| Some(Ok(Frame::data(PING)))),
            Watch::Break(seen) => {
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
