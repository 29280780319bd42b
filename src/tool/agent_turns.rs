//! Runs of one agent that take turns: within a conversation, and with some engines among those that remember nothing.

use std::path::PathBuf;

use super::{Call, CallContext, Progress, parts::Parts};
use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
};

impl Parts {
    /// Returns the root by which runs of an agent take turns; `None` where they take none.
    fn turn_root(
        &self,
        caller: &Principal,
        conversation_id: Option<&str>,
        agent_id: &str,
    ) -> Option<PathBuf> {
        match conversation_id {
            Some(id) => Some(self.conversations.layout().agent_root(caller, id, agent_id)),
            None if self.driver.capabilities().serializes_stateless_runs => {
                Some(self.files.engine.root.clone())
            }
            None => None,
        }
    }

    /// Returns the agent that a call has for itself while it runs, in its conversation or in none. Names are equal where agent and
    /// conversation are.
    pub(super) fn agent_needed(
        &self,
        caller: &Principal,
        conversation_id: &str,
        call: &Call,
    ) -> Option<String> {
        let (conversation_id, agent_id) = match call {
            Call::ExecuteAgentStateless(arguments) => (None, &arguments.agent_id),
            Call::ExecuteAgentContextual(arguments) => {
                (Some(arguments.conversation_id.as_deref().unwrap_or(conversation_id)), &arguments.agent_id)
            }
            Call::StartInteractiveSession(arguments) => {
                (Some(arguments.conversation_id.as_deref().unwrap_or(conversation_id)), &arguments.agent_id)
            }
            _ => return None,
        };
        let root = self.turn_root(caller, conversation_id, agent_id)?;
        Some(format!("{}\n{agent_id}", root.display()))
    }

    /// Waits until no other run of this agent is in progress in this conversation, or among stateless runs, and reports
    /// the wait, which the job's time limit does not count. Returns `None` where runs take no turns.
    ///
    /// # Errors
    /// [`Reason::Cancelled`], [`Reason::TimedOut`].
    pub(super) async fn wait_for_agent(
        &self,
        context: &CallContext,
        conversation_id: Option<&str>,
        agent_id: &str,
    ) -> Result<Option<tokio::sync::OwnedMutexGuard<()>>> {
        let Some(root) = self.turn_root(&context.caller, conversation_id, agent_id) else { return Ok(None) };
        let lock = self.agent_locks.lock(root, agent_id);
        if let Ok(guard) = lock.clone().try_lock_owned() {
            return Ok(Some(guard));
        }
        let _unheard = context.progress.send(Progress::WaitingForAgent(agent_id.to_owned())).await;
        let waiting = context.limit.wait();
        tokio::select! {
            // Cancel safe: dropping the lock's branch only gives up its position in the queue.
            guard = lock.lock_owned() => {
                let _unheard = context.progress.send(Progress::AgentIsFree(agent_id.to_owned())).await;
                Ok(Some(guard))
            }
            () = context.cancel.cancelled() => Err(Error::cancelled()),
            () = waiting.passed() => Err(Error::new(
                Reason::TimedOut,
                format!("another run of {agent_id} did not end in time; try again later"),
            )),
        }
    }
}
