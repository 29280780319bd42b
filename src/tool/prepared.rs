//! Where a run of an agent takes place: a stateless run of the bundled engine in the engine's own root, any other run
//! in a root of its own.

use std::path::{Path, PathBuf};

use super::{
    CallContext,
    runs::RunDirectory,
    toolbox::{Inner, ToolboxConfig},
};
use crate::{
    engine::{Kind, plain_root, workspace::Workspace},
    error::{Error, Reason, Result},
    principal::Principal,
};

/// A root that is ready for a run.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Where the engine is started.
    pub(super) root: PathBuf,
    /// The workspace of the run's own root; `None` where it has none.
    private: Option<Workspace>,
    is_remembered: bool,
    /// Removed when the run is over.
    _directory: Option<RunDirectory>,
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::new(Reason::ToolFailed, "the run's directory cannot be written").because(error)
}

impl ToolboxConfig {
    /// Returns whether runs of an agent take turns. Only the bundled engine's stateless runs do not, because they
    /// remember nothing.
    pub(super) fn has_turns(&self, conversation_id: Option<&str>) -> bool {
        self.engine.kind != Kind::Bundled || conversation_id.is_some()
    }
}

impl Inner {
    /// Returns the root within which a call's runs of an agent take turns: that of the conversation, or one for all
    /// stateless runs.
    pub(super) fn run_root(
        &self,
        caller: &Principal,
        conversation_id: Option<&str>,
        agent_id: &str,
    ) -> PathBuf {
        match conversation_id {
            Some(id) => self.conversations.layout().agent_root(caller, id, agent_id),
            None => self.config.engine.root.clone(),
        }
    }

    /// Prepares the root in which an agent runs, in a conversation or statelessly.
    ///
    /// # Errors
    /// [`Reason::AgentNotFound`]; [`Reason::Unsupported`] for a conversation where agents are not kept in files;
    /// [`Reason::ToolFailed`] for an agent that cannot be read, or a root that cannot be made.
    pub(super) async fn prepare(
        &self,
        context: &CallContext,
        agent_id: &str,
        conversation_id: Option<&str>,
    ) -> Result<Prepared> {
        let (agent_id, caller) = (agent_id.to_owned(), context.caller.clone());
        let conversation_id = conversation_id.map(str::to_owned);
        let (runs, code, conversations) = (self.runs.clone(), self.code.clone(), self.conversations.clone());
        self.blocking_for(super::backup::COPY_TIME, move |config| {
            let code = code.map(|code| code.current()).transpose().map_err(unreadable_code)?;
            let workspace = match (config.workspace(), &conversation_id) {
                (Ok(workspace), _) => workspace,
                // Agents that are not kept in files: only the engine itself knows whether there is such an agent.
                (Err(_), None) => return in_plain_root(config, runs.next(), code.as_deref()),
                (Err(_), Some(_)) => {
                    let message = "conversations need an engine that keeps its agents in files";
                    return Err(Error::new(Reason::Unsupported, message));
                }
            };
            super::agents::find(&workspace, &agent_id)?;
            let (path, directory) = match &conversation_id {
                None if config.engine.kind == Kind::Bundled => {
                    let root = config.engine.root.clone();
                    return Ok(Prepared { root, private: None, is_remembered: false, _directory: None });
                }
                None => {
                    let directory = runs.next();
                    (directory.path().to_owned(), Some(directory))
                }
                Some(conversation_id) => {
                    conversations.open(&caller, conversation_id).map_err(unwritable)?;
                    (conversations.layout().agent_root(&caller, conversation_id, &agent_id), None)
                }
            };
            let private = workspace.run_root(&path, &agent_id, code.as_deref()).map_err(unwritable)?;
            let is_remembered = conversation_id.is_some();
            Ok(Prepared { root: path, private: Some(private), is_remembered, _directory: directory })
        })
        .await
    }

    /// Prepares a root without an agent, for what the engine installs. Returns it with its workspace.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`]; [`Reason::Unsupported`] where agents are not kept in files.
    pub(super) async fn prepare_installation(&self) -> Result<(Prepared, Workspace)> {
        let (runs, code) = (self.runs.clone(), self.code.clone());
        self.blocking_for(super::backup::COPY_TIME, move |config| {
            let code = code.map(|code| code.current()).transpose().map_err(unreadable_code)?;
            let directory = runs.next();
            let workspace = config.workspace()?;
            let private = workspace.empty_root(directory.path(), code.as_deref()).map_err(unwritable)?;
            let root = directory.path().to_owned();
            let prepared = Prepared {
                root,
                private: Some(private.clone()),
                is_remembered: false,
                _directory: Some(directory),
            };
            Ok((prepared, private))
        })
        .await
    }

    /// Takes the agents that a run has created into the workspace, and trims the prompts that it has logged. Returns
    /// the ids of the new agents, and what was not taken, with the reasons.
    pub(super) async fn settle(
        &self,
        prepared: &Prepared,
        agent_id: Option<&str>,
    ) -> (Vec<String>, Vec<String>) {
        let Some(private) = prepared.private.clone().filter(|_| self.config.engine.kind == Kind::Conductor)
        else {
            return (Vec::new(), Vec::new());
        };
        let (agent_id, is_remembered) = (agent_id.map(str::to_owned), prepared.is_remembered);
        let settled = self.blocking(move |config| {
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
                    self.agents_changed();
                }
                (taken, refused)
            }
            // The run itself is over and its answer is valid.
            Err(error) => {
                tracing::warn!(%error, cause = error.cause(), "what a run created could not be looked at");
                (Vec::new(), vec![error.message().to_owned()])
            }
        }
    }
}

fn unreadable_code(error: std::io::Error) -> Error {
    Error::new(Reason::ToolFailed, format!("the engine's checkout cannot be copied for the run: {error}"))
}

fn in_plain_root(config: &ToolboxConfig, directory: RunDirectory, code: Option<&Path>) -> Result<Prepared> {
    plain_root(&config.engine.root, directory.path(), code).map_err(unwritable)?;
    let root = directory.path().to_owned();
    Ok(Prepared { root, private: None, is_remembered: false, _directory: Some(directory) })
}
