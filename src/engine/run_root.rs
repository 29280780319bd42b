//! The private root of a run: a copy of its agent's definition, the configuration, the engine's code, and nothing else.
//!
//! A real engine reads its root relative to where it is started, and writes into it: prompts, histories, whatever its agent
//! does. In a private root a broken neighbour cannot affect it, its prompts are removed with it, and the checkout, with its
//! `.git`, is out of reach. The gateway copies what an agent creates into the shared workspace.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::workspace::{DEFAULT_STORAGE_PATH, HISTORY_FILES, Workspace, is_id};
use crate::files::{
    CopyLimits, DirectoryEntry, EntryKind, Interrupt, ReplaceDurability, Root, copy_tree,
    create_private_directory, remove_tree, replace,
};

/// Limits on an agent's definition.
const MAX_DEFINITION_FILES: usize = 64;
const MAX_AGENT_ENTRIES: usize = 10_000;
const MAX_DEFINITION_BYTES: u64 = 1024 * 1024;
/// Limits on what an agent may create.
const CREATED: CopyLimits = CopyLimits { max_entries: 256, max_bytes: 8 * 1024 * 1024, max_depth: 4 };
/// How many prompts that runs of a conversation write are kept, and how many bytes of them.
const MAX_PROMPTS: usize = 20;
const MAX_PROMPT_BYTES: u64 = 4 * 1024 * 1024;

impl Workspace {
    /// Makes `directory` the root for runs of one agent, or updates it; `code` is the directory of the engine's code.
    ///
    /// # Errors
    /// When it cannot be written, or the definition cannot be read.
    pub fn run_root(&self, directory: &Path, agent_id: &str, code: Option<&Path>) -> io::Result<Self> {
        let private = Self::private(directory);
        private.clear_the_way(agent_id)?;
        create_private_directory(&private.agent_directory(agent_id))?;
        self.write_config(directory)?;
        if let Some(code) = code {
            link_code(code, directory)?;
        }
        self.copy_definition(&private, agent_id)?;
        Ok(private)
    }

    /// Removes what an earlier run has put in place of the gateway's own files: a link would lead the gateway and the engine
    /// to other files, and a pipe would block the engine.
    fn clear_the_way(&self, agent_id: &str) -> io::Result<()> {
        create_private_directory(&self.root)?;
        let root = Root::open(&self.root)?;
        let workspace = PathBuf::from(DEFAULT_STORAGE_PATH);
        let (agents, agent) = (workspace.join("agents"), workspace.join("agents").join(agent_id));
        for path in [&workspace, &agents, &agent] {
            match root.kind(path)? {
                None => return Ok(()),
                Some(EntryKind::Directory) => {}
                Some(_) => {
                    tracing::warn!(path = %self.root.join(path).display(), "no directory stands where a run's is; it is removed");
                    return root.remove_file(path);
                }
            }
        }
        let agent = root.directory(&agent)?;
        for entry in agent.entries(MAX_AGENT_ENTRIES)?.iter().filter(|entry| entry.kind == EntryKind::Other) {
            tracing::warn!(name = ?entry.name, agent_id, "a link or a pipe stands among an agent's files; it is removed");
            agent.remove_file(Path::new(&entry.name))?;
        }
        Ok(())
    }

