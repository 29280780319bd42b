//! JSON from servers that split text in the middle of a character, with one half of a surrogate pair in each of two strings.
//!
//! A JSON parser rejects such a string. Each half is therefore read as a private-use character, joined with the other half if
//! that follows, and otherwise replaced by U+FFFD.

use std::borrow::Cow;

/// The first private-use character: one for each of the 2,048 surrogates, at the end of the last plane.
const FIRST: u32 = 0x10_F800;

/// Returns the JSON text with each lone surrogate escape replaced by a private-use character; borrowed if there is none.
pub(super) fn readable(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match half(bytes, at) {
            // A complete pair stays unchanged.
            Some(high) if high < 0xDC00 && half(bytes, at + 6).is_some_and(|low| low >= 0xDC00) => at += 12,
            Some(half) => {
                out.push_str(&json[copied..at]);
                out.extend(char::from_u32(FIRST + half - 0xD800));
                at += 6;
                copied = at;
            }
            // An escape of two characters, the second of which may be a backslash.
            None => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

/// Returns the surrogate that the escape at this position stands for.
fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..0xE000).contains(&value).then_some(value)
}

fn surrogate(character: char) -> Option<u16> {
    u32::from(character).checked_sub(FIRST).and_then(|half| u16::try_from(half + 0xD800).ok())
}

/// Joins surrogate halves across the pieces of a text.
#[derive(Debug, Default)]
pub(super) struct SurrogateJoiner {
    high: Option<u16>,
}

impl SurrogateJoiner {
    /// Processes the next piece; a high surrogate at its end is held back for the next call.
    pub(super) fn push(&mut self, piece: String) -> String {
        if self.high.is_none() && !piece.chars().any(|character| surrogate(character).is_some()) {
            return piece;
        }
        let mut out = String::with_capacity(piece.len());
        for character in piece.chars() {
            match (self.high.take(), surrogate(character)) {
                (None, None) => out.push(character),
                (Some(_), None) => out.extend([char::REPLACEMENT_CHARACTER, character]),
                (high, Some(half)) if half < 0xDC00 => {
                    out.extend(high.map(|_| char::REPLACEMENT_CHARACTER));
                    self.high = Some(half);
                }
                (Some(high), Some(low)) => {
                    out.extend(char::decode_utf16([high, low]).map(|joined| joined.unwrap_or('\u{fffd}')));
                }
                (None, Some(_)) => out.push(char::REPLACEMENT_CHARACTER),
            }
        }
        out
    }

    /// Ends the text and returns U+FFFD if a half is still held back.
    pub(super) fn finish(&mut self) -> Option<String> {
        self.high.take().map(|_| char::REPLACEMENT_CHARACTER.to_string())
    }

    /// Joins the halves within a complete text.
    pub(super) fn whole(text: String) -> String {
        let mut joiner = Self::default();
        let mut joined = joiner.push(text);
        joined.extend(joiner.finish());
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> String {
        serde_json::from_str::<String>(&readable(json)).unwrap()
    }

    #[test]
    fn halves_are_joined_over_pieces_and_replaced_alone() {
        let mut joiner = SurrogateJoiner::default();
        assert_eq!(joiner.push(read(r#""ok \ud83d""#)) + &joiner.push(read(r#""\ude00!""#)), "ok 😀!");
        assert_eq!(
            SurrogateJoiner::whole(read(r#""a\ud83d b\ude00 \ud83d\ude00""#)),
            "a\u{fffd} b\u{fffd} 😀"
        );
        assert_eq!(read(r#""\\ud83d \" \n""#), "\\ud83d \" \n", "an escaped backslash begins no escape");
        assert!(matches!(readable(r#""\ud83d\ude00""#), Cow::Borrowed(_)));
        let mut joiner = SurrogateJoiner::default();
        assert_eq!(
            (joiner.push(read(r#""\ud83d""#)).as_str(), joiner.finish().as_deref()),
            ("", Some("\u{fffd}"))
        );
    }
}
