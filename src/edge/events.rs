//! The stream of one job's events that both doors adapt: slices, signs of life, one honest end.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

use super::requests::{InProgress, RETRY_AFTER};
use crate::{
    error::{Error, Reason, Result},
    job::{EventFollower, EventSlice, HeldJob, JobService},
};

/// What a stream carries.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Events.
    Slice(EventSlice),
    /// Nothing happened for a while; the last sequence that was sent.
    Heartbeat(u32),
}

struct State {
    follower: EventFollower,
    heartbeat: Duration,
    closing: CancellationToken,
    /// Cancelled when it is to end for another caller's request.
    gives_way: CancellationToken,
}

type Step = (Result<Option<Item>>, State);

/// See the module's documentation. Ends after the job's last event, or with one error.
pub(super) struct EventStream {
    step: ReusableBoxFuture<'static, Step>,
    is_over: bool,
    /// Cancels the job when the stream is dropped before its end.
    held: Option<HeldJob>,
}

async fn step(mut state: State) -> Step {
    let item = tokio::select! {
        // Events first: what is there is sent before a stream is closed. `next` is cancel safe.
        biased;
        slice = state.follower.next() => slice.map(|slice| slice.map(Item::Slice)),
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
        () = tokio::time::sleep(state.heartbeat) => Ok(Some(Item::Heartbeat(state.follower.last_seen()))),
    };
    (item, state)
}

impl EventStream {
    /// `request`: the one that it answers.
    pub(super) fn new(
        service: &JobService,
        follower: EventFollower,
        heartbeat: Duration,
        request: Option<&Arc<InProgress>>,
    ) -> Self {
        let gives_way = request.map(|request| request.gives_way()).unwrap_or_default();
        let state = State { follower, heartbeat, closing: service.closing().clone(), gives_way };
        Self { step: ReusableBoxFuture::new(step(state)), is_over: false, held: None }
    }

    /// Cancels the job when the stream is dropped before its end.
    pub(super) fn holding(mut self, held: Option<HeldJob>) -> Self {
        self.held = held;
        self
    }
}

impl Stream for EventStream {
    type Item = Result<Item>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Item>>> {
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
                    held.let_go();
                }
                Poll::Ready(ended.map_or_else(|error| Some(Err(error)), |_| None))
            }
        }
    }
}
