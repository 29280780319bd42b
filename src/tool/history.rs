//! `clear_agent_history`.

use super::{CallContext, Done, arguments::ClearArguments, result::HistoryCleared, toolbox::Inner};
use crate::{
    engine::workspace::Workspace,
    error::{Error, Reason, Result},
};

pub(super) async fn clear(inner: &Inner, context: &CallContext, arguments: &ClearArguments) -> Result<Done> {
    let agent_id = arguments.agent_id.as_str();
    let conversation_id = context.conversation(arguments.conversation_id.as_deref());
    let directory = inner.config.conversation_directory(&context.caller, &conversation_id);
    let (id, base) = (agent_id.to_owned(), directory.clone());
    // A run of this agent in this conversation would write what is cleared here.
    let _turn = inner.wait_for_agent(context, &directory, agent_id).await?;
    let removed = inner
        .blocking(move |config| {
            let shared = config.workspace()?;
            super::agents::find(&shared, &id)?;
            Workspace::private(&base).clear_history(&id).map_err(|error| {
                Error::new(Reason::ToolFailed, format!("the history cannot be removed: {error}"))
            })
        })
        .await?;
    // The last one to forget takes the conversation along.
    inner.remove_if_empty(directory).await?;
    let result = HistoryCleared {
        agent_id: agent_id.to_owned(),
        conversation_id,
        removed: u32::try_from(removed).unwrap_or(u32::MAX),
    };
    Done::new(format!("{agent_id} forgot this conversation; interactions removed: {removed}"), &result)
}
