//! A batch: consecutive events of one job in one shared buffer.

use std::{ops::Range, sync::OnceLock};

use bytes::Bytes;

use crate::pb::{self, job_event::Payload};

/// Consecutive encoded events of one job. Shared by every reader; never changed.
#[derive(Debug)]
pub struct Batch {
    first_sequence: u32,
    bytes: Bytes,
    /// Where each event ends in `bytes`.
    ends: Box<[u32]>,
    rendered: OnceLock<Rendered>,
}

/// A batch in the form of a text protocol, rendered at most once however many read it.
#[derive(Debug)]
pub struct Rendered {
    /// The events one behind another.
    pub bytes: Bytes,
    /// Where each event ends in `bytes`.
    pub ends: Box<[u32]>,
}

impl Batch {
    /// A batch of at least one event. `ends` rises and its last value is the length of `bytes`.
    pub(super) fn new(first_sequence: u32, bytes: Bytes, ends: Box<[u32]>) -> Self {
        debug_assert_eq!(ends.last().copied().unwrap_or(0) as usize, bytes.len());
        Self { first_sequence, bytes, ends, rendered: OnceLock::new() }
    }

    /// One batch of the events of several, which follow each other. There is at least one.
    pub(super) fn joined<'a>(batches: impl IntoIterator<Item = &'a std::sync::Arc<Self>>) -> Self {
        let mut batches = batches.into_iter().peekable();
        let first_sequence = batches.peek().map_or(1, |first| first.first_sequence);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for batch in batches {
            let start = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            ends.extend(batch.ends.iter().map(|end| start + end));
            bytes.extend_from_slice(&batch.bytes);
        }
        bytes.shrink_to_fit();
        Self::new(first_sequence, bytes.into(), ends.into())
    }

    /// The sequence of its first event.
    pub fn first_sequence(&self) -> u32 {
        self.first_sequence
    }

    /// The sequence of its last event.
    pub fn last_sequence(&self) -> u32 {
        self.first_sequence + u32::try_from(self.ends.len()).unwrap_or(u32::MAX) - 1
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never true; a batch holds at least one event.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The encoded events one behind another.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The encoded event at `index`, sharing the batch's buffer.
    pub fn event(&self, index: usize) -> Bytes {
        self.bytes.slice(range(&self.ends, index))
    }

    /// The event at `index`, encoded.
    pub fn event_bytes(&self, index: usize) -> &[u8] {
        &self.bytes[range(&self.ends, index)]
    }

    /// The event at `index`, decoded. `None` where this build cannot read it.
    pub fn decode(&self, index: usize) -> Option<pb::JobEvent> {
        super::encode::decode(&self.bytes[range(&self.ends, index)]).ok()
    }

    /// The payloads from `index` on, decoded; what this build cannot read is left out.
    pub fn payloads(&self, index: usize) -> impl Iterator<Item = (u32, Payload)> + '_ {
        (index..self.len()).filter_map(|index| {
            let event = self.decode(index)?;
            Some((event.sequence, event.payload?))
        })
    }

    /// The batch in a text form, rendered by the first reader that asks and kept as long as the batch is.
    pub fn rendered(&self, render: impl FnOnce(&Self) -> Rendered) -> &Rendered {
        self.rendered.get_or_init(|| render(self))
    }
}

fn range(ends: &[u32], index: usize) -> Range<usize> {
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    start..ends[index] as usize
}

impl Rendered {
    /// The rendered events from `index` on, sharing the buffer.
    pub fn from(&self, index: usize) -> Bytes {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        self.bytes.slice(start..)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{journal::JobId, pb::EndOfStream};

    #[test]
    fn joined_batches_hold_the_same_events_under_the_same_numbers() {
        let job_id = JobId::generate().unwrap();
        let event = |number: u32| {
            Payload::EndOfStream(EndOfStream { message: "x".repeat(number as usize), state: 4 })
        };
        let batch = |first: u32, count: u32| {
            let events: Vec<Payload> = (first..first + count).map(event).collect();
            Arc::new(Batch::encoded(&job_id, first, &events))
        };
        let joined = Batch::joined(&[batch(5, 1), batch(6, 3), batch(9, 2)]);
        let whole = batch(5, 6);
        assert_eq!((joined.first_sequence(), joined.last_sequence()), (5, 10));
        assert_eq!((joined.bytes(), joined.ends()), (whole.bytes(), whole.ends()));
        let numbered: Vec<_> = joined.payloads(2).collect();
        assert_eq!(numbered, (7..11).map(|number| (number, event(number))).collect::<Vec<_>>());
    }
}
