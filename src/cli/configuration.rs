//! `config show` and `config check`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{arguments::Global, print};
use crate::error::Result;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print each value and where it came from
    Show,
    /// Report every mistake at once
    Check,
}

/// Keys whose values are never printed.
fn is_secret(path: &str) -> bool {
    ["key", "secret", "password", "token"]
        .iter()
        .any(|word| path.rsplit('.').next().unwrap_or_default().contains(word))
}

pub(super) fn configuration(global: &Global, arguments: &Arguments) -> Result<ExitCode> {
    let loaded = global.load(&[])?;
    match arguments.command {
        Command::Check => print::to_stdout("the configuration is valid\n"),
        Command::Show => {
            for (path, value, origin) in &loaded.explained {
                let value = if is_secret(path) { "***".to_owned() } else { value.to_string() };
                print::to_stdout(&format!("{path}: {value}  # {origin}\n"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
