//! Renders a batch of events as server-sent events, once for all its readers.

mod fast_path;

use std::io::Write;

use bytes::Bytes;

use crate::{
    job::{EventBatch, JobId, RenderedEvents, TextForm},
    pb::{self, JobEvent, job_event::Payload},
    text::write_json,
};

/// The events as the SSE stream of this gateway has them.
pub(super) static SERVER_SENT_EVENTS: TextForm = TextForm::new(0, render);

/// The same without ids, for streams of many jobs, whose ids are cursors.
pub(super) static EVENTS_WITHOUT_IDS: TextForm = TextForm::new(2, render_without_ids);

/// The typical size of a rendered token or output event beyond its encoded form: names, id, time and job.
const FRAME_BYTES: usize = 160;

/// Renders every event of a batch as `id:` and one `data:` line of JSON. Every hidden character is escaped, so that no
/// payload can break out of its line, whatever the reader treats as a line break.
pub(crate) fn render(batch: &EventBatch) -> RenderedEvents {
    // Large enough for most batches, because growing the buffer copies what was written.
    let mut text = Vec::with_capacity(batch.bytes().len() + batch.len() * FRAME_BYTES);
    let mut ends = Vec::with_capacity(batch.len());
    let mut tail = fast_path::EventSuffix::default();
    for index in 0..batch.len() {
        let sequence = batch.first_sequence() + u32::try_from(index).unwrap_or(0);
        let start = text.len();
        if fast_path::render(&mut text, batch.event_bytes(index), sequence, &mut tail).is_some() {
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            continue;
        }
        text.truncate(start);
        let event = batch.decode(index);
        let rendered = event.as_ref().and_then(|event| {
            write!(text, "id: {sequence}\ndata: ").ok()?;
            write_event(&mut text, event)?;
            text.extend_from_slice(b"\n\n");
            Some(())
        });
        if rendered.is_none() {
            text.truncate(start);
            text.extend_from_slice(unsupported(sequence, event.as_ref()).as_bytes());
        }
        ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    RenderedEvents { bytes: Bytes::from(text), ends: ends.into() }
}

/// Returns what stands for an event that this build cannot render: it was written by a later one, or is damaged.
fn unsupported(sequence: u32, event: Option<&JobEvent>) -> String {
    // A reader of many jobs has to know whose event it is.
    let job_id = event.and_then(|event| JobId::parse(&event.job_id).ok());
    let of = job_id.map(|job_id| format!("\"job_id\":\"{job_id}\",")).unwrap_or_default();
    format!("id: {sequence}\ndata: {{\"event\":\"unsupported\",{of}\"sequence\":{sequence}}}\n\n")
}

/// Renders every event of a batch as one `data:` line of JSON, as [`render`] does, without its id.
fn render_without_ids(batch: &EventBatch) -> RenderedEvents {
    let with_ids = batch.rendered(&SERVER_SENT_EVENTS);
    let mut text = Vec::with_capacity(with_ids.bytes.len());
    let mut ends = Vec::with_capacity(batch.len());
    for index in 0..batch.len() {
        let event = with_ids.event(index);
        let line = event.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.extend_from_slice(&event[line..]);
        ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    RenderedEvents { bytes: Bytes::from(text), ends: ends.into() }
}

/// Appends an event as the JSON doors print it. Returns `None` if this build cannot render it, because a payload or an enum
/// value is unknown to it; `text` may then hold a part of it.
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
        Payload::JobStarted(data) => write_json(text, data),
        Payload::StatusUpdate(data) => write_json(text, data),
        Payload::OnChainStart(data) => write_json(text, data),
        Payload::OnChainEnd(data) => write_json(text, data),
        Payload::OnLlmStart(data) => write_json(text, data),
        Payload::OnLlmNewToken(data) => write_json(text, data),
        Payload::OnLlmEnd(data) => write_json(text, data),
        Payload::OnToolStart(data) => write_json(text, data),
        Payload::OnToolOutput(data) => write_json(text, data),
        Payload::OnToolEnd(data) => write_json(text, data),
        Payload::InputRequired(data) => write_json(text, data),
        Payload::InputReceived(data) => write_json(text, data),
        Payload::Result(data) => write_json(text, data),
        Payload::Error(data) => write_json(text, data),
        Payload::EndOfStream(data) => write_json(text, data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_rendered_says_whose_it_is() {
        let job_id = JobId::generate().unwrap().to_string();
        let event = JobEvent { job_id: job_id.clone(), sequence: 7, ..JobEvent::default() };
        assert_eq!(write_event(&mut Vec::new(), &event), None);
        let text = unsupported(7, Some(&event));
        let data = text.strip_prefix("id: 7\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        let expected = serde_json::json!({"event": "unsupported", "job_id": job_id, "sequence": 7});
        assert_eq!(serde_json::from_str::<serde_json::Value>(data).unwrap(), expected);
        let strange = JobEvent { job_id: "\"\n".into(), ..event };
        for event in [None, Some(&strange)] {
            assert_eq!(unsupported(7, event), "id: 7\ndata: {\"event\":\"unsupported\",\"sequence\":7}\n\n");
        }
    }
}
