//! Server-sent events as model servers send them: with any line ending, split anywhere, possibly without the last empty line.
//!
//! Pure: bytes in, events out. Its buffers are bounded: one line and one event.

use super::{FailureKind, ModelFailure};

/// Lines and events beyond this size are refused; no model's token is that large.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Parses a stream of events (WHATWG HTML, section 9.2.6).
#[derive(Debug)]
pub(super) struct EventReader {
    /// The beginning of a line that has not ended yet.
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    /// Whether a line feed that comes next belongs to the preceding carriage return.
    skips_line_feed: bool,
    is_at_start: bool,
}

impl Default for EventReader {
    fn default() -> Self {
        Self {
            line: Vec::new(),
            name: String::new(),
            data: String::new(),
            has_data: false,
            skips_line_feed: false,
            is_at_start: true,
        }
    }
}

/// Called with an event's name, empty if it has none, and its data.
pub(super) type EventCallback<'a> = dyn FnMut(&str, &str) -> Result<(), ModelFailure> + 'a;

impl EventReader {
    /// Processes the next bytes, however they are split, and calls `each` for every complete event.
    ///
    /// # Errors
    /// Those of `each`; [`FailureKind::Malformed`] for a line or an event that is too long.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut EventCallback<'_>) -> Result<(), ModelFailure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.skips_line_feed) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(rest);
                return self.check_size(self.line.len());
            };
            self.skips_line_feed = rest[end] == b'\r';
            let (piece, behind) = (&rest[..end], &rest[end + 1..]);
            if self.line.is_empty() {
                self.take_line(piece, each)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                self.check_size(line.len())?;
                let taken = self.take_line(&line, each);
                line.clear();
                self.line = line;
                taken?;
            }
            rest = behind;
        }
        Ok(())
    }

    /// Processes the end of the stream. A last event without its empty line is still delivered.
    ///
    /// # Errors
    /// Those of `each`.
    pub(super) fn finish(&mut self, each: &mut EventCallback<'_>) -> Result<(), ModelFailure> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, each)?;
        }
        self.take_line(b"", each)
    }

    fn check_size(&self, bytes: usize) -> Result<(), ModelFailure> {
        if bytes + self.data.len() > MAX_EVENT_BYTES {
            let message = "the model's server sent more than any answer holds";
            return Err(ModelFailure::new(FailureKind::Malformed, message));
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], each: &mut EventCallback<'_>) -> Result<(), ModelFailure> {
        let is_first = std::mem::take(&mut self.is_at_start);
        let line = if is_first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if line.is_empty() {
            let taken = if self.has_data { each(&self.name, &self.data) } else { Ok(()) };
            self.name.clear();
            self.data.clear();
            self.has_data = false;
            return taken;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(&String::from_utf8_lossy(value));
                self.check_size(0)?;
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
