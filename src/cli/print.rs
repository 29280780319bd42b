//! Writing to the standard streams: at once, complete or said to be cut, and clean where it is a stranger's text.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::text::shown;

/// Whether some output could not be written.
static IS_CUT: AtomicBool = AtomicBool::new(false);
/// Whether the reader of standard output is gone.
static IS_UNREAD: AtomicBool = AtomicBool::new(false);

/// How often it is looked whether the reader of standard output is still there.
const READER_CHECK: Duration = Duration::from_millis(200);

/// Prints to standard output at once. A reader that is gone is remembered; a full disk shows in the exit status.
pub(super) fn to_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        IS_UNREAD.store(true, Ordering::Relaxed);
    } else if !IS_CUT.swap(true, Ordering::Relaxed) {
        to_stderr(&format!("standard output takes no more: {error}\n"));
    }
}

/// Returns whether standard output took everything, apart from a reader that is gone.
pub(super) fn is_whole() -> bool {
    !IS_CUT.load(Ordering::Relaxed)
}

/// Waits until the reader of standard output is gone, as `head -1` is after its line; never returns while there is one.
pub(super) async fn until_reader_is_gone() {
    loop {
        if IS_UNREAD.load(Ordering::Relaxed) || is_hung_up() {
            IS_UNREAD.store(true, Ordering::Relaxed);
            return;
        }
        tokio::time::sleep(READER_CHECK).await;
    }
}

/// Returns whether the reader of standard output was seen to be gone.
pub(super) fn is_unread() -> bool {
    IS_UNREAD.load(Ordering::Relaxed)
}

/// Returns whether standard output is a pipe or a socket whose other end is closed.
fn is_hung_up() -> bool {
    let stdout = io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watched, Some(&at_once)).is_ok_and(|changed| changed > 0)
        && watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Prints to standard error. Foreign text has been cleaned before; it is cleaned once more in case that was forgotten.
pub(super) fn to_stderr(text: &str) {
    let text = shown(text);
    let _unheard = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints to standard error what holds escape sequences of our own. Foreign text in it must have been cleaned.
pub(super) fn styled_to_stderr(text: &str) {
    let _unheard = io::stderr().lock().write_all(text.as_bytes());
}

/// Formats foreign text as a single line that ends with a line feed.
pub(super) fn shown_line(line: &str) -> String {
    format!("{}\n", shown(line.trim_end_matches('\n')).replace('\n', " "))
}

/// Formats a value as a line of JSON, with hidden characters escaped.
pub(super) fn json_line(value: &impl serde::Serialize) -> String {
    let mut line = Vec::new();
    match crate::text::write_json(&mut line, value) {
        Ok(()) => line.push(b'\n'),
        // A value that cannot be rendered is a defect, which the empty line shows.
        Err(_) => line = vec![b'\n'],
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Prints an answer: without what moves the cursor on a terminal, unchanged for a program.
pub(super) fn answer(text: &str) {
    let text = if io::stdout().is_terminal() { shown(text) } else { text.to_owned() };
    to_stdout(&text);
    if !text.ends_with('\n') {
        to_stdout("\n");
    }
}
