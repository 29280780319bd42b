//! The `conductor` section: which engine, and within which limits it runs.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::environment;

/// Which engine runs, where, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The checkout of a real conductor engine. Unset: the bundled engine.
    pub project_path: Option<PathBuf>,
    /// The engine's command line without its flags. Unset: `<project_path>/conductor`.
    pub command: Vec<String>,
    /// The bundled engine's root, which holds its workspace.
    pub workspace: PathBuf,
    /// The longest time one run may take, in seconds; a call may ask for less.
    #[serde(rename = "timeout")]
    pub timeout_seconds: u32,
    /// The time between TERM and KILL, in seconds.
    pub kill_grace_seconds: u32,
    /// Output beyond this many bytes a stream is read and dropped, with a mark.
    pub max_output_bytes: u32,
    /// Names of environment variables that runs are given beside the usual ones, such as a provider's key.
    pub pass_environment: Vec<String>,
    /// How long an interactive session waits for each answer, in seconds.
    pub session_input_timeout_seconds: u32,
    /// What an interactive session is told when nobody answers in time. Unset: its input is closed, which ends it.
    pub session_default_input: Option<String>,
    /// How long a real engine wants between two inputs of a session, in seconds; what comes sooner it forgets.
    pub session_pause_seconds: u32,
    /// Whether what callers type in a session may be the engine's own commands and name files with `@`. Both reach what is not
    /// the caller's.
    pub session_commands: bool,
    /// Directories that backups and migrations may be written to and read from.
    pub backup_roots: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            project_path: None,
            command: Vec::new(),
            workspace: "conductor-data/engine".into(),
            timeout_seconds: 1800,
            kill_grace_seconds: 5,
            max_output_bytes: 16 * 1024 * 1024,
            pass_environment: Vec::new(),
            session_input_timeout_seconds: 300,
            session_default_input: None,
            session_pause_seconds: 5,
            session_commands: false,
            backup_roots: vec!["conductor-data/backups".into()],
        }
    }
}

/// A longer answer is not kept, however much output is let through: it is held in memory while its run lasts.
const MAX_ANSWER_BYTES: u32 = 64 * 1024 * 1024;

impl Config {
    /// The longest answer, in bytes.
    pub fn max_answer_bytes(&self) -> u32 {
        self.max_output_bytes.min(MAX_ANSWER_BYTES)
    }
}

/// Which of the two engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `conductor-gateway engine`: exit statuses tell the truth, output streams.
    Bundled,
    /// The real one: the outcome is read from its last JSON line, runs of one agent are serialised.
    Conductor,
}

impl Kind {
    /// The name that events and pages print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::Conductor => "conductor",
        }
    }
}

/// The environment of a run beside the usual variables.
pub type RunEnvironment = BTreeMap<String, String>;

/// An engine that can be run: a program, the directory it wants, its environment.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Which.
    pub kind: Kind,
    /// Program and first arguments.
    pub program: Vec<String>,
    /// The engine's root, absolute.
    pub root: PathBuf,
    /// The prepared environment.
    pub environment: RunEnvironment,
}

impl Engine {
    /// The engine that the configuration means. `own_program` is this gateway's executable, which is the
    /// bundled engine too; `configuration` tells that one where its own configuration is.
    ///
    /// # Errors
    /// A sentence when a path is missing.
    pub fn configured(config: &Config, own_program: &str) -> Result<Self, String> {
        let mut environment = environment::prepare(&config.pass_environment);
        if config.project_path.is_none() && config.command.is_empty() {
            std::fs::create_dir_all(&config.workspace)
                .and_then(|()| std::path::absolute(&config.workspace))
                .map(|root| Self {
                    kind: Kind::Bundled,
                    program: vec![own_program.to_owned(), "engine".to_owned()],
                    root,
                    environment,
                })
                .map_err(|error| format!("conductor.workspace: {}: {error}", config.workspace.display()))
        } else {
            let root = config.project_path.clone().unwrap_or_else(|| PathBuf::from("."));
            let root =
                std::path::absolute(&root).map_err(|error| format!("conductor.project_path: {error}"))?;
            if !root.is_dir() {
                return Err(format!("conductor.project_path: {} is not a directory", root.display()));
            }
            let program = if config.command.is_empty() {
                let script = root.join("conductor");
                if !script.is_file() {
                    return Err(format!("conductor.project_path: {} does not exist", script.display()));
                }
                let script = script.to_string_lossy().into_owned();
                match environment::use_virtual_environment(&root, &mut environment) {
                    Some(python) => vec![python, script],
                    None => vec![script],
                }
            } else {
                environment::use_virtual_environment(&root, &mut environment);
                config.command.clone()
            };
            Ok(Self { kind: Kind::Conductor, program, root, environment })
        }
    }
}
