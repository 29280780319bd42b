//! The layout of the workspace, which both engines share: `<root>/<storage.path>/agents/<agent_id>/…`.
//!
//! Agents write into it, so every file in it is opened through `files::Root`, beneath the workspace's directory.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::documents::read_yaml;
use crate::files::{EntryKind, Root};

/// The path of the workspace unless the engine's own configuration sets another.
pub(crate) const DEFAULT_STORAGE_PATH: &str = ".conductor_workspace";
/// The files of an agent's memory; the rest of its directory is its definition.
pub(crate) const HISTORY_FILES: [&str; 3] = ["session.json", "knowledge.json", "history.log"];
/// A workspace with more entries than this is not listed.
const MAX_AGENTS: usize = 10_000;
/// Interactions are counted in at most this many bytes of a log.
const MAX_HISTORY_BYTES: u64 = 64 * 1024 * 1024;

/// An agent's definition. Missing fields are tolerated, as in the engine's own listing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    /// Its display name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The version of the file's format.
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

/// The part of the engine's own configuration that says where it keeps its agents.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct EngineConfig {
    pub(super) storage: StorageConfig,
}

/// Its `storage` section.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct StorageConfig {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
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

pub(super) fn read_config(root: &Path) -> io::Result<Arc<EngineConfig>> {
    match read_yaml::<EngineConfig>(&Root::open(root)?, root, Path::new("config.yaml")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Arc::default()),
        Err(error) => Err(io::Error::other(format!("config.yaml: {error}"))),
        read => read,
    }
}

/// Returns the kind of storage that an engine keeps its agents in: `filesystem`, or one that the gateway cannot read.
///
/// # Errors
/// When its configuration cannot be read.
pub(crate) fn storage_kind(root: &Path) -> io::Result<String> {
    Ok(read_config(root)?.storage.kind.clone().unwrap_or_else(|| "filesystem".to_owned()))
}

