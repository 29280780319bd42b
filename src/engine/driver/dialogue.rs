//! How a real engine conducts a dialogue: which of its output is the answer and which is not, and which of a caller's
//! words it would take for commands of its own.

use std::time::Duration;

use crate::{
    engine::{OutputChunk, Stream},
    text::is_hidden,
};

/// Precedes each answer, which is enclosed in two rules: lines of one repeated character.
const ANSWER_MARK: &str = "Resposta:";
/// The minimum length of a rule, in characters.
const MIN_RULE: usize = 10;
/// A line without an end is passed on when it is longer than this.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Part of the message with which the engine says that input came too soon, and was dropped.
const TOO_SOON: &str = "RATE LIMIT";
/// How long to pause, in seconds, where that message does not say it; and the longest pause.
const DEFAULT_PAUSE: f64 = 5.0;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Words that the engine obeys, whoever types them. The three that end the caller's own session are not among them.
const COMMANDS: &[&str] = &[
    "state", "history", "clear", "save", "tools", "scope", "debug", "prompt", "prompt save", "status",
    "reset", "emergency", "simulate", "help",
];

/// Returns whether a character is a zero-width space or joiner, which some scripts need and commands do not.
fn is_zero_width(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200D}' | '\u{2060}')
}

/// Returns text that the engine takes literally: `@` names no file, and no word is a command.
pub(super) fn disarmed(text: &str) -> String {
    let text = text.replace('@', "\u{FF20}");
    // Invisible characters do not make a command another word.
    let seen: String =
        text.chars().filter(|c| c.is_whitespace() || !(is_hidden(*c) || is_zero_width(*c))).collect();
    let words = seen.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    if COMMANDS.contains(&words.as_str()) { format!("“{}”", text.trim()) } else { text }
}

/// Returns how long the engine wants to be left alone, where it says that it has dropped its input.
pub(super) fn came_too_soon(said: &str) -> Option<Duration> {
    let (_, behind) = said.rsplit_once(TOO_SOON)?;
    let number = |text: &str| text.trim_end_matches('s').parse::<f64>().ok();
    let seconds = behind.lines().next()?.split_whitespace().find_map(number);
    Some(Duration::try_from_secs_f64(seconds.unwrap_or(DEFAULT_PAUSE)).unwrap_or_default().min(LONGEST_PAUSE))
}

#[derive(Debug, Default, PartialEq, Eq)]
enum AnswerPosition {
    #[default]
    Beside,
    /// The mark was printed; a rule comes next.
    Announced,
    /// Within an answer, until the same rule comes again.
    Within(String),
}

/// Separates the answers of a dialogue from the output around them.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    place: AnswerPosition,
    /// A line that is not complete yet, and the offset in the output at which it begins.
    begun: String,
    begun_at: u32,
    answers: String,
    has_mark: bool,
    /// Whether the engine prints no marks, so that all output is its answer.
    is_plain: bool,
}

/// Returns the trimmed line if it is a rule and nothing else.
pub(super) fn rule(line: &str) -> Option<&str> {
    let line = line.trim();
    let first = line.chars().next().filter(|c| matches!(c, '-' | '=' | '─'))?;
    (line.chars().count() >= MIN_RULE && line.chars().all(|c| c == first)).then_some(line)
}

impl Dialogue {
    /// Takes a piece of output and returns the lines that are now complete, as pieces each with its stream.
    pub(super) fn push(&mut self, chunk: OutputChunk) -> Vec<OutputChunk> {
        if chunk.stream != Stream::Stdout || self.is_plain {
            return vec![chunk];
        }
        if self.begun.is_empty() {
            self.begun_at = chunk.byte_offset;
        }
        self.begun.push_str(&chunk.text);
        let mut pieces = Vec::new();
        while let Some(end) = self.begun.find('\n') {
            let line: String = self.begun.drain(..=end).collect();
            self.line(line, &mut pieces);
        }
        if self.begun.len() > MAX_LINE_BYTES || chunk.is_truncated {
            pieces.extend(self.flush());
        }
        if let Some(last) = pieces.last_mut() {
            last.is_truncated |= chunk.is_truncated;
            last.invalid_bytes += chunk.invalid_bytes;
        }
        pieces
    }

