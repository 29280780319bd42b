//! The stream of one job's events, which the gRPC and HTTP doors adapt: slices of events, heartbeats, and one definite end.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

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

struct EventStreamState {
    follower: EventFollower,
    heartbeat: Duration,
    closing: CancellationToken,
    /// Cancelled to end this stream for another caller's request.
    gives_way: CancellationToken,
}

type EventStreamStep = (Result<Option<StreamItem>>, EventStreamState);

/// A stream of a job's events; it ends after the job's last event, or with one error.
pub(super) struct EventStream {
    step: ReusableBoxFuture<'static, EventStreamStep>,
    is_over: bool,
    /// The client's disconnect guard: let go when the stream ends by itself, otherwise dropped with the stream.
    held: Option<DisconnectGuard>,
}

async fn step(mut state: EventStreamState) -> EventStreamStep {
    let item = tokio::select! {
        // Available events are sent before the stream is closed. `next` is cancel safe.
        biased;
        slice = state.follower.next() => slice.map(|slice| slice.map(StreamItem::Slice)),
        () = state.closing.cancelled() => Err(Error::new(
            Reason::Shutdown,
            format!("the gateway is shutting down; read on after sequence {}", state.follower.last_seen()),
        )
        .with_sequence(state.follower.last_seen())),
        () = state.gives_way.cancelled() => Err(Error::new(
            Reason::TooManyStreams,
            format!(
                "the stream has ended for another caller's request, of whom there are too many; read on after sequence {}",
                state.follower.last_seen()
            ),
        )
        .with_sequence(state.follower.last_seen())
        .retry_after(RETRY_AFTER)),
        () = tokio::time::sleep(state.heartbeat) => Ok(Some(StreamItem::Heartbeat(state.follower.last_seen()))),
    };
    (item, state)
}

impl EventStream {
    /// Creates the stream. `request` is the request that it answers, which becomes one that may be ended early.
    pub(super) fn new(
        service: &JobService,
        follower: EventFollower,
        heartbeat: Duration,
        request: Option<&Arc<RequestGuard>>,
    ) -> Self {
        let gives_way = request.map(|request| request.preemptible()).unwrap_or_default();
        let state = EventStreamState { follower, heartbeat, closing: service.closing().clone(), gives_way };
        Self { step: ReusableBoxFuture::new(step(state)), is_over: false, held: None }
    }

    /// Attaches the client's disconnect guard: dropping the stream before its end counts as leaving the job.
    pub(super) fn holding(mut self, held: Option<DisconnectGuard>) -> Self {
        self.held = held;
        self
    }
}

impl Stream for EventStream {
    type Item = Result<StreamItem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<StreamItem>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let (item, state) = ready!(Pin::new(&mut self.step).poll(context));
        match item {
            Ok(Some(item)) => {
                self.step.set(step(state));
                Poll::Ready(Some(Ok(item)))
            }
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
