//! A job's events as gRPC messages: the stored bytes, one frame per event.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio_stream::Stream;
use tonic::Status;

use super::{
    super::events::{EventStream, StreamItem},
    status::to_status,
};
use crate::{
    job::EventSlice,
    pb::{EventFrame, Heartbeat},
};

/// A stream of gRPC messages over a stream of events.
pub(super) struct EventFrameStream {
    events: EventStream,
    current: Option<EventSlice>,
}

impl EventFrameStream {
    pub(super) fn new(events: EventStream) -> Self {
        Self { events, current: None }
    }

    fn take(&mut self) -> Option<EventFrame> {
        let slice = self.current.as_mut()?;
        let event = slice.batch.event(slice.from);
        slice.from += 1;
        if slice.from == slice.batch.len() {
            self.current = None;
        }
        Some(EventFrame { event: Some(event), heartbeat: None })
    }
}

impl Stream for EventFrameStream {
    type Item = Result<EventFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(frame) = self.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match ready!(Pin::new(&mut self.events).poll_next(context)) {
                Some(Ok(StreamItem::Slice(slice))) => self.current = Some(slice),
                Some(Ok(StreamItem::Heartbeat(last_sequence))) => {
                    let heartbeat = Some(Heartbeat { last_sequence });
                    return Poll::Ready(Some(Ok(EventFrame { event: None, heartbeat })));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(to_status(&error)))),
                None => return Poll::Ready(None),
            }
        }
    }
}
