//! `storage check`: reads a data root and says what of it is damaged.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    global::GlobalArguments,
    output::{OutputArguments, OutputFormat},
    print,
};
use crate::{
    error::{Error, Reason, Result},
    journal::{Damage, check},
    text::shown,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: StorageCommand,
}

#[derive(Debug, Subcommand)]
enum StorageCommand {
    /// Read every stored job whole, and say what is damaged
    ///
    /// Nothing is written, and a gateway that uses the data root goes on. What is damaged is mended, as far as it can be, by the
    /// next start, which keeps the originals in the directory `damaged`. The exit status is 74 if anything is.
    Check {
        #[command(flatten)]
        output: OutputArguments,
    },
}

fn in_words(damage: &Damage) -> String {
    let job = damage.job_id.as_ref().map(|job_id| format!("{job_id}: ")).unwrap_or_default();
    let lost = damage.lost.map(|(first, last)| format!(" (events {first} to {last})")).unwrap_or_default();
    shown(&format!("{job}{}{lost}", damage.what))
}

pub(super) async fn storage(global: &GlobalArguments, arguments: &Arguments) -> Result<ExitCode> {
    let StorageCommand::Check { output } = &arguments.command;
    let path = global.load_quietly()?.config.storage.path;
    let root = path.clone();
    // A person waits for it, and can end it at any time: it only reads.
    let found = tokio::task::spawn_blocking(move || check(&root)).await.map_err(Error::internal)??;
    if output.format() == OutputFormat::Table {
        for note in &found.notes {
            print::to_stderr(&format!("note: {note}\n"));
        }
        for damage in &found.damage {
            print::to_stdout(&format!("damaged: {}\n", in_words(damage)));
        }
        let state = if found.damage.is_empty() { "whole" } else { "damaged" };
        print::to_stdout(&format!(
            "{} is {state}: {} ended and {} unfinished jobs, {} bytes read\n",
            path.display(),
            found.ended,
            found.unfinished,
            found.bytes
        ));
    } else {
        let damage = found.damage.iter().map(|damage| {
            let (first, last) = damage.lost.unzip();
            let job_id = damage.job_id.as_ref().map(ToString::to_string);
            json!({"job_id": job_id, "what": damage.what, "first_lost_sequence": first, "last_lost_sequence": last})
        });
        let report = json!({
            "is_whole": found.damage.is_empty(), "ended": found.ended, "unfinished": found.unfinished, "bytes": found.bytes,
            "damage": damage.collect::<Vec<_>>(), "notes": found.notes,
        });
        print::to_stdout(&format!("{report}\n"));
    }
    Ok(match found.damage.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Reason::DataLoss.codes().exit),
    })
}
