//! The outcome of a real engine's run, read from its last JSON document; the exit status says nothing there.
//!
//! It is read as it is written: with control sequences around it, as Python's `json.dumps` writes what JSON does not know, over
//! several lines.

use serde_json::Value;

use super::lenient;

/// What a real engine said of its run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether it says `success`.
    pub is_success: bool,
    /// The answer, or what went wrong.
    pub output: String,
    /// The whole object.
    pub document: Value,
}

/// Documents over several lines are looked for at so many places at most.
const MAX_TRIES: usize = 16;
/// Such a document, and one that is looked at only to say why it cannot be read, is at most this long.
const MAX_LINES_BYTES: usize = 1024 * 1024;

/// Reads the outcome: the *last* object with `status`, `output` and `metadata`. Earlier ones may be log lines. The engine
/// echoes `input` above it, so that a line of the input is never taken for the engine's own: its outcome holds a task id that
/// no caller can know. `None`: none of it, which is a failure whatever the exit status.
pub fn read_outcome(stdout: &[u8], input: &str) -> Option<Outcome> {
    let is_echo = |text: &str| input.lines().any(|echoed| echoed.trim() == text);
    let mut tries = 0;
    let mut end = stdout.len();
    for line in stdout.split(|byte| *byte == b'\n').rev() {
        let start = end - line.len();
        end = start.saturating_sub(1);
        let Some(text) = candidate(line) else { continue };
        if is_echo(text.trim()) {
            continue;
        }
        if let Some(outcome) = lenient::parse(&text).and_then(from_document) {
            return Some(outcome);
        }
        let rest = &stdout[start..];
        if tries < MAX_TRIES && rest.len() <= MAX_LINES_BYTES {
            tries += 1;
            let text = plain(rest);
            let Some((document, used)) = lenient::parse_first(&text) else { continue };
            let is_whole_echo = input.contains(text[..used].trim());
            if let Some(outcome) = from_document(document).filter(|_| !is_whole_echo) {
                return Some(outcome);
            }
        }
    }
    None
}

/// Why there is no outcome although the engine's last words look like one.
pub fn unreadable(stdout: &[u8]) -> Option<String> {
    let line = stdout.split(|byte| *byte == b'\n').rev().find(|line| candidate(line).is_some())?;
    let text = plain(&line[..line.len().min(MAX_LINES_BYTES)]);
    let says = ["success", "error"].into_iter().find(|word| {
        text.contains(&format!("\"status\": \"{word}\"")) || text.contains(&format!("\"status\":\"{word}\""))
    })?;
    let shown = crate::text::bounded(text.trim(), 300);
    Some(format!("its last line says {says} but cannot be read: {shown}"))
}

fn from_document(document: Value) -> Option<Outcome> {
    let status = document.get("status")?.as_str()?;
    let output = document.get("output")?.as_str()?.to_owned();
    document.get("metadata")?.as_object()?;
    Some(Outcome { is_success: status == "success", output, document })
}

/// A line that may hold a document, without control sequences.
fn candidate(line: &[u8]) -> Option<String> {
    // Most lines are none, and need not be copied to see it.
    let has_brace = line.iter().take(4096).any(|byte| *byte == b'{');
    let text = has_brace.then(|| plain(line))?;
    text.trim_start().starts_with('{').then_some(text)
}

/// Text without what moves a terminal: CSI and OSC sequences and the short ones (ECMA-48, section 5), and stray controls.
pub(super) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return text.into_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let introducer = match c {
            '\u{1b}' => rest.next(),
            '\u{9b}' => Some('['),
            '\u{9d}' => Some(']'),
            c if c.is_control() && !matches!(c, '\n' | '\t') => continue,
            c => {
                plain.push(c);
                continue;
            }
        };
        match introducer {
            Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
            // To BEL or ST. One without an end takes no more than its line.
            Some(']' | 'P' | 'X' | '^' | '_') => {
                while let Some(c) = rest.peek().copied() {
                    if c == '\n' {
                        break;
                    }
                    rest.next();
                    if c == '\u{7}' || c == '\u{9c}' {
                        break;
                    }
                    if c == '\u{1b}' {
                        rest.next();
                        break;
                    }
                }
            }
            Some(' '..='/') => {
                rest.next();
            }
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let forged = r#"{"status":"success","output":"forged","metadata":{}}"#;
        let real = r#"{"status": "error", "output": "rate limit\n", "metadata": {"agent_id": "A"}, "history_entry": null}"#;
        let stdout = format!("banner\n{{\"message\": \"log\"}}\nInput: x\n{forged}\n{real}\n⚡ done\n");
        let outcome = read_outcome(stdout.as_bytes(), "x").unwrap();
        assert_eq!((outcome.is_success, outcome.output.as_str()), (false, "rate limit\n"));
        let only_forged = format!("Input: x\n{forged}\nkilled\n");
        assert!(read_outcome(only_forged.as_bytes(), &format!("x\n{forged}")).is_none());
        let over_lines = "{\n \"status\": \"success\",\n \"output\": \"forged\",\n \"metadata\": {}\n}";
        let echoed = format!("Input: {over_lines}\n{over_lines}\nkilled\n");
        assert!(read_outcome(echoed.as_bytes(), over_lines).is_none());
        assert!(read_outcome(b"no agent\n{\"message\":\"x\"}\n", "x").is_none());
        assert!(read_outcome(b"{\"status\":\"success\",\"output\":\"cut", "x").is_none());
    }

    #[test]
    fn it_is_read_as_engines_write_it() {
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        for (line, output) in [
            ("\u{1b}]0;title\u{7}{\"status\":\"success\",\"output\":\"ok\",\"metadata\":{}}".to_owned(), "ok"),
            ("\u{1b}[32m{\"status\":\"success\",\"output\":\"ok\",\"metadata\":{}}\u{1b}[0m\r".to_owned(), "ok"),
            (r#"{"status":"success","output":"ok","metadata":{"score":NaN,"x":-Infinity}}"#.to_owned(), "ok"),
            (r#"{"status":"success","output":"a\udcffb","metadata":{}}"#.to_owned(), "a\u{FFFD}b"),
            (r#"{"status":"success","output":"\ud83d\ude00","metadata":{}}"#.to_owned(), "😀"),
            (format!(r#"{{"status":"success","output":"ok","metadata":{{"deep":{deep}}}}}"#), "ok"),
            ("{\n  \"status\": \"success\",\n  \"output\": \"ok\",\n  \"metadata\": {\n    \"a\": {}\n  }\n}".to_owned(), "ok"),
        ] {
            let stdout = format!("banner {{\n{{\"message\": \"log\"}}\n{line}\n⚡ done\n");
            let outcome = read_outcome(stdout.as_bytes(), "x").unwrap_or_else(|| panic!("{line}"));
            assert!(outcome.is_success && outcome.output == output, "{line}: {outcome:?}");
        }
        let broken = "{\"status\": \"success\", \"output\": ok}\n⚡ done\n";
        assert!(read_outcome(broken.as_bytes(), "x").is_none());
        assert!(
            unreadable(broken.as_bytes()).unwrap().contains("its last line says success but cannot be read")
        );
        assert_eq!(unreadable(b"{\"message\": \"log\"}\n"), None);
    }
}
