//! `config show` and `config check`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use serde_json::Value;

use super::{arguments::Global, print};
use crate::{
    error::Result,
    secret::{MASK, is_secret_name, masked_url},
};

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

/// A value with its secrets masked: the keys above, and every value of headers and environments.
fn masked(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_secret_name(name) && !text.is_empty() => Value::from(MASK),
        // Hosted servers take keys in the query.
        Value::String(text) if name.ends_with("url") => Value::from(masked_url(text)),
        Value::Object(fields) if matches!(name, "headers" | "environment") => {
            fields.keys().map(|field| (field.clone(), Value::from(MASK))).collect()
        }
        Value::Object(fields) => {
            fields.iter().map(|(field, value)| (field.clone(), masked(field, value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| masked(name, item)).collect(),
        other => other.clone(),
    }
}

pub(super) fn configuration(global: &Global, arguments: &Arguments) -> Result<ExitCode> {
    let loaded = global.load(&[])?;
    match arguments.command {
        Command::Check => print::to_stdout("the configuration is valid\n"),
        Command::Show => {
            for (path, value, origin) in &loaded.explained {
                let value = masked(path.rsplit('.').next().unwrap_or_default(), value);
                print::to_stdout(&format!("{path}: {value}  # {origin}\n"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
