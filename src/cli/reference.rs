//! What describes the command line itself: completions of shells, manual pages, the page of the documentation.

use std::{io, path::PathBuf, process::ExitCode};

use clap::Args;
use clap_complete::Shell;

use super::print;
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The directory to write the pages to, such as /usr/share/man/man1; it is created if it is missing
    directory: PathBuf,
}

/// `completions`: prints the completions for a shell.
pub(super) fn completions(arguments: &CompletionsArguments, mut command: clap::Command) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "conductor-gateway", &mut text);
    print::to_stdout(&String::from_utf8_lossy(&text));
    ExitCode::SUCCESS
}

/// `man`: writes a page for each command.
pub(super) fn man(arguments: &ManArguments, command: clap::Command) -> Result<ExitCode> {
    let unwritable = |error: io::Error| {
        let place = arguments.directory.display();
        Error::invalid("DIRECTORY", format!("{place} cannot be written: {error}"))
    };
    std::fs::create_dir_all(&arguments.directory).map_err(unwritable)?;
    clap_mangen::generate_to(command, &arguments.directory).map_err(unwritable)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the page of the documentation: every command with its help.
#[cfg(test)]
pub(super) fn page(command: clap::Command) -> String {
    let mut text = "# The command line\n\nMade from the program's own help; a test holds this page to it. Exit statuses: 0 when \
                    the job succeeded, else that of its reason ([errors](errors.md)); 64 for what was typed wrongly, 74 when \
                    the output could not be written, 141 when its reader left.\n"
        .to_owned();
    let mut command = command.term_width(100);
    command.build();
    section(&mut text, &mut command, "conductor-gateway");
    text
}

#[cfg(test)]
fn section(text: &mut String, command: &mut clap::Command, name: &str) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    use std::fmt::Write as _;
    // Writing to memory cannot fail.
    let _infallible = write!(text, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim());
    let below: Vec<String> = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help" && !below.is_hide_set())
        .map(|below| below.get_name().to_owned())
        .collect();
    for below in below {
        if let Some(command) = command.find_subcommand_mut(&below) {
            section(text, command, &format!("{name} {below}"));
        }
    }
}
