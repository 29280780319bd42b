//! The `conductor` section: which engine runs, and within which limits.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{environment, workspace::Workspace};
use crate::error::{Error, Reason};

/// Which engine runs, where, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// The checkout of a real conductor engine. If this and `command` are unset, the bundled engine runs.
    pub project_path: Option<PathBuf>,
    /// The engine's command line without its flags; if empty, `<project_path>/conductor` is run.
    pub command: Vec<String>,
    /// The root directory of the bundled engine, which contains its workspace.
    pub workspace: PathBuf,
    /// The maximum duration of one run, in seconds; a call may ask for less.
    #[serde(rename = "timeout")]
    pub timeout_seconds: u32,
    /// The time between TERM and KILL, in seconds.
    pub kill_grace_seconds: u32,
    /// The output limit of each stream, in bytes; what exceeds it is read and dropped, and the last chunk is marked.
    pub max_output_bytes: u32,
    /// Names of environment variables that runs receive besides the usual ones, such as a provider's key.
    pub pass_environment: Vec<String>,
    /// How long an interactive session waits for each answer, in seconds.
    pub session_input_timeout_seconds: u32,
    /// The input that an interactive session receives when nobody answers in time. If unset, its input is closed, which ends it.
    pub session_default_input: Option<String>,
    /// The pause that a real engine needs between two inputs of a session, in seconds; it discards input that comes sooner.
    pub session_pause_seconds: u32,
    /// Whether callers may type the engine's own commands and `@file` references in a session. Both reach data that is
    /// not the caller's.
    pub session_commands: bool,
    /// Directories that backups and migrations may be written to and read from.
    pub backup_roots: Vec<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            project_path: None,
            command: Vec::new(),
            workspace: PathBuf::new(),
            timeout_seconds: 1800,
            kill_grace_seconds: 5,
            max_output_bytes: 16 * 1024 * 1024,
            pass_environment: Vec::new(),
            session_input_timeout_seconds: 300,
            session_default_input: None,
            session_pause_seconds: 5,
            session_commands: false,
            backup_roots: Vec::new(),
        }
    }
}

/// Longer answers are not kept, however much output is allowed, because an answer is held in memory during its run.
const MAX_ANSWER_BYTES: u32 = 64 * 1024 * 1024;

impl EngineConfig {
    /// Returns the maximum size of an answer, in bytes.
    pub fn max_answer_bytes(&self) -> u32 {
        self.max_output_bytes.min(MAX_ANSWER_BYTES)
    }
}

/// A kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// `conductor-gateway engine`: its exit status is reliable, and its output is streamed.
    Bundled,
    /// The real engine: the outcome is read from its last JSON document, and runs of one agent in one root are serialized.
    Conductor,
}

impl EngineKind {
    /// Returns the name that events and pages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::Conductor => "conductor",
        }
    }
}

/// The environment variables of a run.
pub(crate) type RunEnvironment = BTreeMap<String, String>;

/// An engine that can be run: its program, root directory and environment.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Which kind of engine it is.
    pub kind: EngineKind,
    /// The program and its first arguments.
    pub program: Vec<String>,
    /// The engine's root directory, absolute.
    pub root: PathBuf,
    /// The prepared environment of its runs.
    pub environment: RunEnvironment,
}

impl Engine {
    /// Opens the engine's shared workspace. Blocks on its files.
    ///
    /// # Errors
    /// [`Reason::Unsupported`] where the engine keeps its agents in something else than files; [`Reason::ToolFailed`] when it cannot be
    /// read.
    pub fn workspace(&self) -> crate::error::Result<Workspace> {
        Workspace::of(&self.root).map_err(|error| match error.kind() {
            std::io::ErrorKind::Unsupported => Error::new(Reason::Unsupported, error.to_string()),
            _ => Error::new(Reason::ToolFailed, format!("the engine's workspace cannot be read: {error}")),
        })
    }

    /// Returns the configured engine. `own_program` is the path of this gateway's executable, which is the bundled engine too.
    ///
    /// # Errors
    /// A sentence if a path does not exist, or the bundled engine's workspace cannot be created.
    pub fn configured(config: &EngineConfig, own_program: &str) -> Result<Self, String> {
        let mut environment = environment::prepare(&config.pass_environment);
        if config.project_path.is_none() && config.command.is_empty() {
            std::fs::create_dir_all(&config.workspace)
                .and_then(|()| std::path::absolute(&config.workspace))
                .map(|root| Self {
                    kind: EngineKind::Bundled,
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
            Ok(Self { kind: EngineKind::Conductor, program, root, environment })
        }
    }
}
