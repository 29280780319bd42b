//! A request body with a deadline, so that a client that sends very slowly holds no resources; and the draining of bodies
//! that no handler reads to the end.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::sync::lock;

/// The most bytes of an unread body that are drained so that its client can read the response. A client that sends more is
/// not waited for.
const MAX_DRAINED_BYTES: usize = 32 * 1024 * 1024;

/// The reason why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the request's body did not come in time")]
    TimedOut,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// Receives the body back if it is dropped before its end.
#[derive(Clone, Default)]
pub(super) struct UnreadBody(Arc<Mutex<Option<Incoming>>>);

impl UnreadBody {
    fn take(&self) -> Option<Incoming> {
        lock(&self.0).take()
    }

    /// Reads and discards the rest of the body, up to `deadline` and [`MAX_DRAINED_BYTES`]. Returns whether the connection
    /// can carry another request; if not, the response must say that it closes.
    pub(super) async fn drain(&self, deadline: Instant, is_asked_for: bool) -> bool {
        let Some(mut body) = self.take() else { return true };
        // The client waits for `100 Continue`, which will not be sent.
        if is_asked_for {
            return false;
        }
        let read = async {
            let mut drained = 0;
            while let Some(frame) = body.frame().await {
                drained += frame
                    .ok()
                    .and_then(|frame| frame.into_data().ok())
                    .map_or(MAX_DRAINED_BYTES, |data| data.len());
                if drained >= MAX_DRAINED_BYTES {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout_at(deadline, read).await.unwrap_or(false)
    }
}

/// A request body that fails at its deadline and returns its unread rest when dropped.
pub(super) struct TimedBody {
    body: Option<Incoming>,
    deadline: Instant,
    /// Created at the first wait, because most bodies have arrived already.
    sleep: Option<Pin<Box<Sleep>>>,
    rest: UnreadBody,
}

impl TimedBody {
    pub(super) fn new(body: Incoming, deadline: Instant, rest: UnreadBody) -> Self {
        Self { body: Some(body), deadline, sleep: None, rest }
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *lock(&self.rest.0) = Some(body);
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            if frame.is_none() {
                self.body = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyError::TimedOut)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
