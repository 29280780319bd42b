//! The events as clients of the earlier gateway read them: with the members that they look for beside the usual ones.

use std::io::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::render::{render, write_event};
use crate::{
    job::{EventBatch, RenderedEvents, TextForm},
    pb::{JobEvent, job_event::Payload},
};

/// The form for jobs that came through the compatible paths and bodies.
pub(in super::super) static COMPATIBLE_EVENTS: TextForm = TextForm::new(1, compatible);

/// Returns the member that those clients look for in an event, if there is one.
fn further(event: &JobEvent) -> Option<(&'static str, Value)> {
    Some(match event.payload.as_ref()? {
        Payload::OnLlmNewToken(token) => ("chunk", json!(token.text)),
        Payload::Error(error) => ("error", json!(error.message)),
        Payload::OnToolEnd(end) if end.is_error => ("output", json!(end.error)),
        Payload::OnToolEnd(end) => {
            let result = end.result.as_ref().and_then(|result| result.to_value().ok()).unwrap_or_default();
            ("output", result)
        }
        _ => return None,
    })
}

/// Returns an event with its further member, as one block.
fn block(event: &JobEvent) -> Option<Vec<u8>> {
    let (name, value) = further(event)?;
    let mut text = Vec::new();
    write_event(&mut text, event)?;
    let mut document: Value = serde_json::from_slice(&text).ok()?;
    document["data"][name] = value;
    let mut block = Vec::new();
    write!(block, "id: {}\ndata: ", event.sequence).ok()?;
    crate::text::write_json(&mut block, &document).ok()?;
    block.extend_from_slice(b"\n\n");
    Some(block)
}

/// Renders a batch: every event as all other readers get it, but for those with a further member.
fn compatible(batch: &EventBatch) -> RenderedEvents {
    let usual = render(batch);
    let (mut text, mut ends) = (Vec::with_capacity(usual.bytes.len()), Vec::with_capacity(batch.len()));
    for index in 0..batch.len() {
        match batch.decode(index).as_ref().and_then(block) {
            Some(block) => text.extend_from_slice(&block),
            None => text.extend_from_slice(usual.event(index)),
        }
        ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    RenderedEvents { bytes: Bytes::from(text), ends: ends.into() }
}
