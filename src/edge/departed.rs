//! Whether the client of an HTTP/1.1 connection has ended its side (RFC 9112, section 9.6).
//!
//! One that has only said that it sends no more is answered; one that is gone looks the same until something is written to it.
//! So who asked for its job to end with it, a gRPC call and, soon after, an MCP call are given up at that sign; everybody else is answered,
//! and a stream writes a sign of life at once and then often, so that one whose client is gone ends soon.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{io::Interest, net::TcpStream};

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

/// A body that breaks off when its client departs.
pub(super) struct UntilDeparted {
    body: Body,
    departed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl UntilDeparted {
    pub(super) fn new(body: Body, departed: Departed, grace: Duration) -> Self {
        Self { body, departed: departed.seen_for(grace) }
    }
}

impl http_body::Body for UntilDeparted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.departed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new("the client has left"))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
