//! What both drivers do alike with the files of the workspace.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use super::{AgentDetails, Agents, DriverConfig};
use crate::{
    engine::workspace::{Agent, Definition, Workspace},
    error::{Error, Reason, Result},
    files::EntryKind,
    text::quoted,
};

/// Reading and writing a few files takes no longer than this.
const FILE_TIME: Duration = Duration::from_secs(10);
/// More of a persona is not shown.
const MAX_PERSONA_BYTES: usize = 16 * 1024;
const MAX_PERSONA_FILE_BYTES: u64 = 1024 * 1024;
/// An agent with more files than this is not described.
const MAX_AGENT_FILES: usize = 100_000;

pub(super) fn unreadable(error: std::io::Error) -> Error {
    Error::new(Reason::ToolFailed, format!("the workspace cannot be read: {error}"))
}

impl DriverConfig {
    /// Opens the engine's shared workspace. Blocks on its files.
    ///
    /// # Errors
    /// [`Reason::Unsupported`] where the engine keeps its agents in something else than files; [`Reason::ToolFailed`].
    pub(super) fn workspace(&self) -> Result<Workspace> {
        self.engine.workspace()
    }

    /// Runs file work on one of the few threads for it.
    pub(super) async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.files_for(FILE_TIME, work).await
    }

    /// The same for work that takes its time.
    pub(super) async fn files_for<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let config = self.clone();
        self.pool.run_fallible(deadline, move || work(&config)).await
    }

    /// Reads the agents from the workspace.
    pub(super) async fn read_agents(&self) -> Result<Agents> {
        self.files(|config| {
            let mut agents = Agents::default();
            for Agent { agent_id, definition } in config.workspace()?.agents().map_err(unreadable)? {
                match definition {
                    Ok(definition) => agents.usable.push((agent_id, definition)),
                    Err(problem) => agents.broken.push((agent_id, problem)),
                }
            }
            Ok(agents)
        })
        .await
    }

    /// Reads the ids of the agents in the workspace.
    pub(super) async fn installed(&self) -> Result<BTreeSet<String>> {
        self.files(|config| {
            let agents = config.workspace()?.agents().map_err(unreadable)?;
            Ok(agents.into_iter().map(|agent| agent.agent_id).collect())
        })
        .await
    }

    /// Reads one agent from the workspace.
    pub(super) async fn read_agent(&self, agent_id: &str) -> Result<AgentDetails> {
        let agent_id = agent_id.to_owned();
        self.files(move |config| {
            let workspace = config.workspace()?;
            let definition = find_agent(&workspace, &agent_id)?;
            let root = workspace.agent_root(&agent_id).map_err(unreadable)?;
            let entries = root.entries(MAX_AGENT_FILES).map_err(unreadable)?.into_iter();
            let files = entries.filter(|entry| entry.kind == EntryKind::File).filter_map(|entry| {
                let bytes = root.status(Path::new(&entry.name)).ok()?.st_size;
                let name = entry.name.to_string_lossy().into_owned();
                Some((name, u32::try_from(bytes).unwrap_or(u32::MAX)))
            });
            let files = files.collect();
            let persona = root.read(Path::new("persona.md"), MAX_PERSONA_FILE_BYTES).unwrap_or_default();
            let mut persona = String::from_utf8_lossy(&persona).into_owned();
            persona.truncate(persona.floor_char_boundary(MAX_PERSONA_BYTES));
            Ok(AgentDetails { definition, persona, files })
        })
        .await
    }
}

/// Returns the definition of an agent. Blocks on its files.
///
/// # Errors
/// [`Reason::AgentNotFound`], with the nearest id; [`Reason::ToolFailed`] where its definition cannot be read.
pub(crate) fn find_agent(workspace: &Workspace, agent_id: &str) -> Result<Arc<Definition>> {
    let Some(agent) = workspace.agent(agent_id) else {
        let agents = workspace.agents().unwrap_or_default();
        let nearest = agents
            .iter()
            .map(|agent| {
                let score = strsim::jaro_winkler(&agent.agent_id.to_lowercase(), &agent_id.to_lowercase());
                (score, &agent.agent_id)
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match nearest {
            Some((score, nearest)) if score > 0.8 => format!("did you mean `{nearest}`?"),
            Some(_) => "list_available_agents shows those that there are".to_owned(),
            None => "none is installed; install_agent_templates lists what can be".to_owned(),
        };
        let message = format!("there is no agent `{}`; {hint}", quoted(agent_id));
        return Err(Error::new(Reason::AgentNotFound, message));
    };
    agent.definition.map_err(|problem| {
        Error::new(Reason::ToolFailed, format!("the agent `{agent_id}` cannot be used: {problem}"))
    })
}

/// Returns the error for an installation that has installed nothing.
pub(super) fn nothing_installed(name: &str, instead: &str) -> Error {
    let message = format!(
        "nothing was installed: there is no template or category `{}`{instead}; call without a name to list them",
        quoted(name)
    );
    Error::new(Reason::ToolFailed, message)
}
