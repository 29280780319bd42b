//! `config show` and `config check`.

use std::{os::unix::fs::PermissionsExt, process::ExitCode};

use clap::{Args, Subcommand};

use serde_json::Value;

use super::{
    global::{GlobalArguments, not_valid},
    print,
};
use crate::{
    config::{self, Config},
    error::{Error, Result},
    secret::{MASK, is_secret_name, masked_url},
    text::shown,
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
    /// Print the JSON Schema of a configuration file, for editors
    Schema,
}

/// Returns a value with its secrets masked: text under a secret's name, secrets in URLs, and every value of
/// headers and environments.
fn masked(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_secret_name(name) && !text.is_empty() => Value::from(MASK),
        // Hosted servers accept keys in the query.
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

/// Returns notes on the engine's and the backups' directories that other users of this machine can access, as
/// their owner made them.
fn open_to_others(config: &Config) -> Vec<String> {
    let conductor = &config.conductor;
    // The permissions of a workspace within the data root are restricted with those of the data root.
    let engine = match &conductor.project_path {
        Some(checkout) => Some(checkout),
        None => Some(&conductor.workspace).filter(|workspace| !workspace.starts_with(&config.storage.path)),
    };
    let backups = conductor.backup_roots.iter().filter(|root| !root.starts_with(&config.storage.path));
    let mut notes = Vec::new();
    for path in engine.into_iter().chain(backups) {
        // A directory that does not exist yet will be created private.
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = shown(&path.display().to_string());
            notes.push(format!(
                "other users may look into {path} (mode {mode:03o}): it stays as its owner made it, and only the gateway's own \
                 new files in it are private"
            ));
        }
    }
    notes
}

pub(super) fn configuration(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Check => {
            let loaded = global.load(&[])?;
            print::to_stdout("the configuration is valid\n");
            for note in open_to_others(&loaded.config) {
                print::to_stdout(&format!("note: {note}\n"));
            }
        }
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&config::schema()).map_err(Error::internal)?;
            print::to_stdout(&format!("{schema}\n"));
        }
        Command::Show => {
            let resolved = global.resolve()?;
            for (path, value, origin) in &resolved.explained {
                let value = masked(path.rsplit('.').next().unwrap_or_default(), value);
                print::to_stdout(&format!("{path}: {value}  # {origin}\n"));
            }
            for note in &resolved.notes {
                print::to_stderr(&format!("note: {note}\n"));
            }
            // What can be shown is shown, and what is wrong is said.
            if !resolved.mistakes.0.is_empty() {
                return Err(not_valid(&resolved.mistakes));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
