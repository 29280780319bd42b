//! The messages of the event streams, which contain a stored event as the bytes it was stored in.

use bytes::Bytes;

use super::{Heartbeat, Job};

/// `StreamExecuteResponse` and `WatchJobResponse` on the wire: an embedded message and a byte field look the
/// same there, so a stored event is relayed without decoding it.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct EventFrame {
    /// An encoded [`super::JobEvent`].
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub event: Option<Bytes>,
    /// A heartbeat, which shows that the stream is alive.
    #[prost(message, optional, tag = "2")]
    pub heartbeat: Option<Heartbeat>,
}

/// `WatchJobsResponse` on the wire, with exactly one of its fields.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct JobsFrame {
    /// An encoded [`super::JobEvent`].
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub event: Option<Bytes>,
    /// A heartbeat, which shows that the stream is alive.
    #[prost(message, optional, tag = "2")]
    pub heartbeat: Option<Heartbeat>,
    /// A job as it is now, as a summary.
    #[prost(message, optional, tag = "3")]
    pub job: Option<Job>,
    /// Where a later stream may go on.
    #[prost(string, optional, tag = "4")]
    pub cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::{JobEvent, JobStarted, job_event::Payload};

    /// The wire form that protobuf gives to `oneof { JobEvent event = 1; … }`.
    #[derive(Clone, PartialEq, ::prost::Message)]
    struct Typed {
        #[prost(message, optional, tag = "1")]
        event: Option<JobEvent>,
    }

    #[test]
    fn relayed_bytes_equal_the_typed_message() {
        let started = JobStarted { message: "ação".into(), task: None, engine: "bundled".into() };
        let event = JobEvent {
            job_id: "job_x".into(),
            sequence: 1,
            event_time: Some(super::super::Timestamp { seconds: 1, nanos: 2 }),
            payload: Some(Payload::JobStarted(started)),
        };
        let relayed = EventFrame { event: Some(event.encode_to_vec().into()), heartbeat: None };
        assert_eq!(relayed.encode_to_vec(), Typed { event: Some(event) }.encode_to_vec());
    }
}
