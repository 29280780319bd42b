//! A process's output as text: chunks as they arrive, never split inside a character, up to a limit.

use std::mem;

/// The source of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What a real engine prints on standard output besides its answer: a banner, log lines, and its outcome as a document.
    Log,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputChunk {
    /// The stream that it came from.
    pub stream: Stream,
    /// The text; bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
    /// Its position in its stream, in bytes.
    pub byte_offset: u32,
    /// How many bytes were not UTF-8.
    pub invalid_bytes: u32,
    /// Set once, on the last chunk: further output is read and dropped.
    pub is_truncated: bool,
}

/// Decodes one stream up to a limit.
#[derive(Debug)]
pub(crate) struct Decoder {
    stream: Stream,
    /// The beginning of a character that is not complete yet: at most 3 bytes.
    incomplete: Vec<u8>,
    offset: u32,
    limit: u32,
    is_truncated: bool,
}

impl Decoder {
    pub(crate) fn new(stream: Stream, limit: u32) -> Self {
        Self { stream, incomplete: Vec::new(), offset: 0, limit, is_truncated: false }
    }

    /// Decodes the bytes of one read. Returns `None` if they do not make text yet, or the limit was reached earlier.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<OutputChunk> {
        if self.is_truncated {
            return None;
        }
        let mut pending = mem::take(&mut self.incomplete);
        pending.extend_from_slice(bytes);
        let room = (self.limit - self.offset) as usize;
        if pending.len() > room {
            self.is_truncated = true;
            pending.truncate(room);
            // The cut must not split a character, because its half would look like an invalid byte of the engine.
            pending.truncate(room - incomplete_tail(&pending));
        } else {
            let keep = incomplete_tail(&pending);
            self.incomplete = pending.split_off(pending.len() - keep);
        }
        self.chunk(pending)
    }

    /// Ends the stream; a character that is still incomplete counts as invalid bytes.
    pub(crate) fn finish(&mut self) -> Option<OutputChunk> {
        let rest = mem::take(&mut self.incomplete);
        if rest.is_empty() { None } else { self.chunk(rest) }
    }

    fn chunk(&mut self, bytes: Vec<u8>) -> Option<OutputChunk> {
        let byte_offset = self.offset;
        self.offset += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (text, invalid_bytes) = decode(bytes);
        (!text.is_empty() || self.is_truncated).then_some(OutputChunk {
            stream: self.stream,
            text,
            byte_offset,
            invalid_bytes,
            is_truncated: self.is_truncated,
        })
    }
}

fn decode(bytes: Vec<u8>) -> (String, u32) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, 0),
        Err(error) => {
            let bytes = error.as_bytes();
            let invalid: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
            (String::from_utf8_lossy(bytes).into_owned(), u32::try_from(invalid).unwrap_or(u32::MAX))
        }
    }
}

/// Returns how many bytes at the end begin a character that may still be completed.
fn incomplete_tail(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let needed = match bytes[bytes.len() - back] {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests;
