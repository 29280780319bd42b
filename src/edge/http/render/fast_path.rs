//! A fast path for tokens and output, which are most events: renders them from their encoded form without decoding, and
//! reuses text that the events of a batch share. A test compares its output with the ordinary path, byte for byte.

use std::io::Write;

use crate::{
    pb::{
        OutputStream,
        fields::{Field, Fields},
    },
    text::write_json_text,
};

/// The text after an event's data, up to its sequence. It is kept from the previous event, because the job is the same and
/// many events have the same millisecond.
#[derive(Default)]
pub(super) struct EventSuffix {
    seconds: i64,
    milliseconds: u32,
    job_id: Vec<u8>,
    text: Vec<u8>,
}

impl EventSuffix {
    /// Returns the text for this job and this encoded time; `None` if the time needs the ordinary path.
    fn of(&mut self, job_id: &str, time: &[u8]) -> Option<&[u8]> {
        let (mut seconds, mut nanos) = (0, 0);
        for field in Fields(time) {
            let Field { tag, value, .. } = field.ok()?;
            match tag {
                1 => seconds = value,
                2 => nanos = value,
                _ => {}
            }
        }
        // Times before 1970 need the ordinary path.
        let seconds = i64::try_from(seconds).ok()?;
        let milliseconds = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)? / 1_000_000;
        let is_same = self.seconds == seconds && self.milliseconds == milliseconds;
        if self.text.is_empty() || !is_same || self.job_id != job_id.as_bytes() {
            (self.seconds, self.milliseconds) = (seconds, milliseconds);
            self.job_id.clear();
            self.job_id.extend_from_slice(job_id.as_bytes());
            self.text.clear();
            write!(
                self.text,
                ",\"timestamp\":{seconds}.{milliseconds:03},\"job_id\":\"{job_id}\",\"sequence\":"
            )
            .ok()?;
        }
        Some(&self.text)
    }
}

