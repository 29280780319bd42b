//! A batch: consecutive events of one job in one shared buffer.

use std::{ops::Range, sync::OnceLock};

use bytes::Bytes;

use prost::Message;

use crate::pb::{self, job_event::Payload};

/// Consecutive encoded events of one job. Immutable, and shared by all readers.
#[derive(Debug)]
pub struct EventBatch {
    first_sequence: u32,
    bytes: Bytes,
    /// The offset in `bytes` at which each event ends.
    ends: Box<[u32]>,
    /// What the batch was rendered to, by the slot of the form.
    rendered: [OnceLock<RenderedEvents>; TEXT_FORMS],
}

/// The number of text forms that a batch is kept in.
const TEXT_FORMS: usize = 3;

/// A form of text that batches are rendered to. Each form has a slot of its own, so that readers of different forms share
/// what their own form was rendered to.
#[derive(Debug)]
pub struct TextForm {
    /// Below [`TEXT_FORMS`], and no other form's.
    slot: usize,
    render: fn(&EventBatch) -> RenderedEvents,
}

impl TextForm {
    /// Creates the form of a slot. A slot that does not exist does not compile, where the form is a constant.
    pub const fn new(slot: usize, render: fn(&EventBatch) -> RenderedEvents) -> Self {
        assert!(slot < TEXT_FORMS, "there is no such slot");
        Self { slot, render }
    }
}

/// A batch rendered for a text protocol, at most once however many readers share it.
#[derive(Debug)]
pub struct RenderedEvents {
    /// The rendered events, concatenated.
    pub bytes: Bytes,
    /// The offset in `bytes` at which each event ends.
    pub ends: Box<[u32]>,
}

impl EventBatch {
    /// Creates a batch of at least one event. `ends` must be ascending, and its last value must be the length of `bytes`.
    pub(super) fn new(first_sequence: u32, bytes: Bytes, ends: Box<[u32]>) -> Self {
        debug_assert_eq!(ends.last().copied().unwrap_or(0) as usize, bytes.len());
        Self { first_sequence, bytes, ends, rendered: Default::default() }
    }

    /// Joins consecutive batches into one. There must be at least one batch, and no gap between them.
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

    /// Returns the sequence of the first event.
    pub fn first_sequence(&self) -> u32 {
        self.first_sequence
    }

    /// Returns the sequence of the last event.
    pub fn last_sequence(&self) -> u32 {
        self.first_sequence + u32::try_from(self.ends.len()).unwrap_or(u32::MAX) - 1
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns `false`: a batch holds at least one event.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the encoded events, concatenated.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Returns the encoded event at `index`, sharing the buffer of the batch.
    pub fn event(&self, index: usize) -> Bytes {
        self.bytes.slice(range(&self.ends, index))
    }

    /// Returns the encoded event at `index` as a slice.
    pub fn event_bytes(&self, index: usize) -> &[u8] {
        &self.bytes[range(&self.ends, index)]
    }

    /// Decodes the event at `index`. Returns `None` if this build cannot decode it.
    pub fn decode(&self, index: usize) -> Option<pb::JobEvent> {
        pb::JobEvent::decode(&self.bytes[range(&self.ends, index)]).ok()
    }

    /// Returns the sequences and decoded payloads from `index` on, skipping events that this build cannot decode.
    pub fn payloads(&self, index: usize) -> impl Iterator<Item = (u32, Payload)> + '_ {
        (index..self.len()).filter_map(|index| {
            let event = self.decode(index)?;
            Some((event.sequence, event.payload?))
        })
    }

    /// Returns the batch in a text form. The first call renders it; the result is kept for the lifetime of the batch.
    pub fn rendered(&self, form: &TextForm) -> &RenderedEvents {
        self.rendered[form.slot].get_or_init(|| (form.render)(self))
    }
}

fn range(ends: &[u32], index: usize) -> Range<usize> {
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    start..ends[index] as usize
}

impl RenderedEvents {
    /// Returns the rendered event at `index`.
    pub fn event(&self, index: usize) -> &[u8] {
        &self.bytes[range(&self.ends, index)]
    }

    /// Returns the rendered events from `index` on, sharing the buffer.
    pub fn from(&self, index: usize) -> Bytes {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        self.bytes.slice(start..)
    }
}

#[cfg(test)]
mod tests;