    fn line(&mut self, line: String, pieces: &mut Vec<OutputChunk>) {
        let (place, stream) = match std::mem::take(&mut self.place) {
            AnswerPosition::Within(opened) if rule(&line) == Some(opened.as_str()) => {
                (AnswerPosition::Beside, Stream::Log)
            }
            AnswerPosition::Within(opened) => {
                self.answers.push_str(&line);
                (AnswerPosition::Within(opened), Stream::Stdout)
            }
            AnswerPosition::Announced => match rule(&line) {
                Some(opened) => (AnswerPosition::Within(opened.to_owned()), Stream::Log),
                None => (AnswerPosition::Announced, Stream::Log),
            },
            AnswerPosition::Beside if line.contains(ANSWER_MARK) => {
                self.has_mark = true;
                (AnswerPosition::Announced, Stream::Log)
            }
            AnswerPosition::Beside => (AnswerPosition::Beside, Stream::Log),
        };
        self.place = place;
        self.piece(line, stream, pieces);
    }

    fn piece(&mut self, text: String, stream: Stream, pieces: &mut Vec<OutputChunk>) {
        let byte_offset = self.begun_at;
        self.begun_at += u32::try_from(text.len()).unwrap_or(0);
        match pieces.last_mut() {
            Some(last) if last.stream == stream => last.text.push_str(&text),
            _ => {
                pieces.push(OutputChunk { stream, text, byte_offset, invalid_bytes: 0, is_truncated: false })
            }
        }
    }

    /// Returns the incomplete line, when the engine waits for input or has ended.
    pub(super) fn flush(&mut self) -> Vec<OutputChunk> {
        let mut pieces = Vec::new();
        let rest = std::mem::take(&mut self.begun);
        if !rest.is_empty() {
            let stream =
                if matches!(self.place, AnswerPosition::Within(_)) { Stream::Stdout } else { Stream::Log };
            if stream == Stream::Stdout {
                self.answers.push_str(&rest);
            }
            self.piece(rest, stream, &mut pieces);
        }
        pieces
    }

    /// Notes that the engine asks again after input; if it has never marked an answer by then, all its output is its
    /// answer.
    pub(super) fn asks_again(&mut self) {
        self.is_plain |= !self.has_mark;
    }

    /// Returns the answers so far; `None` where the engine marks none.
    pub(super) fn answers(&self) -> Option<&str> {
        self.has_mark.then_some(self.answers.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str, byte_offset: usize) -> OutputChunk {
        let byte_offset = u32::try_from(byte_offset).unwrap();
        OutputChunk {
            stream: Stream::Stdout,
            text: text.to_owned(),
            byte_offset,
            invalid_bytes: 0,
            is_truncated: false,
        }
    }

    #[test]
    fn answers_are_told_apart_wherever_the_output_is_cut() {
        let rule = "-".repeat(40);
        let said = format!(
            "banner\n[A]>\r\n\r\n   🤖 Resposta:\n{rule}\nfirst ação\n{}\nlast\n{rule}\n[A]> two, too soon\r\n⚡ RATE LIMIT: Aguarde 4.0s\n[A]> ",
            "-".repeat(12)
        );
        let middle = format!("first ação\n{}\nlast\n", "-".repeat(12));
        for size in [1, 7, 1000] {
            let (mut dialogue, mut pieces, mut at) = (Dialogue::default(), Vec::new(), 0);
            let mut rest = said.as_str();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
                pieces.extend(dialogue.push(chunk(piece, at)));
                at += piece.len();
                rest = after;
            }
            pieces.extend(dialogue.flush());
            let of = |stream: Stream| {
                pieces
                    .iter()
                    .filter(|piece| piece.stream == stream)
                    .map(|piece| piece.text.as_str())
                    .collect::<String>()
            };
            assert_eq!((of(Stream::Stdout), dialogue.answers()), (middle.clone(), Some(middle.as_str())));
            assert_eq!(of(Stream::Log).len() + middle.len(), said.len());
            for piece in &pieces {
                assert!(said[piece.byte_offset as usize..].starts_with(&piece.text), "{piece:?}");
            }
            assert_eq!(came_too_soon(&of(Stream::Log)), Some(Duration::from_secs(4)));
        }
        let mut plain = Dialogue::default();
        plain.push(chunk("hello\n", 0));
        plain.asks_again();
        assert_eq!((plain.push(chunk("ok\n", 6))[0].stream, plain.answers()), (Stream::Stdout, None));
    }

    #[test]
    fn what_a_caller_types_is_text() {
        assert_eq!(
            disarmed("look at @../x/history.log, @/etc/hostname"),
            "look at ＠../x/history.log, ＠/etc/hostname"
        );
        for command in ["clear", " Prompt   SAVE ", "history", "\u{200B}clear", "cl\u{200D}ear\0"] {
            assert!(disarmed(command).starts_with('“'), "{command}");
        }
        for text in ["exit", "sair", "clear the table", "what is the state?"] {
            assert_eq!(disarmed(text), text);
        }
    }
}
