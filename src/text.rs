//! Sanitises untrusted text for display: quotations are truncated, and characters that move a terminal's cursor, change the
//! writing direction, are invisible, or break a line are replaced or escaped.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// The most characters of untrusted text that are quoted in a message.
const MAX_QUOTED_CHARS: usize = 80;
/// Replaces each character that is not shown.
const HIDDEN_MARK: char = '·';

/// Returns whether a character is invisible or has a side effect: control characters (C0, DEL, C1), bidirectional marks
/// (Unicode UAX 9), soft hyphens, zero-width spaces and invisible operators, line and paragraph separators, byte order marks,
/// tags.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{61C}' | '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
            | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Returns text that is safe for a terminal: newlines and tabs stay, every other hidden character becomes a dot.
pub(crate) fn shown(text: &str) -> String {
    let show = |c: char| if is_hidden(c) && !matches!(c, '\n' | '\t') { HIDDEN_MARK } else { c };
    text.chars().map(show).collect()
}

/// Returns untrusted text for use within a sentence: one line of at most 80 characters, with an ellipsis after them if it was
/// cut.
pub(crate) fn quoted(text: &str) -> String {
    let mut quote: String =
        text.chars().take(MAX_QUOTED_CHARS).map(|c| if is_hidden(c) { HIDDEN_MARK } else { c }).collect();
    if text.chars().nth(MAX_QUOTED_CHARS).is_some() {
        quote.push('…');
    }
    quote
}

/// Returns a sentence that may quote untrusted text, cut to `max_bytes` (if that is at least 3). Newlines stay. The middle of
/// a longer one is replaced by an ellipsis, because the start says what is wrong and the end what is expected.
pub(crate) fn bounded(text: &str, max_bytes: usize) -> String {
    let clean: String =
        text.chars().map(|c| if is_hidden(c) && c != '\n' { HIDDEN_MARK } else { c }).collect();
    if clean.len() <= max_bytes {
        return clean;
    }
    let room = max_bytes.saturating_sub('…'.len_utf8());
    let head = clean.floor_char_boundary(room * 2 / 3);
    let tail = clean.ceil_char_boundary(clean.len() - (room - head));
    format!("{}…{}", &clean[..head], &clean[tail..])
}

/// A compact JSON formatter that escapes every hidden character, so that the output is one line for any reader and shows its
/// content. The value is unchanged.
#[derive(Clone, Copy, Debug, Default)]
struct Escaping;

/// Returns whether a UTF-8 sequence that starts with this byte may encode a hidden character that JSON does not escape.
fn may_begin_hidden(byte: u8) -> bool {
    matches!(byte, 0x7F | 0xC2 | 0xD8 | 0xE2 | 0xEF | 0xF3)
}

fn write_escaped<W: ?Sized + io::Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    if !fragment.bytes().any(may_begin_hidden) {
        return writer.write_all(fragment.as_bytes());
    }
    let mut rest = fragment;
    while let Some((at, hidden)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
        writer.write_all(&rest.as_bytes()[..at])?;
        for unit in hidden.encode_utf16(&mut [0; 2]) {
            write!(writer, "\\u{unit:04x}")?;
        }
        rest = &rest[at + hidden.len_utf8()..];
    }
    writer.write_all(rest.as_bytes())
}

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_escaped(writer, fragment)
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_escaped(writer, fragment)
    }

    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        CompactFormatter.write_null(writer)
    }
}

/// Appends a value as one line of JSON, with hidden characters escaped.
///
/// # Errors
/// Those of the value's own serialisation; plain data cannot fail.
pub(crate) fn write_json(text: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(text, Escaping))
}

/// Appends a string as [`write_json`] does, with a fast path for text that needs no escaping.
pub(crate) fn write_json_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\' && !may_begin_hidden(byte);
    if text.bytes().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing to memory cannot fail.
        let _infallible = write_json(out, text);
    }
}

