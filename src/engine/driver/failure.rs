//! How a run of the engine failed, in words.

use crate::{
    engine::{Exit, Finished},
    error::{Error, Reason},
    text::bounded,
};

/// Returns the last words of an engine that failed: the exception of a Python traceback, else the end of standard
/// error, else that of standard output.
pub(super) fn last_words(finished: &Finished) -> String {
    let source = if finished.stderr.trim_ascii().is_empty() { &finished.stdout } else { &finished.stderr };
    let text = String::from_utf8_lossy(source);
    if let Some((_, traceback)) = text.rsplit_once("Traceback (most recent call last):") {
        // Frames are indented, the exception's own line is not. Its text may continue on further lines.
        let is_exception = |line: &&str| !line.is_empty() && !line.starts_with(char::is_whitespace);
        let lines: Vec<&str> = traceback.lines().collect();
        if let Some(at) = lines.iter().position(is_exception) {
            let is_text = |line: &&&str| line.chars().any(char::is_alphanumeric);
            let words: Vec<&str> = lines[at..].iter().filter(is_text).map(|line| line.trim()).collect();
            return bounded(&words.join("\n"), MAX_WORDS_BYTES);
        }
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    bounded(&lines[lines.len().saturating_sub(5)..].join("\n"), MAX_WORDS_BYTES)
}

/// Finds the variable that an engine lacks and the configuration can pass on: one named like a key or an address.
fn missing_variable(words: &str) -> Option<&str> {
    let names = words.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    let ends = ["_KEY", "_TOKEN", "_URI", "_URL", "_SECRET", "_PASSWORD", "_CREDENTIALS"];
    names.into_iter().find(|name| name.len() > 4 && ends.iter().any(|end| name.ends_with(end)))
}

/// Returns the error for an engine that ended with anything but success.
pub(super) fn failed(finished: &Finished) -> Error {
    let how = match finished.exit {
        Exit::Code(code) => format!("the engine ended with status {code}"),
        Exit::Signal(signal) => format!("the engine was ended by signal {signal}"),
        Exit::Lost => "the engine was lost".to_owned(),
    };
    let words = last_words(finished);
    let message =
        if words.is_empty() { format!("{how} and said nothing") } else { format!("{how}: {words}") };
    let message = match missing_variable(&words) {
        Some(name) => format!("{message}; if the engine needs {name}, name it in conductor.pass_environment"),
        None => message,
    };
    Error::new(Reason::EngineFailed, message)
}

/// An engine's last words are cut to this many bytes.
const MAX_WORDS_BYTES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Ending;

    #[test]
    fn a_traceback_is_told_by_its_exception_and_a_missing_key_by_what_gives_it() {
        let traceback = "Traceback (most recent call last):\n  File \"conductor\", line 3, in <module>\n    import x\nKeyError: 'ANTHROPIC_API_KEY'\n";
        let finished = Finished {
            exit: Exit::Code(1),
            ending: Ending::Natural,
            stdout: b"banner\n".to_vec(),
            is_stdout_cut: false,
            stderr: traceback.into(),
        };
        assert_eq!(last_words(&finished), "KeyError: 'ANTHROPIC_API_KEY'");
        let message = failed(&finished).message().to_owned();
        assert!(message.contains("ANTHROPIC_API_KEY, name it in conductor.pass_environment"), "{message}");
        let settings = "Traceback (most recent call last):\n  File \"config.py\", line 146, in <module>\n    settings = Settings()\n               ^^^^\npydantic_core._pydantic_core.ValidationError: 1 validation error for Settings\n  Value error, \n====\nCONFIGURATION ERROR: No AI credentials found!\n  2. Add your API key (e.g., GEMINI_API_KEY) to the .env file.\n";
        let finished = Finished { stderr: settings.into(), ..finished };
        let message = failed(&finished).message().to_owned();
        assert!(message.contains("No AI credentials found!"), "{message}");
        assert!(message.contains("GEMINI_API_KEY, name it in conductor.pass_environment"), "{message}");
        assert_eq!(missing_variable("ModuleNotFoundError: No module named 'x'"), None);
    }
}
