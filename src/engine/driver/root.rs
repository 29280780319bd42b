//! The roots of a real engine's runs: each run has one of its own, with a copy of its agent's definition and of the engine's code. What its agent
//! creates is taken into the shared workspace when it is over.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    DriverConfig, Memory, find_agent,
    run_directories::{RunDirectories, RunDirectory},
};
use crate::{
    engine::{Code, plain_root, workspace::Workspace},
    error::{Error, Reason, Result},
};

/// Copying an agent and the engine's code takes no longer than this.
const COPY_TIME: Duration = Duration::from_secs(600);

/// A root in which a run can be started.
#[derive(Debug)]
pub(super) struct RunRoot {
    /// The directory in which the engine is started.
    pub(super) path: PathBuf,
    /// The workspace of the root; `None` where the engine keeps its agents in a database.
    private: Option<Workspace>,
    is_remembered: bool,
    /// Removed when the run is over.
    _directory: Option<RunDirectory>,
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::new(Reason::ToolFailed, "the run's directory cannot be written").because(error)
}

fn unreadable_code(error: std::io::Error) -> Error {
    Error::new(Reason::ToolFailed, format!("the engine's checkout cannot be copied for the run: {error}"))
}

/// Makes the roots of runs.
#[derive(Clone, Debug)]
pub(super) struct RunRoots {
    /// Where runs that remember nothing take place.
    pub(super) directories: Arc<RunDirectories>,
    /// The engine's code, as its runs see it.
    pub(super) code: Arc<Code>,
}

impl RunRoots {
    /// Makes the root of an agent's run.
    ///
    /// # Errors
    /// [`Reason::AgentNotFound`]; [`Reason::Unsupported`] for an agent of a database that is to remember; [`Reason::ToolFailed`].
    pub(super) async fn for_agent(
        &self,
        config: &DriverConfig,
        agent_id: &str,
        memory: Option<Memory>,
    ) -> Result<RunRoot> {
        let (agent_id, roots) = (agent_id.to_owned(), self.clone());
        config
            .files_for(COPY_TIME, move |config| {
                let code = roots.code.current().map_err(unreadable_code)?;
                let workspace = match (config.workspace(), &memory) {
                    (Ok(workspace), _) => workspace,
                    // Agents that are not kept in files: the engine itself says whether there is such an agent.
                    (Err(_), None) => {
                        let directory = roots.directories.next();
                        let path = directory.path().to_owned();
                        plain_root(&config.engine.root, &path, Some(&code)).map_err(unwritable)?;
                        return Ok(RunRoot {
                            path,
                            private: None,
                            is_remembered: false,
                            _directory: Some(directory),
                        });
                    }
                    (Err(_), Some(_)) => {
                        let message = "conversations need an engine that keeps its agents in files";
                        return Err(Error::new(Reason::Unsupported, message));
                    }
                };
                find_agent(&workspace, &agent_id)?;
                let is_remembered = memory.is_some();
                let (path, directory) = match memory {
                    None => {
                        let directory = roots.directories.next();
                        (directory.path().to_owned(), Some(directory))
                    }
                    Some(memory) => (memory().map_err(unwritable)?, None),
                };
                let private = workspace.run_root(&path, &agent_id, Some(&code)).map_err(unwritable)?;
                Ok(RunRoot { path, private: Some(private), is_remembered, _directory: directory })
            })
            .await
    }

    /// Makes a root without an agent, for what the engine installs.
    ///
    /// # Errors
    /// [`Reason::Unsupported`], [`Reason::ToolFailed`].
    pub(super) async fn for_installation(&self, config: &DriverConfig) -> Result<RunRoot> {
        let roots = self.clone();
        config
            .files_for(COPY_TIME, move |config| {
                let code = roots.code.current().map_err(unreadable_code)?;
                let directory = roots.directories.next();
                let path = directory.path().to_owned();
                let private = config.workspace()?.empty_root(&path, Some(&code)).map_err(unwritable)?;
                Ok(RunRoot {
                    path,
                    private: Some(private),
                    is_remembered: false,
                    _directory: Some(directory),
                })
            })
            .await
    }
}

impl RunRoot {
    /// Reads the ids of the agents in the root's own workspace. Blocks on its files.
    pub(super) fn agents(&self) -> Result<Vec<String>> {
        let Some(private) = &self.private else { return Ok(Vec::new()) };
        let agents = private.agents().map_err(|error| {
            Error::new(Reason::ToolFailed, format!("what was installed cannot be read: {error}"))
        })?;
        Ok(agents.into_iter().map(|agent| agent.agent_id).collect())
    }

    /// Takes what a run has created into the shared workspace, and bounds what it has written down. Returns the new agents, and what was not
    /// taken and why.
    pub(super) async fn settle(
        &self,
        config: &DriverConfig,
        agent_id: Option<&str>,
    ) -> (Vec<String>, Vec<String>) {
        let Some(private) = self.private.clone() else { return (Vec::new(), Vec::new()) };
        let (agent_id, is_remembered) = (agent_id.map(str::to_owned), self.is_remembered);
        let settled = config.files(move |config| {
            if is_remembered {
                private.bound_prompts().map_err(unwritable)?;
            }
            config.workspace()?.take_created(&private, agent_id.as_deref()).map_err(unwritable)
        });
        match settled.await {
            Ok((taken, refused)) => {
                if !refused.is_empty() {
                    tracing::warn!(?refused, "agents that a run created were not taken");
                }
                if !taken.is_empty() {
                    tracing::info!(agents = ?taken, "agents that a run created are in the workspace now");
                }
                (taken, refused)
            }
            // The run itself is over and its answer is good.
            Err(error) => {
                tracing::warn!(%error, cause = error.cause(), "what a run created could not be looked at");
                (Vec::new(), vec![error.message().to_owned()])
            }
        }
    }
}
