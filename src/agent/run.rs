//! Runs one task: plans it if it is a command, calls the tool, writes what happens.

use rust_decimal::Decimal;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Planner, QuestionSlot, Writer,
    chain::Chain,
    direct_planner::{self, Plan, plan},
};
use crate::{
    error::{Error, Reason, Result},
    pb::{self, Json},
    principal::Principal,
    telemetry::TraceContext,
    time_limit::TimeLimit,
    tool::{Call, ToolName, ToolResult, Toolbox},
};

/// The longest command, in bytes.
pub(crate) const MAX_COMMAND_BYTES: usize = 131_000;

/// A task that was checked when it was submitted.
#[derive(Clone, Debug)]
pub enum Task {
    /// A command, which has to be planned.
    Command(String),
    /// One tool call, with its arguments as they were given.
    Call(Call, String),
}

impl Task {
    /// Checks a task. An agent run becomes a contextual one where there is a conversation, else a stateless one.
    ///
    /// # Errors
    /// [`Reason::NoTask`]; [`Reason::InvalidArgument`], [`Reason::UnknownTool`] and [`Reason::TooLarge`] with the
    /// field's path.
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

/// Runs tasks with the tools. There is one for each job.
pub(crate) struct TaskExecutor<'a> {
    /// The tools.
    pub toolbox: &'a Toolbox,
    /// The model and its tools.
    pub planner: &'a Planner,
    /// The caller.
    pub caller: Principal,
    /// The job's id.
    pub job_id: String,
    /// The span of the job.
    pub trace: TraceContext,
    /// The conversation that the caller named, if any.
    pub named_conversation: Option<String>,
    /// The named conversation, or the caller's default one.
    pub conversation_id: String,
    /// The most steps; 0 means the configured limit, which is never exceeded.
    pub max_steps: u32,
    /// The most tokens; 0 means no limit.
    pub max_total_tokens: u32,
    /// The most that its model calls may cost, in US dollars; `None` means no limit.
    pub max_cost: Option<Decimal>,
    /// Takes the answers to questions.
    pub inputs: &'a QuestionSlot,
    /// Cancels the run.
    pub cancel: CancellationToken,
    /// The time limit of the run.
    pub limit: TimeLimit,
}

impl TaskExecutor<'_> {
    /// Runs the task. The outcome is written by the caller of this method, once.
    ///
    /// # Errors
    /// What made the task fail, with its reason.
    pub(crate) async fn run(&self, task: &Task, writer: &mut Writer) -> Result<ToolResult> {
        match (task, self.planner.model.as_deref()) {
            (Task::Call(call, arguments), _) => self.run_named_call(call, arguments, writer).await,
            // A literal command line says which tool it means, so that no model is needed, or paid for.
            (Task::Command(command), Some(model)) if !direct_planner::is_command_line(command) => {
                let identity = model.identity();
                let mut chain = Chain::start(writer, "model", identity.provider, &identity.model).await?;
                let done = self.run_with_model(model, command, &mut chain).await;
                chain.end().await?;
                done
            }
            (Task::Command(command), _) => self.plan_directly(command, writer).await,
        }
    }

    async fn plan_directly(&self, command: &str, writer: &mut Writer) -> Result<ToolResult> {
        let mut chain = Chain::start(writer, "direct", "", "").await?;
        // Where the agents cannot be read, the command is planned without them; the tool then says why.
        let agents = self.toolbox.agents().await.unwrap_or_default();
        let ids: Vec<String> = agents.into_iter().map(|agent| agent.agent_id).collect();
        let done = match plan(command, &ids) {
            Plan::Call(call, arguments) => {
                chain.count_step();
                chain.count_tool_calls(1);
                self.run_named_call(&call, &arguments.to_string(), chain.tools()).await
            }
            Plan::Ask { question, call, arguments } => {
                chain.count_step();
                if self.agrees(&question, chain.tools()).await? {
                    chain.count_tool_calls(1);
                    self.run_named_call(&call, &arguments.to_string(), chain.tools()).await
                } else {
                    let message = "nobody agreed, so nothing was installed";
                    Err(Error::new(Reason::Declined, message))
                }
            }
            Plan::Answer(text) => {
                Ok(ToolResult { text, value: serde_json::Value::Null, is_truncated: false })
            }
            Plan::Decline(why) => Err(Error::new(Reason::CommandNotUnderstood, why)),
        };
        chain.end().await?;
        done
    }
}
