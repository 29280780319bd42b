//! Following a run of the engine for a tool.

use super::{CallContext, Progress, parts::Parts};
use crate::{
    engine::{AgentRequest, EngineRun, Exit, Memory, OutputChunk, RunContext, RunOutcome, RunUpdate},
    error::Result,
};

impl CallContext {
    /// Passes output on. It does not matter whether anybody listens.
    pub(super) async fn tell(&self, chunk: OutputChunk) {
        let _unheard = self.progress.send(Progress::Output(chunk)).await;
    }

    /// Returns for which job a run of this call is, and what ends it.
    pub(super) fn run_context(&self) -> RunContext {
        RunContext {
            job_id: self.job_id.clone(),
            trace: self.trace,
            cancel: self.cancel.clone(),
            deadline: self.limit.end(),
        }
    }
}

/// Follows a run to its end, passes its output to the context's listener, and notes how its process ended.
///
/// # Errors
/// Those of the run's outcome.
pub(super) async fn follow(
    mut run: Box<dyn EngineRun>,
    context: &CallContext,
    exit: &mut Option<Exit>,
) -> Result<RunOutcome> {
    while let Some(event) = run.next().await? {
        if let RunUpdate::Output(chunk) = event {
            context.tell(chunk).await;
        }
    }
    let ended = run.finish().await;
    *exit = Some(ended.exit);
    ended.outcome
}

impl Parts {
    /// Returns the request for a run of an agent: about the caller's environment and project, in the conversation or in none.
    ///
    /// # Errors
    /// [`Reason::ToolFailed`](crate::error::Reason::ToolFailed) when the caller's settings cannot be read.
    pub(super) async fn agent_request(
        &self,
        context: &CallContext,
        agent_id: &str,
        conversation_id: Option<&str>,
    ) -> Result<AgentRequest> {
        let settings = self.conversations.settings(&context.caller).await?;
        let memory = conversation_id.map(|id| -> Memory {
            let (conversations, caller) = (self.conversations.clone(), context.caller.clone());
            let (id, agent_id) = (id.to_owned(), agent_id.to_owned());
            Box::new(move || {
                conversations.open(&caller, &id)?;
                Ok(conversations.layout().agent_root(&caller, &id, &agent_id))
            })
        });
        Ok(AgentRequest {
            agent_id: agent_id.to_owned(),
            memory,
            input: None,
            wants_document: false,
            clears_history: false,
            environment: settings.environment,
            project: settings.project,
            timeout_seconds: None,
            context: context.run_context(),
        })
    }
}