fn text_of(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok()
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_flag(out: &mut Vec<u8>, flag: bool) {
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

/// Appends an event with its id. Returns `None` if the event needs the ordinary path; the caller then discards what was
/// written.
pub(super) fn render(out: &mut Vec<u8>, event: &[u8], sequence: u32, tail: &mut EventSuffix) -> Option<()> {
    let (mut job_id, mut number, mut time, mut payload) = ("", 0, &[][..], None);
    for field in Fields(event) {
        let Field { tag, value, content, .. } = field.ok()?;
        match tag {
            1 => job_id = text_of(content)?,
            2 => number = value,
            3 => time = content,
            15 | 18 => payload = Some((tag, content)),
            _ => return None,
        }
    }
    let (kind, payload) = payload?;
    out.extend_from_slice(b"id: ");
    write_number(out, sequence.into());
    match kind {
        15 => write_token(out, payload)?,
        _ => write_output(out, payload)?,
    }
    out.extend_from_slice(tail.of(job_id, time)?);
    write_number(out, number);
    out.extend_from_slice(b"}\n\n");
    Some(())
}

/// Appends an `LlmNewToken`.
fn write_token(out: &mut Vec<u8>, payload: &[u8]) -> Option<()> {
    let (mut step, mut text, mut is_reasoning) = (0, "", false);
    for field in Fields(payload) {
        let Field { tag, value, content, .. } = field.ok()?;
        match tag {
            1 => step = value,
            2 => text = text_of(content)?,
            3 => is_reasoning = value != 0,
            _ => {}
        }
    }
    out.extend_from_slice(b"\ndata: {\"event\":\"on_llm_new_token\",\"data\":{\"step\":");
    write_number(out, step);
    out.extend_from_slice(b",\"text\":");
    write_json_text(out, text);
    out.extend_from_slice(b",\"is_reasoning\":");
    write_flag(out, is_reasoning);
    out.push(b'}');
    Some(())
}

/// Appends a `ToolOutput`.
fn write_output(out: &mut Vec<u8>, payload: &[u8]) -> Option<()> {
    let (mut tool_call_id, mut text) = ("", "");
    let (mut stream, mut byte_offset, mut invalid_bytes, mut is_truncated) = (0, 0, 0, false);
    for field in Fields(payload) {
        let Field { tag, value, content, .. } = field.ok()?;
        match tag {
            1 => tool_call_id = text_of(content)?,
            2 => stream = value,
            3 => text = text_of(content)?,
            4 => byte_offset = value,
            5 => invalid_bytes = value,
            6 => is_truncated = value != 0,
            _ => {}
        }
    }
    let stream = match OutputStream::try_from(i32::try_from(stream).ok()?).ok()? {
        OutputStream::Stdout => "STDOUT",
        OutputStream::Stderr => "STDERR",
        OutputStream::Log => "LOG",
        OutputStream::Unspecified => return None,
    };
    out.extend_from_slice(b"\ndata: {\"event\":\"on_tool_output\",\"data\":{\"tool_call_id\":");
    write_json_text(out, tool_call_id);
    out.extend_from_slice(b",\"stream\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\",\"text\":");
    write_json_text(out, text);
    out.extend_from_slice(b",\"byte_offset\":");
    write_number(out, byte_offset);
    out.extend_from_slice(b",\"invalid_bytes\":");
    write_number(out, invalid_bytes);
    out.extend_from_slice(b",\"is_truncated\":");
    write_flag(out, is_truncated);
    out.push(b'}');
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::{
        edge::http::write_event,
        pb::{JobEvent, LlmNewToken, Timestamp, ToolOutput, job_event::Payload},
    };

    fn ordinarily(event: &JobEvent) -> Vec<u8> {
        let mut text = format!("id: {}\ndata: ", event.sequence).into_bytes();
        write_event(&mut text, event).unwrap();
        text.extend_from_slice(b"\n\n");
        text
    }

    proptest! {
        #[test]
        fn is_what_the_ordinary_way_writes(
            texts in prop::collection::vec("\\PC{0,12}|[\"\\\\\n\u{7f}\u{202e}\u{9b}\u{fffd}a ]{0,8}", 1..6),
            step: u32, is_reasoning: bool, stream in 1..4, offset: u32, seconds in 0..4_000_000_000_i64, nanos in 0..1_000_000_000,
        ) {
            let mut tail = EventSuffix::default();
            for (number, text) in (1..).zip(&texts) {
                let token = LlmNewToken { step, text: text.clone(), is_reasoning };
                let output = ToolOutput {
                    tool_call_id: text.clone(), stream, text: text.clone(), byte_offset: offset, invalid_bytes: step, is_truncated: is_reasoning,
                };
                for payload in [Payload::OnLlmNewToken(token), Payload::OnToolOutput(output)] {
                    let seconds = seconds + i64::from(number / 2);
                    let event_time = Some(Timestamp { seconds, nanos });
                    let event = JobEvent { job_id: "job_a".into(), sequence: number, event_time, payload: Some(payload) };
                    let mut text = Vec::new();
                    render(&mut text, &event.encode_to_vec(), number, &mut tail).unwrap();
                    prop_assert_eq!(String::from_utf8(text).unwrap(), String::from_utf8(ordinarily(&event)).unwrap());
                }
            }
        }
    }

    #[test]
    fn other_events_take_the_ordinary_way() {
        let end = Payload::EndOfStream(crate::pb::EndOfStream::default());
        let event = JobEvent { sequence: 1, payload: Some(end), ..JobEvent::default() };
        assert_eq!(render(&mut Vec::new(), &event.encode_to_vec(), 1, &mut EventSuffix::default()), None);
        // An event without a job and a time, which no journal writes.
        let token = Payload::OnLlmNewToken(LlmNewToken::default());
        let event = JobEvent { payload: Some(token), ..JobEvent::default() };
        let mut text = Vec::new();
        render(&mut text, &event.encode_to_vec(), 0, &mut EventSuffix::default()).unwrap();
        assert_eq!(text, ordinarily(&event));
        assert_eq!(render(&mut Vec::new(), b"\xff", 1, &mut EventSuffix::default()), None);
    }
}
