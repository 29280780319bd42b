//! Whether the client of a connection takes what its requests answer.
//!
//! A client of HTTP/2 may answer pings, which keeps its socket busy, and give its streams no window (RFC 9113, section 5.2).
//! hyper then asks their bodies for nothing more, and a body that is not asked cannot end its stream. So it is the connection
//! that ends, but only when none of its requests moves: behind a proxy, another stream may be another client's.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// How often in the time-out a connection is looked at: it is closed after the time-out and at most this part of it more.
const LOOKS: u32 = 4;

/// What the requests of one connection do. The counts are only ever read as a hint of each other: nothing else is
/// published through them.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// Requests that have not been answered to their end.
    open: AtomicUsize,
    /// Those of them whose body has given something that was not asked for more since.
    untaken: AtomicUsize,
    /// Counts everything that moves.
    moves: AtomicUsize,
}

impl Taking {
    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
        Answering { taking: self.clone(), is_untaken: false }
    }

    /// Ends when every request of the connection has waited this long, at least, for its client to take something.
    pub(super) async fn stalls_for(&self, timeout: Duration) {
        let (mut moves, mut looks) = (self.moves.load(Ordering::Relaxed), 0);
        while looks < LOOKS {
            tokio::time::sleep(timeout / LOOKS).await;
            let open = self.open.load(Ordering::Relaxed);
            let now = self.moves.load(Ordering::Relaxed);
            let is_stalled = now == moves && open > 0 && open == self.untaken.load(Ordering::Relaxed);
            looks = if is_stalled { looks + 1 } else { 0 };
            moves = now;
        }
    }
}

/// One request, until it is dropped.
#[derive(Debug)]
pub(super) struct Answering {
    taking: Arc<Taking>,
    is_untaken: bool,
}

impl Answering {
    fn set_untaken(&mut self, is_untaken: bool) {
        self.taking.moves.fetch_add(1, Ordering::Relaxed);
        if is_untaken != self.is_untaken {
            self.is_untaken = is_untaken;
            if is_untaken {
                self.taking.untaken.fetch_add(1, Ordering::Relaxed);
            } else {
                self.taking.untaken.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.set_untaken(false);
        self.taking.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response's body that says when it is asked.
pub(super) struct TakenBody {
    body: Body,
    answering: Answering,
}

impl TakenBody {
    pub(super) fn new(body: Body, answering: Answering) -> Self {
        Self { body, answering }
    }
}

impl HttpBody for TakenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.answering.set_untaken(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
