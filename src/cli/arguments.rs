//! The syntax of the command line.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use super::{
    configuration, conversations, doctor, global::GlobalArguments, jobs, mcp, overview, reference, run,
    serve, storage,
};
use crate::error::Result;

/// What stands below the help of the whole program.
const FIRST_STEPS: &str = "\
Examples:
  conductor-gateway run \"list all available agents\"
  conductor-gateway run --agent SqlExpert_Agent \"select 1\"
  conductor-gateway serve

A model is taken from OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY, or is configured;
`run help` says what works without one, `doctor` what is missing.

Exit status: 0 for success, 64 for what was typed wrongly, 69 where no gateway answers, else
that of the error: /docs/errors of a running gateway lists them.";

/// Runs AI agents and their tools as durable jobs, here or as a service for gRPC, HTTP, MCP and browsers.
#[derive(Debug, Parser)]
#[command(name = "conductor-gateway", version, arg_required_else_help = false, after_help = FIRST_STEPS)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArguments,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the gateway (the default)
    ///
    /// It runs until Ctrl-C or SIGTERM, and then lets what runs come to an end; a second one does not wait for that.
    Serve(serve::Arguments),
    /// Run one task and print its events
    Run(run::Arguments),
    /// Look at and act on the jobs of a running gateway
    Jobs(jobs::Arguments),
    /// List the agents of a running gateway
    Agents(overview::Arguments),
    /// List the tools of a running gateway
    Tools(overview::Arguments),
    /// Show what a running gateway is and is doing
    Status(overview::Arguments),
    /// Check this machine, the configuration, the engine and the model
    ///
    /// The exit status is 1 if something is wrong, with what the engine finds in its own check among it.
    Doctor(doctor::Arguments),
    /// Look at and delete conversations of a running gateway
    Conversations(conversations::Arguments),
    /// Serve the tools to an MCP client on standard input and output
    Mcp(mcp::Arguments),
    /// Look at the configuration, and have a running gateway read it again
    Config(configuration::Arguments),
    /// Look at the stored jobs of this machine
    Storage(storage::Arguments),
    /// Print the completions for a shell
    Completions(reference::CompletionsArguments),
    /// Write the manual pages
    Man(reference::ManArguments),
    /// The bundled engine: `engine --help` explains it
    #[command(disable_help_flag = true)]
    Engine {
        /// The engine's own flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Runs a command.
///
/// # Errors
/// The failure, worded for the person who typed the command.
pub(super) async fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { global, command } = arguments;
    match command {
        None => serve::serve(&global, &serve::Arguments::default()).await,
        Some(Command::Serve(arguments)) => serve::serve(&global, &arguments).await,
        Some(Command::Run(arguments)) => run::run(&global, arguments).await,
        Some(Command::Jobs(arguments)) => jobs::jobs(&global, arguments).await,
        Some(Command::Agents(arguments)) => overview::agents(&global, arguments).await,
        Some(Command::Tools(arguments)) => overview::tools(&global, arguments).await,
        Some(Command::Status(arguments)) => overview::status(&global, arguments).await,
        Some(Command::Doctor(arguments)) => doctor::doctor(&global, &arguments).await,
        Some(Command::Conversations(arguments)) => conversations::conversations(&global, arguments).await,
        Some(Command::Mcp(arguments)) => Box::pin(mcp::mcp(&global, &arguments)).await,
        Some(Command::Config(arguments)) => configuration::configuration(&global, &arguments).await,
        Some(Command::Storage(arguments)) => storage::storage(&global, &arguments).await,
        Some(Command::Completions(arguments)) => Ok(reference::completions(&arguments, Arguments::command())),
        Some(Command::Man(arguments)) => reference::man(&arguments, Arguments::command()),
        // Normally handled before this parser, unless a global flag came first.
        Some(Command::Engine { arguments }) => {
            Ok(ExitCode::from(crate::bundled::main(arguments.into_iter().map(Into::into))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_program_says() {
        let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
        let page = reference::page(Arguments::command());
        if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(&path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "GOLDEN=write writes docs/cli.md");
    }
}
