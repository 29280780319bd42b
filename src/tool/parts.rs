//! What the tools work with: the engine's driver and workspace, conversations, and the turns of agents. A tool is given these, and knows
//! neither the toolbox nor the other tools.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, watch};

use super::{CallContext, agent_locks::AgentLocks};
use crate::{
    conversation::ConversationStore,
    engine::{self, Driver, Engine, workspace::Workspace},
    error::{Error, Reason, Result},
    files::{Interrupt, Pool},
};

/// The time limit for reading and writing a few files.
const FILE_TIME: Duration = Duration::from_secs(10);
/// The time limit for copying all agents.
const COPY_TIME: Duration = Duration::from_secs(600);

/// What tools read of the engine and its files on a thread that may block.
#[derive(Clone, Debug)]
pub(super) struct EngineFiles {
    /// The engine.
    pub(super) engine: Engine,
    /// Directories that backups and migrations may be written to and read from.
    pub(super) backup_roots: Vec<PathBuf>,
}

impl EngineFiles {
    /// Opens the engine's shared workspace.
    pub(super) fn workspace(&self) -> Result<Workspace> {
        self.engine.workspace()
    }
}

/// What the tools work with.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) files: EngineFiles,
    /// Limits of the engine's runs.
    pub(super) limits: engine::EngineConfig,
    pub(super) conversations: ConversationStore,
    pub(super) agent_locks: AgentLocks,
    /// The bounded pool of threads for files that others can write.
    pool: Pool,
    /// Read-locked by runs, write-locked while the agents are replaced. Nobody ever waits for the write lock.
    workspace_use: Arc<RwLock<()>>,
    /// Counts changes of the agents.
    changes: watch::Sender<u64>,
}

impl Parts {
    pub(super) fn new(
        driver: Arc<dyn Driver>,
        engine: Engine,
        limits: engine::EngineConfig,
        conversations: ConversationStore,
        pool: Pool,
    ) -> Self {
        Self {
            driver,
            files: EngineFiles { engine, backup_roots: limits.backup_roots.clone() },
            limits,
            conversations,
            agent_locks: AgentLocks::default(),
            pool,
            workspace_use: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Waits until the agents are not being replaced, and keeps them from being replaced while the guard is held.
    pub(super) async fn use_workspace(&self) -> OwnedRwLockReadGuard<()> {
        self.workspace_use.clone().read_owned().await
    }

    /// Takes the workspace for replacing its agents.
    ///
    /// # Errors
    /// [`Reason::Busy`] while agents run or are copied.
    pub(super) fn take_workspace(&self) -> Result<OwnedRwLockWriteGuard<()>> {
        self.workspace_use.clone().try_write_owned().map_err(|_| {
            Error::new(Reason::Busy, "agents are running or being copied; try again when they have ended")
        })
    }

    /// Notifies whoever follows [`changes`](Self::changes).
    pub(super) fn agents_changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Returns a receiver that is notified whenever the agents have changed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Runs file work on one of the few threads for it.
    ///
    /// # Errors
    /// Those of the work; [`Reason::ToolFailed`] where it takes longer than ten seconds.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EngineFiles) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = self.files.clone();
        self.pool.run_fallible(FILE_TIME, move || work(&files)).await
    }

    /// Copies files, which takes its time. The work is interrupted when the call is cancelled or its time is over.
    ///
    /// # Errors
    /// Those of the work; [`Reason::Cancelled`], [`Reason::TimedOut`]; [`Reason::ToolFailed`] where it takes longer than ten
    /// minutes.
    pub(super) async fn copying<T: Send + 'static>(
        &self,
        context: &CallContext,
        work: impl FnOnce(&EngineFiles, &Interrupt) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = self.files.clone();
        let work = move |interrupt: &Interrupt| work(&files, interrupt);
        self.pool.run_interruptible(COPY_TIME, FILE_TIME, context.stopped(), work).await
    }
}
