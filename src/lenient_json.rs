//! Parses JSON that programs do not write strictly: NaN and the infinities (Python's `json.dumps`) become null, lone
//! halves of surrogate pairs U+FFFD, values that are nested too deeply a marker; control characters in strings are kept.
//!
//! *May import:* rank 0.

use serde_json::Value;

use crate::text::read_json;

/// Values nested deeper are left out; serde_json itself accepts 128 levels.
const MAX_DEPTH: usize = 100;
const DEEP_MARK: &str = "\"… nested too deeply\"";

/// Parses one value, after which only white space may follow.
pub(crate) fn parse(text: &str) -> Option<Value> {
    // Strict JSON is the usual case, and is parsed faster.
    read_json(text).ok().or_else(|| parse_noting(text).map(|(value, _)| value))
}

/// Like [`parse`], but returns `None` if a number or a nested value would be lost.
pub(crate) fn parse_strict(text: &str) -> Option<Value> {
    parse_noting(text).filter(|(_, loss)| loss.is_none()).map(|(value, _)| value)
}

/// Like [`parse`], but also describes in words what part of the value could not be represented.
pub(crate) fn parse_noting(text: &str) -> Option<(Value, Option<&'static str>)> {
    let mut strict = Strict::of(text);
    strict.value(0)?;
    let value = read_json(&strict.written).ok()?;
    strict.rest.trim().is_empty().then_some((value, strict.loss))
}

/// Parses the first value of a text. Also returns how many bytes were consumed.
pub(crate) fn parse_first(text: &str) -> Option<(Value, usize)> {
    let mut strict = Strict::of(text);
    strict.value(0)?;
    let used = text.len() - strict.rest.len();
    Some((read_json(&strict.written).ok()?, used))
}

/// Rewrites what it reads as strict JSON.
struct Strict<'t> {
    rest: &'t str,
    written: String,
    loss: Option<&'static str>,
}

impl<'t> Strict<'t> {
    fn of(text: &'t str) -> Self {
        Self { rest: text, written: String::with_capacity(text.len()), loss: None }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, expected: char) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(expected)?;
        self.written.push(expected);
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        self.skip_space();
        match self.rest.chars().next()? {
            '{' | '[' if depth == MAX_DEPTH => {
                self.skip_nested()?;
                self.loss = Some("something is nested more than 100 levels deep");
                self.written.push_str(DEEP_MARK);
                Some(())
            }
            '{' => self.members(depth, '{', '}', true),
            '[' => self.members(depth, '[', ']', false),
            '"' => self.string(),
            _ => self.word(),
        }
    }

    fn members(&mut self, depth: usize, open: char, close: char, has_names: bool) -> Option<()> {
        self.take(open)?;
        self.skip_space();
        if self.rest.starts_with(close) {
            return self.take(close);
        }
        loop {
            if has_names {
                self.skip_space();
                self.string()?;
                self.take(':')?;
            }
            self.value(depth + 1)?;
            if self.take(',').is_none() {
                return self.take(close);
            }
        }
    }

    fn word(&mut self) -> Option<()> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let is_number = match word {
            "NaN" | "Infinity" | "-Infinity" => false,
            word if serde_json::from_str::<Value>(word).is_ok() => true,
            // A number that JSON does not have, such as one beyond the range of `f64`.
            word if word.parse::<f64>().is_ok() => false,
            _ => return None,
        };
        if !is_number {
            self.loss = Some("NaN, Infinity and numbers beyond every range are no JSON");
        }
        self.written.push_str(if is_number { word } else { "null" });
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix('"')?;
        self.written.push('"');
        loop {
            let c = self.rest.chars().next()?;
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '"' => {
                    self.written.push('"');
                    return Some(());
                }
                '\\' => self.escape()?,
                c if c < ' ' => self.written.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => self.written.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let kind = self.rest.chars().next()?;
        self.rest = &self.rest[kind.len_utf8()..];
        if kind != 'u' {
            self.written.push('\\');
            self.written.push(kind);
            return Some(());
        }
        let first = self.unit()?;
        let is_half = (0xD800..0xE000).contains(&first);
        if !is_half {
            self.written.push_str(&format!("\\u{first:04x}"));
            return Some(());
        }
        let before = self.rest;
        let second = self.rest.strip_prefix("\\u").and_then(|rest| {
            self.rest = rest;
            self.unit()
        });
        match second {
            Some(second) if first < 0xDC00 && (0xDC00..0xE000).contains(&second) => {
                self.written.push_str(&format!("\\u{first:04x}\\u{second:04x}"));
            }
            _ => {
                self.rest = before;
                self.written.push('\u{FFFD}');
            }
        }
        Some(())
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        let unit = u32::from_str_radix(digits, 16).ok()?;
        self.rest = &self.rest[4..];
        Some(unit)
    }

    /// Skips a value that opens with a bracket, without recursion.
    fn skip_nested(&mut self) -> Option<()> {
        let (mut depth, mut in_string, mut is_escaped) = (0usize, false, false);
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' if in_string => is_escaped = true,
                '"' => in_string = !in_string,
                '{' | '[' if !in_string => depth += 1,
                '}' | ']' if !in_string => {
                    depth -= 1;
                    if depth == 0 {
                        self.rest = &self.rest[at + c.len_utf8()..];
                        return Some(());
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_strict_is_read() {
        assert_eq!(parse("[NaN, 1e999, -Infinity, true]"), Some(json!([null, null, null, true])));
        assert_eq!(parse("{\"a\": \"x\ty\"}"), Some(json!({"a": "x\ty"})));
        assert_eq!(parse_first("{\"a\":[1,{}]} tail"), Some((json!({"a": [1, {}]}), 12)));
        for bad in ["", "{", "[1,]", "{\"a\"}", "nul", "\"\\ud8", "[1] 2", "{'a':1}"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(parse(&deep).unwrap().to_string().contains("nested too deeply"));
    }

    proptest! {
        #[test]
        fn strict_json_is_the_same_value(text in ".{0,40}", number: i64, flag: bool) {
            let value = json!({"t": &text, (text.as_str()): [number, flag, null, {"n": {}}]});
            let (read, used) = parse_first(&value.to_string()).unwrap();
            prop_assert_eq!(used, value.to_string().len());
            prop_assert_eq!(read, value);
        }

        #[test]
        fn any_text_is_an_answer(text in "[\\[\\]{}\",:\\\\udD8cNa0-9. é\n]{0,60}") {
            let _any = parse(&text);
        }
    }
}