impl Workspace {
    /// Returns the workspace of an engine's root, at the place that its `config.yaml` sets.
    ///
    /// # Errors
    /// When that file cannot be read, or the engine does not keep its agents in files.
    pub fn of(root: &Path) -> io::Result<Self> {
        let config = read_config(root)?;
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

    /// Returns the workspace of a root that belongs to a run or a conversation. Its place is fixed, wherever the shared one is.
    pub fn private(directory: &Path) -> Self {
        Self { root: directory.to_owned(), directory: directory.join(DEFAULT_STORAGE_PATH) }
    }

    /// Returns the directory of the agents.
    pub fn agents_directory(&self) -> PathBuf {
        self.directory.join("agents")
    }

    /// Returns one agent's directory. `agent_id` must have been checked with [`is_id`].
    pub fn agent_directory(&self, agent_id: &str) -> PathBuf {
        self.agents_directory().join(agent_id)
    }

    /// Opens the directory of the agents. Returns `None` if it does not exist.
    fn open(&self) -> io::Result<Option<Root>> {
        let opened = Root::open(&self.directory).and_then(|root| root.directory(Path::new("agents")));
        match opened {
            Ok(agents) => Ok(Some(agents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens one agent's directory.
    ///
    /// # Errors
    /// When it does not exist, or a link leads to it.
    pub fn agent_root(&self, agent_id: &str) -> io::Result<Root> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        self.open()?.ok_or_else(missing)?.directory(Path::new(agent_id))
    }

    /// Returns every directory that may be an agent, sorted by id. Names that are not ids are left out, because no call
    /// could name them.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist contains no agents.
    pub fn agents(&self) -> io::Result<Vec<Agent>> {
        let Some(agents) = self.open()? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in agents.entries(MAX_AGENTS)? {
            let Some(agent_id) = entry.name.to_str().filter(|name| is_id(name)) else { continue };
            if entry.kind != EntryKind::File {
                found.push(self.read_agent(&agents, agent_id));
            }
        }
        Ok(found)
    }

    /// Returns one agent, or `None` if there is no such directory.
    pub fn agent(&self, agent_id: &str) -> Option<Agent> {
        if !is_id(agent_id) {
            return None;
        }
        let agents = self.open().ok()??;
        let kind = agents.kind(Path::new(agent_id)).ok()??;
        (kind != EntryKind::File).then(|| self.read_agent(&agents, agent_id))
    }

    fn read_agent(&self, agents: &Root, agent_id: &str) -> Agent {
        let relative = Path::new(agent_id).join("definition.yaml");
        let definition = match read_yaml(agents, &self.agents_directory(), &relative) {
            Ok(definition) => Ok(definition),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err("definition.yaml is missing".to_owned())
            }
            Err(error) => Err(format!("definition.yaml: {error}")),
        };
        Agent { agent_id: agent_id.to_owned(), definition }
    }

    /// Returns how many interactions an agent remembers.
    pub fn history_len(&self, agent_id: &str) -> usize {
        let root = self.agent_root(agent_id);
        root.map_or(0, |root| root.count_lines(Path::new("history.log"), MAX_HISTORY_BYTES))
    }

    fn lock_file(&self, agent_id: &str) -> io::Result<File> {
        Root::open(&self.root)?.create_directory(Path::new(".locks"))?.append(Path::new(agent_id))
    }

    /// Takes the agent's exclusive lock in this workspace's root, and holds it until the returned file is closed. Blocks the
    /// thread, without a time limit, while another run holds the lock.
    ///
    /// # Errors
    /// When the lock cannot be taken.
    pub fn lock(&self, agent_id: &str) -> io::Result<File> {
        let lock = self.lock_file(agent_id)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    /// Like [`Workspace::lock`], but returns `None` instead of waiting while another run is active.
    ///
    /// # Errors
    /// When the lock cannot be taken.
    pub fn try_lock(&self, agent_id: &str) -> io::Result<Option<File>> {
        let lock = self.lock_file(agent_id)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an agent's memory. Returns the number of interactions removed.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear_history(&self, agent_id: &str) -> io::Result<usize> {
        let removed = self.history_len(agent_id);
        let root = match self.agent_root(agent_id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            root => root?,
        };
        for name in HISTORY_FILES {
            root.remove_file(Path::new(name))?;
        }
        Ok(removed)
    }
}

/// Returns whether `id` may name an agent or a conversation: `^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`. Such an id is never a flag,
/// a path or a pattern.
pub(crate) fn is_id(id: &str) -> bool {
    let mut bytes = id.bytes();
    id.len() <= 128
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn broken_neighbours_are_named_and_harm_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::private(directory.path());
        let agents = workspace.agents_directory();
        let write = |agent_id: &str, text: &str| {
            fs::create_dir_all(agents.join(agent_id)).unwrap();
            fs::write(agents.join(agent_id).join("definition.yaml"), text).unwrap();
        };
        write("Fine_Agent", "name: x\nunknown: [1]\n");
        write("Link_Target", "name: x\n");
        write("List_Agent", "- a\n- b\n");
        write("Empty_Agent", "");
        write("Large_Agent", &"# x\n".repeat(100_000));
        fs::create_dir_all(agents.join("Missing_Agent")).unwrap();
        std::os::unix::fs::symlink("Link_Target", agents.join("Linked_Agent")).unwrap();
        fs::create_dir_all(agents.join("Pipe_Agent")).unwrap();
        let pipe = agents.join("Pipe_Agent/definition.yaml");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        let found = workspace.agents().unwrap();
        let (fine, broken): (Vec<_>, Vec<_>) = found.iter().partition(|agent| agent.definition.is_ok());
        let names = |agents: &[&Agent]| agents.iter().map(|agent| agent.agent_id.clone()).collect::<Vec<_>>();
        assert_eq!(names(&fine), ["Fine_Agent", "Link_Target"]);
        assert_eq!(
            names(&broken),
            ["Empty_Agent", "Large_Agent", "Linked_Agent", "List_Agent", "Missing_Agent", "Pipe_Agent"]
        );
        fs::write(agents.join("Fine_Agent/history.log"), "{}\n\n{}\n{}").unwrap();
        assert_eq!(
            (workspace.history_len("Fine_Agent"), workspace.clear_history("Fine_Agent").unwrap()),
            (3, 3)
        );
        assert_eq!(workspace.history_len("Fine_Agent"), 0);
    }
}
