//! A watchdog for HTTP/2 streams whose clients do not read what they are sent.
//!
//! A client can answer pings, which keeps its socket busy, and still give its stream no window (RFC 9113, section 5.2). hyper
//! then no longer polls the stream's body, and a body that is not polled cannot end its stream. Therefore each stream's task
//! watches its own body; dropping the task resets the stream with CANCEL and discards the data ready for it. The connection's
//! other streams, which may belong to other clients behind a proxy, are not affected.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::request_guards::RequestGuards;
use crate::task::Group;

/// The most bytes that a body yields at once (the initial maximum frame size, RFC 9113, section 4.2), so that a client's
/// progress is visible in these steps and h2 buffers less than this of a body that has ended.
const PIECE_BYTES: usize = 16 * 1024;

tokio::task_local! {
    static TAKING: Arc<BodyActivity>;
}

/// What the watchdog knows about the body of one stream.
#[derive(Debug, Default)]
struct BodyActivity {
    /// It yielded a frame and was not polled again since.
    is_untaken: AtomicBool,
    /// How often it was polled.
    asked: AtomicUsize,
}

/// Runs the streams of HTTP/2 connections as tasks of a group, and resets those whose clients read nothing for
/// `stall_timeout`.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    pub(super) group: Group,
    pub(super) stall_timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.group.spawn("stream", watch(stream, self.stall_timeout));
    }
}

async fn watch(stream: impl Future<Output = ()>, stall_timeout: Duration) {
    let taking = Arc::new(BodyActivity::default());
    let mut stream = pin!(TAKING.scope(taking.clone(), stream));
    let (mut asked, mut last_move) = (0, Instant::now());
    // Created when a client first has to be waited for, which most streams never need.
    let mut stall: Option<Pin<Box<Sleep>>> = None;
    let ends = poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let now_asked = taking.asked.load(Ordering::Relaxed);
        if now_asked != asked {
            (asked, last_move) = (now_asked, Instant::now());
        }
        if !taking.is_untaken.load(Ordering::Relaxed) {
            stall = None;
            return Poll::Pending;
        }
        let sleep =
            stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(last_move + stall_timeout)));
        loop {
            ready!(sleep.as_mut().poll(context));
            if last_move + stall_timeout <= Instant::now() {
                tracing::debug!("a stream is reset: its client takes no data");
                return Poll::Ready(());
            }
            sleep.as_mut().reset(last_move + stall_timeout);
        }
    });
    ends.await;
}

/// A response body that records its polls for the watchdog. On HTTP/1.1, where the socket has a stall timeout, it only
/// forwards.
pub(super) struct WatchedBody {
    body: Body,
    taking: Option<Arc<BodyActivity>>,
    /// The rest of a frame that was larger than [`PIECE_BYTES`].
    rest: Bytes,
    /// Held until the response has been read completely or dropped.
    _holds: RequestGuards,
}

impl WatchedBody {
    /// Wraps a body. Must be called within the task of the stream that the body belongs to.
    pub(super) fn new(body: Body, holds: RequestGuards) -> Self {
        Self { body, taking: TAKING.try_with(Arc::clone).ok(), rest: Bytes::new(), _holds: holds }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        Frame::data(self.rest.split_to(PIECE_BYTES.min(self.rest.len())))
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()? else {
            return Poll::Ready(None);
        };
        if frame.data_ref().is_none_or(|data| data.len() <= PIECE_BYTES) {
            return Poll::Ready(Some(Ok(frame)));
        }
        self.rest = frame.into_data().unwrap_or_default();
        Poll::Ready(Some(Ok(self.piece())))
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // A panicking body ends only its own response, as a failing one does.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match self.taking {
            None => Pin::new(&mut self.body).poll_frame(context),
            Some(_) => self.poll_piece(context),
        }));
        let frame = polled.unwrap_or_else(|_| Poll::Ready(Some(Err(axum::Error::new("a body panicked")))));
        if let Some(taking) = &self.taking {
            taking.is_untaken.store(frame.is_ready(), Ordering::Relaxed);
            taking.asked.fetch_add(1, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
