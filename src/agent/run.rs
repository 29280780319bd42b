//! Running one task: plan it if it is a command, call the tool, write what happens.

use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Writer,
    planner::{Plan, plan},
};
use crate::{
    caller::Caller,
    error::{Error, Reason, Result},
    pb::{self, JobState, Json, StatusReason},
    tool::{Call, CallContext, Progress, ToolName, Toolbox},
};

/// Pieces of output that wait to be written; each is at most one read of a pipe.
const WAITING_PROGRESS: usize = 4;

/// A task that was checked at its submission.
#[derive(Clone, Debug)]
pub enum Task {
    /// To be planned.
    Command(String),
    /// One tool call, with its arguments as they were given.
    Call(Call, String),
}

impl Task {
    /// Checks a task. An agent run that belongs to a conversation remembers it.
    ///
    /// # Errors
    /// [`Reason::NoTask`]; [`Reason::InvalidArgument`], [`Reason::UnknownTool`] and [`Reason::TooLarge`] with
    /// the field's path.
    pub fn read(task: Option<&pb::Task>, conversation_id: &str) -> Result<Self> {
        let none = || {
            Error::new(
                Reason::NoTask,
                "no task: give exactly one of `command`, `agent_run` (agent_id and input_text) and `tool_call` (tool and arguments)",
            )
            .at("task")
        };
        match task.and_then(|task| task.task.as_ref()).ok_or_else(none)? {
            pb::task::Task::Command(command) if command.trim().is_empty() => {
                Err(Error::new(Reason::NoTask, "the command is empty; say what is to be done")
                    .at("task.command"))
            }
            pb::task::Task::Command(command) => {
                const MAX_COMMAND_BYTES: usize = 131_000;
                if command.len() > MAX_COMMAND_BYTES {
                    let message =
                        format!("is {} bytes long; at most {MAX_COMMAND_BYTES} are taken", command.len());
                    return Err(Error::new(Reason::TooLarge, message).at("task.command"));
                }
                Ok(Self::Command(command.clone()))
            }
            pb::task::Task::AgentRun(run) => {
                let arguments = json!({"agent_id": run.agent_id, "input_text": run.input_text}).to_string();
                let tool = match conversation_id {
                    "" => ToolName::ExecuteAgentStateless,
                    _ => ToolName::ExecuteAgentContextual,
                };
                let call =
                    Call::read(tool.as_str(), Some(&Json { text: arguments.clone() })).map_err(|error| {
                        let field =
                            error.field().unwrap_or_default().replace("arguments.", "task.agent_run.");
                        error.at(field)
                    })?;
                Ok(Self::Call(call, arguments))
            }
            pb::task::Task::ToolCall(call) => {
                let read = Call::read(&call.tool, call.arguments.as_ref()).map_err(|error| {
                    let field = format!("task.tool_call.{}", error.field().unwrap_or_default());
                    error.at(field)
                })?;
                let arguments = call.arguments.clone().unwrap_or_default().text;
                Ok(Self::Call(read, if arguments.is_empty() { "{}".to_owned() } else { arguments }))
            }
        }
    }
}

/// Runs tasks with the tools. One for each job.
pub struct Agent<'a> {
    /// The tools.
    pub toolbox: &'a Toolbox,
    /// Who asked.
    pub caller: Caller,
    /// The job.
    pub job_id: String,
    /// The conversation, `default` where none was named.
    pub conversation_id: String,
    /// Ends the run.
    pub cancel: CancellationToken,
    /// The run ends at this time at the latest.
    pub deadline: Instant,
}

impl Agent<'_> {
    /// Runs the task. The outcome is written by the caller, once.
    ///
    /// # Errors
    /// What made the task fail, with its reason.
    pub async fn run(&self, task: &Task, writer: &mut Writer) -> Result<crate::tool::Done> {
        match task {
            Task::Call(call, arguments) => self.call(call, arguments, 1, writer).await,
            Task::Command(command) => {
                writer.chain_start("direct").await?;
                // Agents that cannot be read make no command clearer; the tool then says why.
                let agents = self.toolbox.agents().await.unwrap_or_default();
                let ids: Vec<String> = agents.into_iter().map(|agent| agent.agent_id).collect();
                match plan(command, &ids) {
                    Plan::Call(call, arguments) => {
                        let done = self.call(&call, &arguments.to_string(), 1, writer).await;
                        writer.chain_end(1).await?;
                        done
                    }
                    Plan::Decline(why) => {
                        writer.chain_end(0).await?;
                        Err(Error::new(Reason::CommandNotUnderstood, why))
                    }
                }
            }
        }
    }

    async fn call(
        &self,
        call: &Call,
        arguments: &str,
        step: u32,
        writer: &mut Writer,
    ) -> Result<crate::tool::Done> {
        let tool = call.tool();
        let tool_call_id = writer.tool_start(tool, arguments, step).await?;
        let (progress, mut told) = mpsc::channel(WAITING_PROGRESS);
        let context = CallContext {
            caller: self.caller.clone(),
            job_id: self.job_id.clone(),
            conversation_id: self.conversation_id.clone(),
            cancel: self.cancel.clone(),
            deadline: self.deadline,
            progress,
        };
        let mut running = std::pin::pin!(self.toolbox.call(call, &context));
        let mut is_cancel_told = false;
        let completed = loop {
            tokio::select! {
                // Output first: what was printed before the end is written before it.
                biased;
                Some(progress) = told.recv() => write_progress(writer, &tool_call_id, progress).await?,
                () = self.cancel.cancelled(), if !is_cancel_told => {
                    is_cancel_told = true;
                    writer
                        .status(JobState::Running, StatusReason::CancelRequested, None, "the run is being stopped")
                        .await?;
                }
                completed = &mut running => break completed,
            }
        };
        while let Ok(progress) = told.try_recv() {
            write_progress(writer, &tool_call_id, progress).await?;
        }
        writer.tool_end(&tool_call_id, tool, &completed).await?;
        completed.result
    }
}

async fn write_progress(writer: &mut Writer, tool_call_id: &str, progress: Progress) -> Result<()> {
    match progress {
        Progress::Output(chunk) => writer.tool_output(tool_call_id, chunk).await,
        Progress::WaitingForAgent(agent_id) => {
            let message = format!("waiting for another run of {agent_id} to end");
            writer.status(JobState::Running, StatusReason::WaitingForAgent, None, message).await
        }
    }
}
