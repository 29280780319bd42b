//! The stream of one job's events, which the gRPC and HTTP doors adapt: slices of events, heartbeats, and one definite end.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tokio_util::sync::ReusableBoxFuture;

use super::requests::{RETRY_AFTER, RequestGuard};
use crate::{
    error::{Error, Reason, Result},
    job::{DisconnectGuard, EventFollower, EventSlice, JobService},
};

/// An item of the stream.
#[derive(Clone, Debug)]
pub(super) enum StreamItem {
    /// One or more events.
    Slice(EventSlice),
    /// Nothing happened for a while; carries the last sequence that was sent.
    Heartbeat(u32),
}

/// Why a stream ends before its job does.
enum StreamInterruption {
    Shutdown,
    /// Another caller's request needs the room.
    GivesWay,
}

type NextSlice = (Result<Option<EventSlice>>, EventFollower);

/// A stream of a job's events; it ends after the job's last event, or with one error.
pub(super) struct EventStream {
    next: ReusableBoxFuture<'static, NextSlice>,
    /// This and the heartbeat's timer are made once and not for each event.
    interrupted: Pin<Box<dyn Future<Output = StreamInterruption> + Send>>,
    heartbeat: Duration,
    silence: Pin<Box<Sleep>>,
    last_seen: u32,
    is_over: bool,
    /// The client's disconnect guard: let go when the stream ends by itself, otherwise dropped with the stream.
    held: Option<DisconnectGuard>,
}

async fn next(mut follower: EventFollower) -> NextSlice {
    (follower.next().await, follower)
}

impl EventStream {
    /// Creates the stream. `request` is the request that it answers, which becomes one that may be ended early.
    pub(super) fn new(
        service: &JobService,
        follower: EventFollower,
        heartbeat: Duration,
        request: Option<&Arc<RequestGuard>>,
    ) -> Self {
        let (closing, gives_way) = (service.closing().clone(), request.map(|request| request.preemptible()));
        let interrupted = async move {
            // Cancel safe: both branches only wait.
            tokio::select! {
                biased;
                () = closing.cancelled() => StreamInterruption::Shutdown,
                () = async {
                    match &gives_way {
                        Some(gives_way) => gives_way.cancelled().await,
                        None => std::future::pending().await,
                    }
                } => StreamInterruption::GivesWay,
            }
        };
        let last_seen = follower.last_seen();
        Self {
            next: ReusableBoxFuture::new(next(follower)),
            interrupted: Box::pin(interrupted),
            heartbeat,
            silence: Box::pin(tokio::time::sleep(heartbeat)),
            last_seen,
            is_over: false,
            held: None,
        }
    }

    /// Attaches the client's disconnect guard: dropping the stream before its end counts as leaving the job.
    pub(super) fn holding(mut self, held: Option<DisconnectGuard>) -> Self {
        self.held = held;
        self
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<StreamItem>>> {
        // Available events are sent before the stream is closed.
        if let Poll::Ready((slice, follower)) = self.next.poll(context) {
            self.last_seen = follower.last_seen();
            self.next.set(next(follower));
            self.silence.as_mut().reset(Instant::now() + self.heartbeat);
            return Poll::Ready(slice.map(|slice| slice.map(StreamItem::Slice)));
        }
        let last_seen = self.last_seen;
        match self.interrupted.as_mut().poll(context) {
            Poll::Ready(StreamInterruption::Shutdown) => {
                let message = format!("the gateway is shutting down; read on after sequence {last_seen}");
                return Poll::Ready(Err(Error::new(Reason::Shutdown, message).with_sequence(last_seen)));
            }
            Poll::Ready(StreamInterruption::GivesWay) => {
                let message = format!(
                    "the stream has ended for another caller's request, of whom there are too many; read on after sequence {last_seen}"
                );
                let error = Error::new(Reason::TooManyStreams, message);
                return Poll::Ready(Err(error.with_sequence(last_seen).retry_after(RETRY_AFTER)));
            }
            Poll::Pending => {}
        }
        ready!(self.silence.as_mut().poll(context));
        self.silence.as_mut().reset(Instant::now() + self.heartbeat);
        Poll::Ready(Ok(Some(StreamItem::Heartbeat(last_seen))))
    }
}

impl Stream for EventStream {
    type Item = Result<StreamItem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<StreamItem>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match ready!(self.poll_item(context)) {
            Ok(Some(item)) => Poll::Ready(Some(Ok(item))),
            ended => {
                self.is_over = true;
                if let Some(held) = self.held.take() {
                    held.release();
                }
                Poll::Ready(ended.map_or_else(|error| Some(Err(error)), |_| None))
            }
        }
    }
}
