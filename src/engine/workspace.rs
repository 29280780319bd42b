//! The workspace's layout, the same for both engines: `<root>/<storage.path>/agents/<agent_id>/…`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::documents::read_yaml;

/// Where the workspace lies when the engine's own configuration says nothing else.
pub const DEFAULT_STORAGE_PATH: &str = ".conductor_workspace";
/// What an agent is made of; the rest of its directory is its history.
pub const DEFINITION_FILES: [&str; 3] = ["definition.yaml", "persona.md", "playbook.yaml"];
/// What an agent remembers.
pub const HISTORY_FILES: [&str; 3] = ["session.json", "knowledge.json", "history.log"];

/// One agent's definition. Missing fields are tolerated, as the engine's listing does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    /// Its name for people.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The version of the file's form.
    pub schema_version: String,
    /// What it is for.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// The tools it may use.
    pub allowed_tools: Vec<String>,
}

/// An agent of the workspace.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its id, which is its directory's name.
    pub agent_id: String,
    /// Its definition, or why it cannot be read.
    pub definition: Result<Arc<Definition>, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EngineConfig {
    storage: StorageConfig,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StorageConfig {
    #[serde(rename = "type")]
    kind: Option<String>,
    path: Option<String>,
}

/// A workspace on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The engine's root.
    pub root: PathBuf,
    /// The workspace's directory within it.
    pub directory: PathBuf,
}

impl Workspace {
    /// The workspace of an engine's root, where its `config.yaml` puts it.
    ///
    /// # Errors
    /// When that file cannot be read, or keeps the agents elsewhere than in files.
    pub fn of(root: &Path) -> io::Result<Self> {
        let config = match read_yaml::<EngineConfig>(&root.join("config.yaml")) {
            Ok(config) => config,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Arc::default(),
            Err(error) => return Err(io::Error::other(format!("config.yaml: {error}"))),
        };
        let kind = config.storage.kind.as_deref().unwrap_or("filesystem");
        if kind != "filesystem" {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the engine keeps its agents in {kind}, which the gateway cannot read"),
            ));
        }
        let path = config.storage.path.as_deref().unwrap_or(DEFAULT_STORAGE_PATH);
        Ok(Self { root: root.to_owned(), directory: root.join(path) })
    }

    /// Where the agents are.
    pub fn agents_directory(&self) -> PathBuf {
        self.directory.join("agents")
    }

    /// One agent's directory. `agent_id` was checked with [`is_id`].
    pub fn agent_directory(&self, agent_id: &str) -> PathBuf {
        self.agents_directory().join(agent_id)
    }

    /// Every directory that may be an agent, sorted by id. Names that are no ids are left out: no call could
    /// name them.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist holds no agent.
    pub fn agents(&self) -> io::Result<Vec<Agent>> {
        let entries = match fs::read_dir(self.agents_directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut agents = Vec::new();
        for entry in entries {
            let entry = entry?;
            let agent_id = entry.file_name().to_string_lossy().into_owned();
            if is_id(&agent_id) && entry.path().is_dir() {
                agents.push(self.read_agent(agent_id));
            }
        }
        agents.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
        Ok(agents)
    }

    /// One agent; `None` when there is no such directory.
    pub fn agent(&self, agent_id: &str) -> Option<Agent> {
        (is_id(agent_id) && self.agent_directory(agent_id).is_dir())
            .then(|| self.read_agent(agent_id.to_owned()))
    }

    fn read_agent(&self, agent_id: String) -> Agent {
        let path = self.agent_directory(&agent_id).join("definition.yaml");
        let definition = match read_yaml(&path) {
            Ok(definition) => Ok(definition),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err("definition.yaml is missing".to_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error.to_string()),
            Err(error) => Err(format!("definition.yaml: {error}")),
        };
        Agent { agent_id, definition }
    }

    /// How many interactions an agent remembers.
    pub fn history_len(&self, agent_id: &str) -> usize {
        fs::read_to_string(self.agent_directory(agent_id).join("history.log"))
            .map_or(0, |log| log.lines().filter(|line| !line.trim().is_empty()).count())
    }

    /// A root of its own for a private conversation, under `directory`: the same definitions, by links, and a
    /// history that nobody else reads. Made on first use, brought up to date on every other.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn private_root(&self, directory: &Path) -> io::Result<Self> {
        let private = Self::private(directory);
        fs::create_dir_all(private.agents_directory())?;
        self.write_private_config(directory)?;
        // What the engine reads relative to its root. Its own writings go to the private one.
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let is_own =
                [DEFAULT_STORAGE_PATH, "config.yaml", "prompts_log", ".locks"].iter().any(|own| name == *own)
                    || self.directory == self.root.join(&name);
            if !is_own {
                link(&self.root.join(&name), &private.root.join(&name))?;
            }
        }
        for agent in self.agents()? {
            let (from, to) =
                (self.agent_directory(&agent.agent_id), private.agent_directory(&agent.agent_id));
            fs::create_dir_all(&to)?;
            for name in DEFINITION_FILES {
                if from.join(name).exists() {
                    link(&from.join(name), &to.join(name))?;
                }
            }
        }
        Ok(private)
    }

    /// The workspace of a private root. Its place never moves, wherever the shared one goes.
    pub fn private(directory: &Path) -> Self {
        Self { root: directory.to_owned(), directory: directory.join(DEFAULT_STORAGE_PATH) }
    }

    /// The engine's configuration with the storage in the private root, whatever the shared one says.
    fn write_private_config(&self, directory: &Path) -> io::Result<()> {
        let mut config = match fs::read_to_string(self.root.join("config.yaml")) {
            Ok(text) => serde_saphyr::from_str::<serde_json::Value>(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => serde_json::json!({}),
            Err(error) => return Err(error),
        };
        config["storage"] = serde_json::json!({"type": "filesystem", "path": DEFAULT_STORAGE_PATH});
        let text = serde_saphyr::to_string(&config).map_err(io::Error::other)?;
        let path = directory.join("config.yaml");
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        // Another run of this conversation may read it meanwhile: it sees the old one or the new one.
        let new = directory.join(format!(".config.{}.new", std::process::id()));
        fs::write(&new, text)?;
        fs::rename(new, path)
    }

    /// Removes what an agent remembers. Answers with the interactions removed.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear_history(&self, agent_id: &str) -> io::Result<usize> {
        let removed = self.history_len(agent_id);
        for name in HISTORY_FILES {
            match fs::remove_file(self.agent_directory(agent_id).join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(removed)
    }
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Whether `id` may name an agent or a conversation: `^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`. It then is no flag,
/// no path and no pattern.
pub fn is_id(id: &str) -> bool {
    let mut bytes = id.bytes();
    id.len() <= 128
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
