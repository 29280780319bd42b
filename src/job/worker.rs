//! The interface between the job module and the agent that does a job's work. Simulations substitute their own worker.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{self, Planner, QuestionSlot, TaskExecutor, Writer},
    error::Result,
    pb::Job,
    principal::Principal,
    telemetry::TraceContext,
    time_limit::TimeLimit,
    tool::{DEFAULT_CONVERSATION, ToolResult, Toolbox},
};

/// A job that may start now.
#[derive(Debug)]
pub struct Assignment<'a> {
    /// The job.
    pub job: &'a Job,
    /// The job's owner.
    pub owner: Principal,
    /// The span of the job.
    pub trace: TraceContext,
    /// The job's task, parsed and checked.
    pub task: &'a agent::Task,
    /// Receives the answers to the job's questions.
    pub inputs: &'a QuestionSlot,
    /// Cancelled when the work has to stop.
    pub cancel: CancellationToken,
    /// The time limit of the work.
    pub limit: TimeLimit,
}

/// What a job needs in order to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRequirements {
    /// A key for the agent that the job uses exclusively while it runs, or `None` if it needs none. A process
    /// never runs two jobs with equal keys at the same time. In a conversation, the key is specific to that conversation.
    pub agent: Option<String>,
    /// Whether the job only reads what the gateway has at hand, without starting a process.
    pub is_reading: bool,
}

/// Does the work of jobs, any number at the same time.
#[async_trait]
pub trait Worker: Send + Sync {
    /// Returns the engine's name, for `job_started`.
    fn engine(&self) -> &'static str;

    /// Returns what the job needs before it can start, as far as its task shows it.
    fn needs(&self, owner: &Principal, job: &Job, task: &agent::Task) -> JobRequirements;

    /// Does the work and writes its events to `writer`. Returns on cancellation and at the end of its time limit, and leaves no process
    /// running. The caller writes the outcome, exactly once.
    ///
    /// # Errors
    /// Why the task failed.
    async fn work(&self, assignment: Assignment<'_>, writer: &mut Writer) -> Result<ToolResult>;
}

/// The worker that runs agents: a planner and its tools.
pub(crate) struct AgentWorker {
    /// The tools.
    pub toolbox: Toolbox,
    /// The planner: the model and the tools that it may call.
    pub planner: Arc<Planner>,
}

#[async_trait]
impl Worker for AgentWorker {
    fn engine(&self) -> &'static str {
        self.toolbox.driver().name()
    }

    fn needs(&self, owner: &Principal, job: &Job, task: &agent::Task) -> JobRequirements {
        let agent::Task::Call(call, _) = task else { return JobRequirements::default() };
        let conversation_id = job.options.as_ref().map_or("", |options| &options.conversation_id);
        let conversation_id = if conversation_id.is_empty() { DEFAULT_CONVERSATION } else { conversation_id };
        JobRequirements {
            agent: self.toolbox.agent_needed(owner, conversation_id, call),
            is_reading: call.only_reads(),
        }
    }

    async fn work(&self, assignment: Assignment<'_>, writer: &mut Writer) -> Result<ToolResult> {
        let Assignment { job, owner, trace, task, inputs, cancel, limit } = assignment;
        let options = job.options.clone().unwrap_or_default();
        let named = Some(options.conversation_id).filter(|id| !id.is_empty());
        let agent = TaskExecutor {
            toolbox: &self.toolbox,
            planner: &self.planner,
            caller: owner,
            job_id: job.job_id.clone(),
            trace,
            named_conversation: named.clone(),
            conversation_id: named.unwrap_or_else(|| DEFAULT_CONVERSATION.to_owned()),
            max_steps: options.max_steps,
            max_total_tokens: options.max_total_tokens,
            max_cost: crate::llm::dollars(&options.max_cost),
            inputs,
            cancel,
            limit,
        };
        agent.run(task, writer).await
    }
}
