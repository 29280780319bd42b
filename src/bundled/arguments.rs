//! The command line: those flags of the conductor engine that the bundled engine has.

use std::{ffi::OsString, io::Read};

use clap::Parser;

use super::output::CommandFailure;
use crate::engine::workspace::is_id;

#[derive(Debug, Parser)]
#[command(
    name = "conductor-gateway engine",
    bin_name = "conductor-gateway engine",
    about = "The bundled engine: lists, validates, installs and runs agents in the current directory",
    disable_help_subcommand = true
)]
struct Flags {
    /// List the installed agents
    #[arg(long)]
    list: bool,
    /// Describe one agent
    #[arg(long, value_name = "AGENT")]
    info: Option<String>,
    /// Check the configuration and every agent
    #[arg(long)]
    validate: bool,
    /// Install a template, a category, `all`, or `list` them
    #[arg(long, value_name = "TEMPLATE")]
    install: Option<String>,
    /// The agent to run
    #[arg(long)]
    agent: Option<String>,
    /// What the agent is told
    #[arg(long, allow_hyphen_values = true)]
    input: Option<String>,
    /// Read what the agent is told, of so many bytes, from standard input: a command line is for everybody to see
    #[arg(long, value_name = "BYTES", conflicts_with = "input")]
    input_bytes: Option<usize>,
    /// Remember the conversation
    #[arg(long)]
    chat: bool,
    /// Forget the conversation first
    #[arg(long)]
    clear: bool,
    /// After the answer read further inputs, one a line; needs --chat
    #[arg(long)]
    interactive: bool,
    /// Answer without a model
    #[arg(long)]
    simulate: bool,
    /// Longest time for the answer, in seconds
    #[arg(long, default_value_t = 1800)]
    timeout: u32,
    /// How to print: text or json
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
    /// The project that the run is about
    #[arg(long)]
    project: Option<String>,
    /// The environment that the run is about
    #[arg(long)]
    environment: Option<String>,
}

/// The maximum size of an input, in bytes.
const MAX_INPUT_BYTES: usize = 16 * 1024 * 1024;

/// Flags of the conductor engine that this one lacks, and what to use instead.
const LACKING: &[(&str, &str)] = &[
    ("--backup", "the gateway's tool backup_agents copies the workspace"),
    ("--restore", "the gateway's tool restore_agents brings a backup back"),
    ("--migrate-from", "the gateway's tool migrate_storage copies the agents elsewhere"),
    ("--migrate-to", "the gateway's tool migrate_storage copies the agents elsewhere"),
    ("--history", "read history.log in the agent's directory"),
    ("--meta", "every agent is run the same way here"),
    ("--new-agent-id", "copy an agent's directory to make a new one"),
    ("--path", "there is nothing here that takes a path"),
    ("--no-config-update", "there is nothing here that takes it"),
];

/// The requested action.
#[derive(Debug)]
pub(super) enum Action {
    Help(String),
    List,
    Info(String),
    Validate,
    Install(String),
    Run(RunArguments),
    ClearHistory(String),
}

/// The arguments of one run.
#[derive(Debug)]
pub(super) struct RunArguments {
    pub(super) agent_id: String,
    /// `None` only for an interactive run.
    pub(super) input: Option<String>,
    pub(super) is_interactive: bool,
    pub(super) is_simulated: bool,
    pub(super) timeout_seconds: u32,
    pub(super) is_contextual: bool,
    pub(super) clears_history: bool,
    pub(super) project: Option<String>,
    pub(super) environment: Option<String>,
}

/// A parsed command line.
#[derive(Debug)]
pub(super) struct CommandLine {
    pub(super) action: Action,
    pub(super) is_json: bool,
}

impl CommandLine {
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, CommandFailure> {
        let mut arguments: Vec<OsString> = arguments.into_iter().collect();
        // The older form: `execute --agent …`.
        if arguments.first().is_some_and(|first| first == "execute") {
            arguments.remove(0);
        }
        for argument in &arguments {
            let text = argument.to_string_lossy();
            let name = text.split('=').next().unwrap_or_default();
            if let Some((flag, instead)) = LACKING.iter().find(|(flag, _)| *flag == name) {
                return Err(CommandFailure::usage(format_args!(
                    "the bundled engine has no {flag}: {instead}"
                )));
            }
        }
        let parsed = Flags::try_parse_from(std::iter::once(OsString::from("engine")).chain(arguments));
        let flags = match parsed {
            Ok(flags) => flags,
            Err(error) if !error.use_stderr() => {
                return Ok(Self { action: Action::Help(error.to_string()), is_json: false });
            }
            Err(error) => {
                return Err(CommandFailure::usage(
                    error.to_string().trim_start_matches("error: ").trim_end(),
                ));
            }
        };
        let is_json = flags.output == "json";
        Ok(Self { action: flags.action()?, is_json })
    }
}

/// Reads exactly `bytes` bytes, so that the lines of a dialogue can follow.
fn read_input(bytes: usize) -> Result<String, CommandFailure> {
    if bytes > MAX_INPUT_BYTES {
        return Err(CommandFailure::usage(format_args!(
            "--input-bytes: at most {MAX_INPUT_BYTES} are taken"
        )));
    }
    let mut input = vec![0; bytes];
    let unreadable = |error| CommandFailure::failed(format_args!("the input cannot be read: {error}"));
    std::io::stdin().lock().read_exact(&mut input).map_err(unreadable)?;
    String::from_utf8(input).map_err(|_| CommandFailure::usage("the input is no UTF-8"))
}

fn checked(agent_id: String) -> Result<String, CommandFailure> {
    if is_id(&agent_id) {
        return Ok(agent_id);
    }
    Err(CommandFailure::usage(format_args!(
        "`{agent_id}` cannot be an agent's id: letters, digits, `_` and `-`, at most 128, beginning with a letter or digit"
    )))
}

impl Flags {
    fn action(self) -> Result<Action, CommandFailure> {
        if self.list {
            return Ok(Action::List);
        }
        if self.validate {
            return Ok(Action::Validate);
        }
        if let Some(agent_id) = self.info {
            return Ok(Action::Info(checked(agent_id)?));
        }
        if let Some(target) = self.install {
            return Ok(Action::Install(checked(target)?));
        }
        let Some(agent_id) = self.agent else {
            return Err(CommandFailure::usage(
                "nothing to do: give --list, --info, --validate, --install or --agent; --help explains them",
            ));
        };
        let agent_id = checked(agent_id)?;
        let input = match self.input_bytes {
            Some(bytes) => Some(read_input(bytes)?),
            None => self.input,
        };
        let input = input.filter(|input| !input.trim().is_empty());
        if self.interactive && !self.chat {
            return Err(CommandFailure::usage(
                "--interactive needs --chat: each input belongs to one conversation",
            ));
        }
        if input.is_none() && self.clear && !self.interactive {
            return Ok(Action::ClearHistory(agent_id));
        }
        if input.is_none() && !self.interactive {
            return Err(CommandFailure::usage(
                "--agent wants --input with what the agent is told, or --chat --interactive",
            ));
        }
        Ok(Action::Run(RunArguments {
            agent_id,
            input,
            is_interactive: self.interactive,
            is_simulated: self.simulate,
            timeout_seconds: self.timeout,
            is_contextual: self.chat,
            clears_history: self.clear,
            project: self.project,
            environment: self.environment,
        }))
    }
}
