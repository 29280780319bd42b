//! The bundled engine's output: answers on standard output, everything else on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

use serde_json::{Value, json};

/// Why the engine did not do what was requested, and the exit status for it.
#[derive(Debug)]
pub(super) struct CommandFailure {
    message: String,
    status: u8,
}

impl CommandFailure {
    /// Creates a failure with exit status 1, for everything but bad arguments.
    pub(super) fn failed(message: impl Display) -> Self {
        Self { message: message.to_string(), status: 1 }
    }

    /// Creates a failure for arguments that the engine does not accept, with exit status 2.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { message: message.to_string(), status: 2 }
    }

    /// Creates the failure for output that cannot be written.
    fn unwritable(error: io::Error) -> Self {
        Self::failed(format_args!("cannot print: {error}"))
    }
}

/// Prints in the requested format.
#[derive(Debug)]
pub(super) struct Printer {
    is_json: bool,
}

impl Printer {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints at once, without buffering.
    pub(super) fn text(&self, text: &str) -> Result<(), CommandFailure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CommandFailure::unwritable)
    }

    /// Prints the document if JSON was requested, and `text` otherwise.
    pub(super) fn either(&self, document: &Value, text: &str) -> Result<(), CommandFailure> {
        if self.is_json { self.text(&format!("{document}\n")) } else { self.text(text) }
    }

    /// Prints a remark, which is not part of the answer, on standard error.
    pub(super) fn remark(&self, text: &str) {
        // A reader that is gone is no reason to stop.
        let _unheard = writeln!(io::stderr(), "{text}");
    }

    /// Prints a failure and returns its exit status.
    pub(super) fn fail(&self, failure: &CommandFailure) -> u8 {
        if self.is_json {
            let document = json!({"status": "error", "output": failure.message, "metadata": {}});
            let _unheard = self.text(&format!("{document}\n"));
        }
        self.remark(&format!("error: {}", failure.message));
        failure.status
    }
}