    /// Makes `directory` a root without any agent.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn empty_root(&self, directory: &Path, code: Option<&Path>) -> io::Result<Self> {
        let private = Self::private(directory);
        create_private_directory(&private.agents_directory())?;
        self.write_config(directory)?;
        code.map_or(Ok(()), |code| link_code(code, directory))?;
        Ok(private)
    }

    /// Writes the engine's configuration, with the storage in the private root, whatever the shared configuration says.
    fn write_config(&self, directory: &Path) -> io::Result<()> {
        let text =
            Root::open(&self.root)?.read_text(Path::new("config.yaml"), super::documents::MAX_DOCUMENT_BYTES);
        let mut config: Value = match text {
            Ok(text) => serde_saphyr::from_str(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => json!({}),
            Err(error) => return Err(error),
        };
        if !config.is_object() {
            config = json!({});
        }
        config["storage"] = json!({"type": "filesystem", "path": DEFAULT_STORAGE_PATH});
        let text = serde_saphyr::to_string(&config).map_err(io::Error::other)?;
        replace_changed(directory, "config.yaml", text.as_bytes())
    }

    /// Copies the agent's files except its memory, and renews those that have changed.
    fn copy_definition(&self, private: &Self, agent_id: &str) -> io::Result<()> {
        let (from, to) = (self.agent_root(agent_id)?, private.agent_directory(agent_id));
        for entry in from.entries(MAX_AGENT_ENTRIES)?.into_iter().take(MAX_DEFINITION_FILES) {
            let Some(name) = entry.name.to_str().filter(|name| !HISTORY_FILES.contains(name)) else {
                continue;
            };
            if entry.kind == EntryKind::File {
                replace_changed(&to, name, &from.read(Path::new(name), MAX_DEFINITION_BYTES)?)?;
            }
        }
        Ok(())
    }

    /// Copies agents that a run has created in its own root into this workspace, if they are new and their definitions can
    /// be read, and removes them from the run's root. Returns their ids, and what was not copied with the reasons.
    ///
    /// # Errors
    /// When the run's root cannot be read.
    pub fn take_created(
        &self,
        private: &Self,
        agent_id: Option<&str>,
    ) -> io::Result<(Vec<String>, Vec<String>)> {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for agent in private.agents()? {
            let id = agent.agent_id.as_str();
            if Some(id) == agent_id {
                continue;
            }
            if self.agent(id).is_some() {
                refused.push(format!("{id}: there is an agent of that name"));
                continue;
            }
            let copied = agent.definition.map_err(io::Error::other).and_then(|_| self.take(private, id));
            match copied {
                Ok(left_out) => {
                    let left_out =
                        left_out.iter().map(|path| format!("{id}/{}: is no regular file", path.display()));
                    refused.extend(left_out);
                    remove_tree(&private.agent_directory(id))?;
                    taken.push(agent.agent_id);
                }
                Err(error) => refused.push(format!("{id}: {error}")),
            }
        }
        refused.extend(private.unnamed()?);
        Ok((taken, refused))
    }

    /// Returns what is beside the agents and cannot be one, because its name is not an id.
    fn unnamed(&self) -> io::Result<Vec<String>> {
        let agents = match Root::open(&self.root)
            .and_then(|root| root.directory(Path::new(DEFAULT_STORAGE_PATH))?.directory(Path::new("agents")))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            agents => agents?,
        };
        let is_unnamed = |entry: &&DirectoryEntry| {
            entry.kind != EntryKind::File && !entry.name.to_str().is_some_and(is_id)
        };
        let entries = agents.entries(MAX_AGENT_ENTRIES)?;
        Ok(entries
            .iter()
            .filter(is_unnamed)
            .map(|entry| format!("{:?}: is no agent's id", entry.name))
            .collect())
    }

    /// Copies one agent into this workspace. Returns the paths that were left out.
    fn take(&self, private: &Self, agent_id: &str) -> io::Result<Vec<PathBuf>> {
        if !self.agents_directory().exists() {
            create_private_directory(&self.agents_directory())?;
        }
        let new = self.agents_directory().join(format!(".new-{agent_id}-{}", std::process::id()));
        remove_tree(&new)?;
        create_private_directory(&new)?;
        let is_memory = |path: &Path| path.to_str().is_some_and(|name| HISTORY_FILES.contains(&name));
        copy_tree(
            &private.agent_root(agent_id)?,
            &Root::open(&new)?,
            CREATED,
            &is_memory,
            &Interrupt::default(),
        )
        .and_then(|copied| fs::rename(&new, self.agent_directory(agent_id)).map(|()| copied.left_out))
        .inspect_err(|_| {
            let _gone = remove_tree(&new);
        })
    }

    /// Removes the oldest prompts that the engine has written in this root if there are too many or they are too large.
    ///
    /// # Errors
    /// When they cannot be read or removed.
    pub fn bound_prompts(&self) -> io::Result<()> {
        let log = match Root::open(&self.root).and_then(|root| root.directory(Path::new("prompts_log"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            log => log?,
        };
        // Their names begin with the time, so the latest come first in reverse order.
        let (mut kept, mut bytes) = (0, 0);
        for entry in log.entries(100_000)?.iter().rev() {
            let name = Path::new(&entry.name);
            bytes += u64::try_from(log.status(name)?.st_size).unwrap_or(0);
            kept += 1;
            if entry.kind != EntryKind::Directory && (kept > MAX_PROMPTS || bytes > MAX_PROMPT_BYTES) {
                log.remove_file(name)?;
            }
        }
        Ok(())
    }
}

/// Makes `directory` a root for an engine that keeps its agents elsewhere: with its unchanged configuration, and its code.
///
/// # Errors
/// When it cannot be written.
pub(super) fn plain_root(root: &Path, directory: &Path, code: Option<&Path>) -> io::Result<()> {
    create_private_directory(directory)?;
    match Root::open(root)?.read(Path::new("config.yaml"), super::documents::MAX_DOCUMENT_BYTES) {
        Ok(config) => replace_changed(directory, "config.yaml", &config)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    code.map_or(Ok(()), |code| link_code(code, directory))
}

/// Writes a file of the gateway's if its content differs, atomically, because another run may read it meanwhile.
fn replace_changed(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let present = Root::open(directory)?.read(Path::new(name), MAX_DEFINITION_BYTES);
    if present.is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    if Root::open(directory)?.kind(Path::new(name))? == Some(EntryKind::Directory) {
        remove_tree(&directory.join(name))?;
    }
    replace(&directory.join(name), bytes, ReplaceDurability::Process)
}

/// Links the copy of the engine's code into the root, and removes links to copies that are no longer used.
fn link_code(code: &Path, directory: &Path) -> io::Result<()> {
    for entry in Root::open(directory)?.entries(10_000)? {
        let path = directory.join(&entry.name);
        let is_stale = |target: PathBuf| target != code.join(&entry.name);
        if entry.kind == EntryKind::Other && fs::read_link(&path).is_ok_and(is_stale) {
            remove_tree(&path)?;
        }
    }
    for entry in Root::open(code)?.entries(10_000)? {
        let linked = std::os::unix::fs::symlink(code.join(&entry.name), directory.join(&entry.name));
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_holds_its_agent_and_the_code_and_what_is_created_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let shared = Workspace { root: at("engine"), directory: at("engine/elsewhere") };
        for agent in ["A", "B"] {
            fs::create_dir_all(shared.agent_directory(agent)).unwrap();
            fs::write(shared.agent_directory(agent).join("definition.yaml"), format!("name: {agent}\n"))
                .unwrap();
        }
        fs::write(shared.agent_directory("A").join("history.log"), "somebody's").unwrap();
        fs::write(at("engine/config.yaml"), "storage: {type: filesystem, path: elsewhere}\nlanguage: pt\n")
            .unwrap();
        fs::create_dir_all(at("code/agent_templates")).unwrap();
        let private = shared.run_root(&at("run"), "A", Some(&at("code"))).unwrap();
        let names = |path: &Path| {
            let entries = fs::read_dir(path).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&at("run")), [DEFAULT_STORAGE_PATH, "agent_templates", "config.yaml"]);
        assert_eq!(names(&private.agents_directory()), ["A"]);
        assert_eq!(names(&private.agent_directory("A")), ["definition.yaml"]);
        assert!(fs::read_to_string(at("run/config.yaml")).unwrap().contains("language: pt"));
        // It is renewed when the definition changes, whatever the run did to its copy.
        fs::write(shared.agent_directory("A").join("definition.yaml"), "name: changed\n").unwrap();
        shared.run_root(&at("run"), "A", None).unwrap();
        assert_eq!(
            fs::read_to_string(private.agent_directory("A").join("definition.yaml")).unwrap(),
            "name: changed\n"
        );
        // The agents that it creates.
        for (agent, text) in [("New_Agent", "name: new\n"), ("Broken_Agent", "- a\n"), ("B", "name: other\n")]
        {
            fs::create_dir_all(private.agent_directory(agent)).unwrap();
            fs::write(private.agent_directory(agent).join("definition.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("/etc", private.agent_directory("New_Agent").join("etc")).unwrap();
        let (taken, refused) = shared.take_created(&private, Some("A")).unwrap();
        assert_eq!(taken, ["New_Agent"]);
        let about = |what: &str| refused.iter().filter(|refused| refused.starts_with(what)).count();
        assert_eq!(
            (about("Broken_Agent: "), about("B: there is"), about("New_Agent/etc: ")),
            (1, 1, 1),
            "{refused:?}"
        );
        assert_eq!(refused.len(), 3);
        assert_eq!(names(&shared.agents_directory()), ["A", "B", "New_Agent"]);
        assert_eq!(names(&shared.agent_directory("New_Agent")), ["definition.yaml"]);
        // Whatever a run puts in place of its directories, nothing is written through it.
        let victim = at("victim");
        fs::create_dir_all(&victim).unwrap();
        fs::write(victim.join("definition.yaml"), "name: victim\n").unwrap();
        for place in [private.agent_directory("A"), private.agents_directory(), private.directory.clone()] {
            remove_tree(&place).unwrap();
            std::os::unix::fs::symlink(&victim, &place).unwrap();
            shared.run_root(&at("run"), "A", None).unwrap();
            assert_eq!(fs::read_to_string(victim.join("definition.yaml")).unwrap(), "name: victim\n");
            assert_eq!(names(&victim), ["definition.yaml"]);
            assert_eq!(names(&private.agent_directory("A")), ["definition.yaml"]);
        }
        std::os::unix::fs::symlink(
            victim.join("definition.yaml"),
            private.agent_directory("A").join("history.log"),
        )
        .unwrap();
        fs::remove_file(private.agent_directory("A").join("definition.yaml")).unwrap();
        fs::create_dir(private.agent_directory("A").join("definition.yaml")).unwrap();
        shared.run_root(&at("run"), "A", None).unwrap();
        assert_eq!(names(&private.agent_directory("A")), ["definition.yaml"]);
        // Prompts are bounded; the latest are kept.
        fs::create_dir(at("run/prompts_log")).unwrap();
        for number in 0..30 {
            fs::write(at(&format!("run/prompts_log/{number:02}_A_xml.txt")), "prompt").unwrap();
        }
        private.bound_prompts().unwrap();
        let kept = names(&at("run/prompts_log"));
        assert_eq!((kept.len(), kept[0].as_str()), (20, "10_A_xml.txt"));
    }
}
