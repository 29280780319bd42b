//! `config show|check|schema|reload`.

use std::{os::unix::fs::PermissionsExt, process::ExitCode};

use clap::{Args, Subcommand};

use super::{
    global::{GlobalArguments, not_valid},
    output::{OutputArguments, OutputFormat},
    print,
};
use crate::{
    config::{self, Config, masked},
    error::{Error, Result},
    operators::{ReloadReport, SettingChange, ask_to_reload},
    text::shown,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print each value and where it came from
    Show,
    /// Report every mistake at once
    Check,
    /// Print the JSON Schema of a configuration file, for editors
    Schema,
    /// Have the running gateway read its configuration again, and say what it took
    ///
    /// The running gateway is the one that uses the configured data root. It reads the files and variables that it was started with, and applies the log's filter, the limits and the retention of
    /// jobs and conversations. What needs a restart is listed; a mistake changes nothing.
    Reload(ReloadArguments),
}

#[derive(Debug, Args)]
struct ReloadArguments {
    #[command(flatten)]
    output: OutputArguments,
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

fn show_report(report: &ReloadReport) {
    for note in &report.notes {
        print::to_stderr(&format!("note: {}\n", shown(note)));
    }
    let lists = [("changed", &report.taken), ("needs a restart", &report.needs_restart)];
    for (what, changes) in lists {
        for SettingChange { key, before, after, origin } in changes {
            let line = format!("{what}: {key}: {before} -> {after}  # {origin}");
            print::to_stdout(&format!("{}\n", shown(&line)));
        }
    }
    if report.taken.is_empty() && report.needs_restart.is_empty() {
        print::to_stdout("nothing has changed\n");
    }
}

pub(super) async fn configuration(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        ConfigCommand::Check => {
            let loaded = global.load(&[])?;
            print::to_stdout("the configuration is valid\n");
            for note in open_to_others(&loaded.config) {
                print::to_stdout(&format!("note: {note}\n"));
            }
        }
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&config::schema()).map_err(Error::internal)?;
            print::to_stdout(&format!("{schema}\n"));
        }
        ConfigCommand::Reload(arguments) => {
            let data_root = global.load_quietly()?.config.storage.path;
            let report = ask_to_reload(&data_root).await?;
            match arguments.output.format() {
                OutputFormat::Table => show_report(&report),
                OutputFormat::Json | OutputFormat::JsonLines => {
                    let report = serde_json::to_string(&report).map_err(Error::internal)?;
                    print::to_stdout(&format!("{report}\n"));
                }
            }
        }
        ConfigCommand::Show => {
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
