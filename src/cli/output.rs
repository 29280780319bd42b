//! The form in which a command prints what it lists.

use clap::{Args, ValueEnum};

use super::print;

/// A form of output: for people, one JSON document, one JSON document a line. What stands at the variants would be help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    #[default]
    Table,
    Json,
    #[value(name = "jsonl")]
    JsonLines,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OutputArguments {
    /// The form of the output; jsonl is one document a line
    #[arg(long, short, global = true, value_enum, value_name = "FORM")]
    output: Option<OutputFormat>,
    /// The same as `-o jsonl`
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
}

impl OutputArguments {
    /// Returns the form that is wanted.
    pub(super) fn format(self) -> OutputFormat {
        match self.json {
            true => OutputFormat::JsonLines,
            false => self.output.unwrap_or_default(),
        }
    }
}

/// Prints a list as JSON: one document, or one a line.
pub(super) fn print_documents<T: serde::Serialize>(items: &[T], format: OutputFormat) {
    match format {
        OutputFormat::JsonLines => items.iter().for_each(|item| print::to_stdout(&print::json_line(item))),
        _ => print::to_stdout(&print::json_line(&items)),
    }
}
