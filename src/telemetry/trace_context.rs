//! The trace context of W3C Trace Context, level 2: which trace a job belongs to, and which span is its parent.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::ambient::fill_random;

/// The position of something in a trace: the trace, the span, and whether the trace is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

/// Reads lower-case hexadecimal digits, as the standard demands them.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut bytes = [0; N];
    let decoded = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().filter(|_| is_lower)?;
    (decoded.len() == N).then(|| bytes.copy_from_slice(&decoded))?;
    Some(bytes)
}

impl TraceContext {
    /// Reads the value of a `traceparent` header. What does not have the form of the standard is no context.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version: [u8; 1] = hex(parts.next()?)?;
        let (trace_id, span_id) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let [flags] = hex(parts.next()?)?;
        // Version 00 has four parts; later ones may append more; ff is none.
        let is_whole = parts.next().is_none() || version[0] > 0;
        let is_valid = version[0] != 0xff && trace_id != [0; 16] && span_id != [0; 8];
        (is_whole && is_valid).then_some(Self { trace_id, span_id, flags })
    }

    /// Returns the context of a job whose submitter named none: the same one whenever it is asked for, also after a restart.
    pub(crate) fn of_job(job_id: &str) -> Self {
        let digest = Sha256::digest(job_id.as_bytes());
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&digest[..16]);
        span_id.copy_from_slice(&digest[16..24]);
        Self { trace_id, span_id, flags: 1 }
    }

    /// Returns the context that this process was started with (`TRACEPARENT`), if there was one.
    pub(crate) fn of_process() -> Option<Self> {
        std::env::var("TRACEPARENT").ok().and_then(|text| Self::parse(&text))
    }

    /// Returns the context of a trace that begins here, for what belongs to no job.
    pub(crate) fn new_trace() -> Self {
        let mut bytes = [1; 24];
        // Without random numbers the traces are one, which only their picture shows.
        let _shared = fill_random(&mut bytes);
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&bytes[..16]);
        span_id.copy_from_slice(&bytes[16..]);
        Self { trace_id, span_id, flags: 1 }
    }

    /// Returns the context of a new span below this one.
    pub(crate) fn child(&self) -> Self {
        let mut span_id = [0; 8];
        // Without random numbers the span is its parent, which only the picture of the trace shows.
        if fill_random(&mut span_id).is_err() || span_id == [0; 8] {
            span_id = self.span_id;
        }
        Self { span_id, ..*self }
    }

    /// Returns the trace's id, as 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.trace_id)
    }

    /// Returns the span's id, as 16 hexadecimal digits.
    pub(crate) fn span_id(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.span_id)
    }
}

/// Writes the value of a `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_the_standard_has_it() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text).unwrap();
        assert_eq!(context.to_string(), text);
        let child = context.child();
        assert_eq!(child.trace_id(), context.trace_id());
        assert_ne!(child.span_id(), context.span_id());
        // A later version may say more than this one knows.
        assert!(TraceContext::parse(&text.replace("00-4", "01-4").replace("-01", "-01-more")).is_some());
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }
}
