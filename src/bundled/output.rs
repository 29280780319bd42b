//! How the bundled engine speaks: answers on standard output, everything else on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

use serde_json::{Value, json};

/// Why the engine did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// Something went wrong.
    pub(super) fn failed(message: impl Display) -> Self {
        Self { message: message.to_string(), status: 1 }
    }

    /// The arguments are not what the engine takes.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { message: message.to_string(), status: 2 }
    }

    /// The reader of the output is gone.
    fn unwritable(error: io::Error) -> Self {
        Self::failed(format_args!("cannot print: {error}"))
    }
}

/// Prints in the form that was asked for.
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

    /// Prints at once; nothing waits in a buffer.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::unwritable)
    }

    /// Prints a document in JSON, or `text` otherwise.
    pub(super) fn either(&self, document: &Value, text: &str) -> Result<(), Failure> {
        if self.is_json { self.text(&format!("{document}\n")) } else { self.text(text) }
    }

    /// A remark that is no part of the answer.
    pub(super) fn remark(&self, text: &str) {
        // Nobody listening is no reason to stop.
        let _unheard = writeln!(io::stderr(), "{text}");
    }

    /// Prints a failure and answers with the exit status.
    pub(super) fn fail(&self, failure: &Failure) -> u8 {
        if self.is_json {
            let document = json!({"status": "error", "output": failure.message, "metadata": {}});
            let _unheard = self.text(&format!("{document}\n"));
        }
        self.remark(&format!("error: {}", failure.message));
        failure.status
    }
}
