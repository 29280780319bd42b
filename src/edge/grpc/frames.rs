//! Jobs' events as gRPC messages: the stored bytes, one frame per event.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::Status;

use super::{
    super::{
        events::{EventStream, StreamItem},
        watch_jobs::{WatchItem, WatchStream},
    },
    status::to_status,
};
use crate::{
    job::EventSlice,
    pb::{EventFrame, Heartbeat, JobsFrame},
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
        Some(EventFrame { event: Some(next_event(&mut self.current)?), heartbeat: None })
    }
}

/// Takes the next event of a slice, and the slice itself away after its last one.
fn next_event(current: &mut Option<EventSlice>) -> Option<Bytes> {
    let slice = current.as_mut()?;
    let event = slice.batch.event(slice.from);
    slice.from += 1;
    if slice.from == slice.batch.len() {
        *current = None;
    }
    Some(event)
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

/// A stream of gRPC messages over a stream of many jobs.
pub(super) struct JobsFrameStream {
    items: WatchStream,
    current: Option<EventSlice>,
}

impl JobsFrameStream {
    pub(super) fn new(items: WatchStream) -> Self {
        Self { items, current: None }
    }
}

impl Stream for JobsFrameStream {
    type Item = Result<JobsFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = next_event(&mut self.current) {
                return Poll::Ready(Some(Ok(JobsFrame { event: Some(event), ..JobsFrame::default() })));
            }
            let frame = match ready!(self.items.as_mut().poll_next(context)) {
                Some(Ok(WatchItem::Slice(slice))) => {
                    self.current = Some(slice);
                    continue;
                }
                Some(Ok(WatchItem::Job(job))) => JobsFrame { job: Some(*job), ..JobsFrame::default() },
                Some(Ok(WatchItem::Cursor(cursor))) => {
                    JobsFrame { cursor: Some(cursor), ..JobsFrame::default() }
                }
                Some(Ok(WatchItem::Heartbeat)) => {
                    JobsFrame { heartbeat: Some(Heartbeat::default()), ..JobsFrame::default() }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(to_status(&error)))),
                None => return Poll::Ready(None),
            };
            return Poll::Ready(Some(Ok(frame)));
        }
    }
}
