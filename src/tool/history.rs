//! `clear_agent_history`.

use std::time::Duration;

use tokio::time::Instant;

use super::{CallContext, ToolResult, arguments::ClearArguments, parts::Parts, result::HistoryCleared};
use crate::{
    engine::{find_agent, workspace::Workspace},
    error::{Error, Reason, Result},
};

/// How long to wait for a run that holds the lock.
const LOCK_TIME: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Clears an agent's history while holding the lock of its runs. Returns the number of interactions removed, or `None`
/// while one runs.
fn clear_if_free(workspace: &Workspace, agent_id: &str) -> std::io::Result<Option<usize>> {
    if !workspace.root.exists() {
        return Ok(Some(0));
    }
    let Some(_lock) = workspace.try_lock(agent_id)? else { return Ok(None) };
    workspace.clear_history(agent_id).map(Some)
}

pub(super) async fn clear(
    parts: &Parts,
    context: &CallContext,
    arguments: &ClearArguments,
) -> Result<ToolResult> {
    let agent_id = arguments.agent_id.as_str();
    let conversation_id = context.conversation(arguments.conversation_id.as_deref());
    let root = parts.conversations.layout().agent_root(&context.caller, &conversation_id, agent_id);
    // A run of this agent in this conversation would rewrite what is cleared here. The turn excludes runs that this
    // process started; the bundled engine's lock also excludes those of other processes.
    let _turn = parts.wait_for_agent(context, Some(&conversation_id), agent_id).await?;
    let until = context.limit.end().min(Instant::now() + LOCK_TIME);
    let removed = loop {
        let (id, base) = (agent_id.to_owned(), root.clone());
        let cleared = parts.blocking(move |config| {
            let shared = config.workspace()?;
            find_agent(&shared, &id)?;
            clear_if_free(&Workspace::private(&base), &id).map_err(|error| {
                Error::new(Reason::ToolFailed, format!("the history cannot be removed: {error}"))
            })
        });
        if let Some(removed) = cleared.await? {
            break removed;
        }
        if Instant::now() >= until {
            let message = format!("{agent_id} is running in this conversation; try again when it has ended");
            return Err(Error::new(Reason::Busy, message));
        }
        tokio::select! {
            // Cancel safe: both branches only wait.
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.cancel.cancelled() => return Err(Error::cancelled()),
        }
    };
    // When nothing in the conversation is remembered any more, the conversation itself is removed.
    parts.conversations.remove_if_empty(&context.caller, &conversation_id).await?;
    let result = HistoryCleared {
        agent_id: agent_id.to_owned(),
        conversation_id,
        removed: u32::try_from(removed).unwrap_or(u32::MAX),
    };
    ToolResult::new(format!("{agent_id} forgot this conversation; interactions removed: {removed}"), &result)
}
