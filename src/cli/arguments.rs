//! The syntax of the command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use super::{configuration, conversations, jobs, mcp, run, serve};
use crate::{
    config::{Config, Loaded, Sources, load},
    error::{Error, Reason, Result},
    journal, telemetry,
};

/// One streaming, durable gateway in front of the conductor engine of AI agents.
#[derive(Debug, Parser)]
#[command(name = "conductor-gateway", version, arg_required_else_help = false)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArguments,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct GlobalArguments {
    /// Read this configuration file instead of ./config.yaml
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set a configuration key, such as server.port=5007
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Open the doors (the default)
    Serve(serve::Arguments),
    /// Run one task and print its events
    Run(run::Arguments),
    /// Look at and act on the jobs of a running gateway
    Jobs(jobs::Arguments),
    /// Look at and delete conversations of a running gateway
    Conversations(conversations::Arguments),
    /// Serve the tools to an MCP client on standard input and output
    Mcp(mcp::Arguments),
    /// Look at the configuration
    Config(configuration::Arguments),
    /// The bundled engine: `engine --help` explains it
    #[command(disable_help_flag = true)]
    Engine {
        /// The engine's own flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

impl GlobalArguments {
    /// Loads the configuration with additional settings from the command's own flags.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load(&self, further: &[(&str, Option<String>)]) -> Result<Loaded> {
        let mut flags = Vec::new();
        for setting in &self.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::new(Reason::InvalidArgument, format!("--set {setting}: write it as KEY=VALUE"))
            })?;
            flags.push((key.to_owned(), value.to_owned()));
        }
        let given = further.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
        flags.extend(given);
        let sources =
            Sources { file: self.config.clone(), text: None, environment: std::env::vars().collect(), flags };
        load(&sources).map_err(|mistakes| {
            Error::new(Reason::InvalidArgument, format!("the configuration is not valid:\n{mistakes}"))
        })
    }
}

impl GlobalArguments {
    /// Loads the configuration of a process whose jobs end with it, and starts its log. The store is in memory, because
    /// a running gateway may hold the one on disk; only warnings are logged, unless the configuration says otherwise.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn load_for_one_process(&self) -> Result<Config> {
        let mut config = self.load(&[])?.config;
        config.storage.kind = journal::StoreKind::Memory;
        if config.telemetry == telemetry::Config::default() {
            config.telemetry.log = "warn".into();
        }
        telemetry::start(&config.telemetry)
            .map_err(|message| Error::new(Reason::InvalidArgument, message))?;
        Ok(config)
    }
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
        Some(Command::Conversations(arguments)) => conversations::conversations(&global, arguments).await,
        Some(Command::Mcp(arguments)) => Box::pin(mcp::mcp(&global, &arguments)).await,
        Some(Command::Config(arguments)) => configuration::configuration(&global, &arguments),
        // Normally handled before this parser, unless a global flag came first.
        Some(Command::Engine { arguments }) => {
            Ok(ExitCode::from(crate::bundled::main(arguments.into_iter().map(Into::into))))
        }
    }
}
