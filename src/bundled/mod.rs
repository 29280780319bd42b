//! The bundled engine: `conductor-gateway engine …`, a small program of its own.
//!
//! It understands the command line of the conductor engine for listing, describing, validating, installing and
//! running agents, and keeps the same files. Exit statuses are reliable, `--output json` prints JSON documents and
//! nothing else, tokens are printed as they arrive. Without a model it simulates answers, and says so.
//!
//! *Lives here:* that program. *May import:* `llm`, `engine/workspace.rs`, rank 0. *May not:* import the
//! gateway's other rooms; the gateway starts it as a process like any engine.

mod answer;
mod arguments;
mod catalogue;
mod history;
mod install;
mod output;
mod run;
mod template;
mod validate;

use std::{ffi::OsString, path::Path};

use arguments::{Action, CommandLine};
use output::{CommandFailure, Printer};

use crate::engine::workspace::Workspace;

/// Runs the engine in the current directory. Returns its exit status: 0 done, 1 failed, 2 bad arguments.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match CommandLine::read(arguments) {
        Ok(arguments) => arguments,
        Err(failure) => return Printer::new(false).fail(&failure),
    };
    let printer = Printer::new(arguments.is_json);
    match act(&arguments, &printer) {
        Ok(()) => 0,
        Err(failure) => printer.fail(&failure),
    }
}

fn act(arguments: &CommandLine, printer: &Printer) -> Result<(), CommandFailure> {
    let workspace = Workspace::of(Path::new(".")).map_err(CommandFailure::failed)?;
    match &arguments.action {
        Action::Help(text) => printer.text(text),
        Action::List => catalogue::list(&workspace, printer),
        Action::Info(agent_id) => catalogue::info(&workspace, agent_id, printer),
        Action::Validate => validate::validate(&workspace, printer),
        Action::Install(target) if target == "list" => install::list(printer),
        Action::Install(target) => install::install(&workspace, target, printer),
        Action::Run(run) => run::run(&workspace, run, printer),
        Action::ClearHistory(agent_id) => run::clear(&workspace, agent_id, printer),
    }
}