/// Parses one JSON value from an untrusted source.
///
/// # Errors
/// When it is not JSON, is nested more than 127 levels deep, or contains a name that serde_json reserves.
pub(crate) fn read_json(text: &str) -> serde_json::Result<serde_json::Value> {
    if has_reserved_name(text) {
        return Err(serde::de::Error::custom(RESERVED_NAME_REFUSED));
    }
    serde_json::from_str(text)
}

/// The message for a reserved name.
pub(crate) const RESERVED_NAME_REFUSED: &str =
    "a name that begins with `$serde_json::private::` is not taken";

/// Returns whether a JSON text contains a member name, however escaped, that serde_json reserves. serde_json parses the value
/// of such a member again with a fresh nesting limit, so that a few kilobytes could demand any depth.
pub(crate) fn has_reserved_name(json: &str) -> bool {
    const RESERVED: &str = "$serde_json::private::";
    // Fast path: most texts cannot contain one.
    if !json.contains("private::") && !json.contains("\\u") {
        return false;
    }
    let mut rest = json.chars();
    while rest.by_ref().any(|c| c == '"') {
        let mut expected = RESERVED.chars();
        let mut is_reserved = true;
        loop {
            let c = match rest.next() {
                None => return false,
                Some('"') => break,
                Some('\\') => match rest.next() {
                    Some('u') => {
                        let digits: String = rest.by_ref().take(4).collect();
                        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).unwrap_or('\u{FFFD}')
                    }
                    c => c.unwrap_or('\u{FFFD}'),
                },
                Some(c) => c,
            };
            is_reserved &= expected.next().is_none_or(|wanted| wanted == c);
        }
        if is_reserved && expected.next().is_none() && rest.as_str().trim_start().starts_with(':') {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_seen_and_what_is_long_is_cut() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{202e}x\u{2028}y\u{E0041}z\nw";
        assert_eq!(shown(hostile), "a·[2J·31m·x·y·z\nw");
        assert_eq!(quoted("a\nb"), "a·b");
        assert_eq!(quoted(&"ção".repeat(100)).chars().count(), 81);
        let sentence = format!("invalid type: string \"{}\", expected u32", "x".repeat(50_000));
        let short = bounded(&sentence, 300);
        assert!(
            short.len() <= 300 && short.starts_with("invalid type") && short.ends_with("expected u32"),
            "{short}"
        );
        assert_eq!(bounded("é", 1).len(), 3);
        assert_eq!(quoted("👩‍💻 ação"), "👩‍💻 ação");
    }

    #[test]
    fn json_is_one_line_for_every_reader_and_the_same_value() {
        let text = "a\u{85}b\u{2028}c\u{2029}d\u{7f}e\u{202e}f\u{E0041}g\u{FEFF}é👩‍💻\"\\\n";
        let mut line = Vec::new();
        write_json(&mut line, &serde_json::json!({ "text": text, (text): [1, null] })).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(!line.chars().any(is_hidden), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((read["text"].as_str(), &read[text][0]), (Some(text), &serde_json::json!(1)));
    }

    #[test]
    fn names_that_serde_json_keeps_for_itself_are_refused() {
        let key = "$serde_json::private::RawValue";
        for text in [
            format!("{{\"{key}\": \"1\"}}"),
            format!("[{{\"a\": \"x\\\"\"}}, {{\"{key}\"\n : \"1\"}}]"),
            "{\"\\u0024serde_json:\\u003aprivate::Number\": \"1\"}".to_owned(),
            "{\"\\u0024\\u0073erde_json::\\u0070rivate::RawValue\": \"1\"}".to_owned(),
        ] {
            assert!(has_reserved_name(&text), "{text}");
            assert!(read_json(&text).unwrap_err().to_string().contains("is not taken"));
        }
        for text in [
            format!("{{\"a\": \"{key}\"}}"),
            format!("{{\"x{key}\": 1}}"),
            "{\"\\u0024\": 1}".into(),
            "{\"$serde_json\": 1}".into(),
        ] {
            assert!(!has_reserved_name(&text), "{text}");
            assert!(read_json(&text).is_ok());
        }
    }
}
