//! Separates the reasoning that local models write into the answer, between `<think>` and `</think>`. If the opening tag was part
//! of the prompt, only the closing tag arrives.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";
/// How many bytes are held back at most while a tag may still follow.
const MAX_HELD_BYTES: usize = 256;

/// What a text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextSegment {
    Answer,
    Reasoning,
    /// Carries no text: what was taken for the answer so far was reasoning.
    Break,
}

/// Splits an answer that arrives in pieces. Only a tag at the very beginning of the answer opens reasoning: later ones are text
/// that the model writes about.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    state: SplitterState,
    held: String,
    /// Whether the answer began without reasoning, so that a closing tag on a line of its own ends reasoning.
    may_close: bool,
    /// Whether the answer's last, unfinished line is not empty.
    is_within_line: bool,
    lines: CodeFenceTracker,
}

/// Tracks whether the lines of the answer are code, which may show tags.
#[derive(Debug, Default)]
struct CodeFenceTracker {
    /// The beginning of the last line.
    beginning: String,
    is_code: bool,
}

impl CodeFenceTracker {
    /// Processes a line or a piece of one.
    fn note(&mut self, piece: &str) {
        let room = 8_usize.saturating_sub(self.beginning.len());
        self.beginning.extend(piece.chars().take(room));
        if piece.ends_with('\n') {
            let line = self.beginning.trim_start();
            if line.starts_with("```") || line.starts_with("~~~") {
                self.is_code = !self.is_code;
            }
            // An answer that opens the tag itself writes about the tag.
            self.is_code |= line.starts_with(OPEN);
            self.beginning.clear();
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum SplitterState {
    #[default]
    Beginning,
    Reasoning,
    /// After the reasoning; white space before the answer is not part of the answer.
    Between,
    Answer,
}

impl Splitter {
    /// Processes a piece and returns the parts that are decided.
    pub(super) fn push(&mut self, piece: &str) -> Vec<(TextSegment, String)> {
        if self.state == SplitterState::Answer {
            return self.push_answer(piece);
        }
        self.held.push_str(piece);
        let mut out = Vec::new();
        if self.state == SplitterState::Beginning {
            let text = self.held.trim_start();
            if let Some(rest) = text.strip_prefix(OPEN) {
                self.held = rest.to_owned();
                self.state = SplitterState::Reasoning;
            } else if OPEN.starts_with(text) && self.held.len() <= MAX_HELD_BYTES {
                return out; // the tag may still come
            } else {
                self.state = SplitterState::Answer;
                self.may_close = true;
                let held = std::mem::take(&mut self.held);
                return self.push_answer(&held);
            }
        }
        if self.state == SplitterState::Reasoning {
            if let Some((reasoning, answer)) = self.held.split_once(CLOSE) {
                let (reasoning, answer) = (reasoning.to_owned(), answer.to_owned());
                self.held = answer;
                self.state = SplitterState::Between;
                out.push((TextSegment::Reasoning, reasoning));
            } else {
                let keep = longest_tail(&self.held, CLOSE);
                let rest = self.held.split_off(self.held.len() - keep);
                out.push((TextSegment::Reasoning, std::mem::replace(&mut self.held, rest)));
            }
        }
        if self.state == SplitterState::Between {
            let answer = self.held.trim_start().to_owned();
            self.held.clear();
            if !answer.is_empty() {
                self.state = SplitterState::Answer;
                out.push((TextSegment::Answer, answer));
            }
        }
        out.retain(|(_, text)| !text.is_empty());
        out
    }

    fn push_answer(&mut self, piece: &str) -> Vec<(TextSegment, String)> {
        if !self.may_close || (self.held.is_empty() && !piece.contains('<')) {
            if let Some(last) = piece.as_bytes().last() {
                self.is_within_line = *last != b'\n';
            }
            if self.may_close {
                piece.split_inclusive('\n').for_each(|line| self.lines.note(line));
            }
            return vec![(TextSegment::Answer, piece.to_owned())];
        }
        let text = std::mem::take(&mut self.held) + piece;
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let is_whole_line = !std::mem::replace(&mut self.is_within_line, !line.ends_with('\n'));
            let is_closing = is_whole_line && line.ends_with('\n') && line.trim_end() == CLOSE;
            if is_closing && !self.lines.is_code {
                self.may_close = false;
                self.state = SplitterState::Between;
                let mut out = vec![
                    (TextSegment::Answer, text[..start].to_owned()),
                    (TextSegment::Break, String::new()),
                ];
                out.extend(self.push(&text[start + line.len()..]));
                out.retain(|(part, text)| *part == TextSegment::Break || !text.is_empty());
                return out;
            }
            // The line may still become a closing tag.
            if is_whole_line
                && !line.ends_with('\n')
                && !line.is_empty()
                && (CLOSE.starts_with(line) || line.trim_end() == CLOSE)
                && line.len() <= MAX_HELD_BYTES
            {
                self.held = line.to_owned();
                self.is_within_line = false;
                break;
            }
            self.lines.note(line);
            start += line.len();
        }
        if start == 0 { Vec::new() } else { vec![(TextSegment::Answer, text[..start].to_owned())] }
    }

    /// Ends the answer and returns what was held back.
    pub(super) fn finish(&mut self) -> Option<(TextSegment, String)> {
        let held = std::mem::take(&mut self.held);
        let part = match self.state {
            SplitterState::Reasoning => TextSegment::Reasoning,
            SplitterState::Answer if self.may_close && held.trim() == CLOSE => {
                return Some((TextSegment::Break, String::new()));
            }
            _ => TextSegment::Answer,
        };
        (!held.is_empty()).then_some((part, held))
    }
}

/// Returns how many bytes at the end of `text` may be the beginning of `tag`.
fn longest_tail(text: &str, tag: &str) -> usize {
    (1..tag.len().min(text.len() + 1)).rev().find(|length| text.ends_with(&tag[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, size: usize) -> (String, String) {
        let (mut answer, mut reasoning) = (String::new(), String::new());
        let mut splitter = Splitter::default();
        let characters: Vec<char> = text.chars().collect();
        let mut parts = Vec::new();
        for piece in characters.chunks(size) {
            parts.extend(splitter.push(&piece.iter().collect::<String>()));
        }
        parts.extend(splitter.finish());
        for (part, text) in parts {
            match part {
                TextSegment::Answer => answer.push_str(&text),
                TextSegment::Reasoning => reasoning.push_str(&text),
                TextSegment::Break => reasoning.push_str(&std::mem::take(&mut answer)),
            }
        }
        (answer, reasoning)
    }

    #[test]
    fn reasoning_is_taken_apart_wherever_it_is_cut() {
        for size in 1..12 {
            let (answer, reasoning) = split("<think>so < what? </thin </think>\n\nIt is <think> ação.", size);
            assert_eq!((answer.as_str(), reasoning.as_str()), ("It is <think> ação.", "so < what? </thin "));
            assert_eq!(split("plain <think>x</think>", size).0, "plain <think>x</think>");
            assert_eq!(split("<thin", size).0, "<thin");
            assert_eq!(split("<think>never closed", size), (String::new(), "never closed".to_owned()));
        }
    }

    #[test]
    fn a_closing_tag_alone_on_its_line_ends_reasoning() {
        for size in 1..12 {
            let lone = split("Let me look.\n</think>\n\ndone < it\n</think>\n", size);
            assert_eq!(lone, ("done < it\n</think>\n".to_owned(), "Let me look.\n".to_owned()));
            assert_eq!(split("only this\n</think>", size), (String::new(), "only this\n".to_owned()));
            assert_eq!(split("</think>\ndone", size).0, "done");
            for text in [
                "The tag `</think>` ends it.\n",
                "a\n</thinker>\nb",
                "a\n  < b\n<",
                "x </think>\ny",
                "Use this:\n```\n<think>\nhm\n</think>\nanswer\n```\n",
                "So:\n<think>\nhm\n</think>\nx",
            ] {
                assert_eq!(split(text, size), (text.to_owned(), String::new()));
            }
        }
    }
}
