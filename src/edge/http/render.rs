//! A batch of events as server-sent events, rendered once for all its readers.

use std::io::Write;

use bytes::Bytes;

use crate::{
    job::{EventBatch, RenderedEvents},
    pb::{self, JobEvent, job_event::Payload},
};

/// Renders every event of a batch: `id:` and one `data:` line of JSON. serde_json escapes every control
/// character, so that no payload can break out of its line.
pub(crate) fn render(batch: &EventBatch) -> RenderedEvents {
    let mut text = Vec::with_capacity(batch.bytes().len() * 2);
    let mut ends = Vec::with_capacity(batch.len());
    for index in 0..batch.len() {
        let sequence = batch.first_sequence() + u32::try_from(index).unwrap_or(0);
        let start = text.len();
        let rendered = batch.decode(index).and_then(|event| {
            write!(text, "id: {sequence}\ndata: ").ok()?;
            write_event(&mut text, &event)?;
            text.extend_from_slice(b"\n\n");
            Some(())
        });
        if rendered.is_none() {
            text.truncate(start);
            // Writing to memory cannot fail.
            let _infallible = write!(
                text,
                "id: {sequence}\ndata: {{\"event\":\"unsupported\",\"sequence\":{sequence}}}\n\n"
            );
        }
        ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    RenderedEvents { bytes: Bytes::from(text), ends: ends.into() }
}

/// Writes an event as the JSON doors print it. `None` where this build cannot render it: an arm or an enum value
/// that it does not know.
pub fn write_event(text: &mut Vec<u8>, event: &JobEvent) -> Option<()> {
    let payload = event.payload.as_ref()?;
    let time = event.event_time.unwrap_or_default();
    write!(text, "{{\"event\":\"{}\",\"data\":", pb::event_name(payload)).ok()?;
    write_payload(text, payload).ok()?;
    write!(
        text,
        ",\"timestamp\":{}.{:03},\"job_id\":\"{}\",\"sequence\":{}}}",
        time.seconds,
        time.nanos / 1_000_000,
        event.job_id,
        event.sequence
    )
    .ok()
}

fn write_payload(text: &mut Vec<u8>, payload: &Payload) -> serde_json::Result<()> {
    match payload {
        Payload::JobStarted(data) => serde_json::to_writer(text, data),
        Payload::StatusUpdate(data) => serde_json::to_writer(text, data),
        Payload::OnChainStart(data) => serde_json::to_writer(text, data),
        Payload::OnChainEnd(data) => serde_json::to_writer(text, data),
        Payload::OnLlmStart(data) => serde_json::to_writer(text, data),
        Payload::OnLlmNewToken(data) => serde_json::to_writer(text, data),
        Payload::OnLlmEnd(data) => serde_json::to_writer(text, data),
        Payload::OnToolStart(data) => serde_json::to_writer(text, data),
        Payload::OnToolOutput(data) => serde_json::to_writer(text, data),
        Payload::OnToolEnd(data) => serde_json::to_writer(text, data),
        Payload::InputRequired(data) => serde_json::to_writer(text, data),
        Payload::InputReceived(data) => serde_json::to_writer(text, data),
        Payload::Result(data) => serde_json::to_writer(text, data),
        Payload::Error(data) => serde_json::to_writer(text, data),
        Payload::EndOfStream(data) => serde_json::to_writer(text, data),
    }
}
