//! What the standard streams are: whether they are terminals, how wide, and whether colour is wanted.

use std::{
    env,
    io::{self, IsTerminal},
};

/// The width of lines where nobody says how wide they may be.
const DEFAULT_WIDTH: usize = 80;

/// Returns whether standard error shows colour. `NO_COLOR` and `CLICOLOR=0` switch it off, `CLICOLOR_FORCE` on
/// (no-color.org, bixense.com/clicolors).
pub(super) fn has_colour() -> bool {
    let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
    let is_on = |name: &str| env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    if is_set("NO_COLOR") {
        return false;
    }
    if is_on("CLICOLOR_FORCE") {
        return true;
    }
    let is_dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
    let is_off = env::var("CLICOLOR").is_ok_and(|value| value == "0");
    io::stderr().is_terminal() && !is_dumb && !is_off
}

/// Returns the number of columns of standard output's terminal; `None` where it is none, so that lines are as long as they
/// are. `COLUMNS` says it where the terminal does not.
pub(super) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let said = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    Some(size.filter(|columns| *columns > 0).or(said).unwrap_or(DEFAULT_WIDTH))
}

/// Cuts text to a number of columns, with a mark.
pub(super) fn fitting(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// A colour of text on a terminal, as its escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Less important than the rest.
    Dim,
    /// Good.
    Green,
    /// Bad.
    Red,
    /// To be noticed.
    Yellow,
}

/// Returns text in a colour, or unchanged where colour is not wanted.
pub(super) fn coloured(text: &str, colour: Colour) -> String {
    if !has_colour() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Dim => "2",
        Colour::Green => "32",
        Colour::Red => "31",
        Colour::Yellow => "33",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Returns a duration as people say it: `350 ms`, `4.2 s`, `3 min 5 s`, `2 h 7 min`.
pub(super) fn in_words(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{:.1} s", duration.as_secs_f64()),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=172_799 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}
