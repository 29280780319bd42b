//! Batches made of events, for callers that write to a store without a journal.

use super::{EventBatch, JobId, encode::encode};
use crate::pb::{Timestamp, job_event::Payload};

impl EventBatch {
    /// Encodes the first batch of a job, with the Unix epoch as the time of every event, for callers that write to a store
    /// without a journal.
    pub fn of_events(job_id: &JobId, payloads: &[Payload]) -> Self {
        Self::encoded(job_id, 1, payloads)
    }

    /// Encodes a batch of these events, with the Unix epoch as their time.
    pub(crate) fn encoded(job_id: &JobId, first_sequence: u32, payloads: &[Payload]) -> Self {
        let (mut bytes, mut ends) = (bytes::BytesMut::new(), Vec::new());
        for (sequence, payload) in (first_sequence..).zip(payloads) {
            encode(job_id, sequence, &Timestamp::default(), payload, &mut bytes);
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        Self::new(first_sequence, bytes.freeze(), ends.into())
    }
}
