//! `config show` and `config check`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use serde_json::Value;

use super::{arguments::Global, print};
use crate::{error::Result, secret::MASK};

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

/// Keys whose values are never printed; `max_tokens` and `api_key_file` are none.
fn is_secret(name: &str) -> bool {
    let words = ["key", "secret", "password", "token"];
    words.iter().any(|word| name.contains(word)) && !name.starts_with("max_") && !name.ends_with("_file")
}

/// A value with its secrets masked: the keys above, and every value of headers and environments.
fn masked(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_secret(name) && !text.is_empty() => Value::from(MASK),
        // Hosted servers take keys in the query.
        Value::String(text) if name.ends_with("url") => match text.split_once('?') {
            Some((address, _)) => Value::from(format!("{address}?{MASK}")),
            None => value.clone(),
        },
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
