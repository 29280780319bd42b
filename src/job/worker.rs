//! Who does a job's work: the seam between the job room and the agent. Simulations put something else in its place.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{self, Agent, Inputs, Mind, Writer},
    error::Result,
    pb::Job,
    principal::Principal,
    tool::{DEFAULT_CONVERSATION, Done, Toolbox},
};

/// A job whose turn has come.
#[derive(Debug)]
pub struct Assignment<'a> {
    /// The job.
    pub job: &'a Job,
    /// Whose it is.
    pub owner: Principal,
    /// Its task, checked.
    pub task: &'a agent::Task,
    /// Where answers to questions come in.
    pub inputs: &'a Inputs,
    /// Ends the work.
    pub cancel: CancellationToken,
    /// The work ends at this time at the latest.
    pub deadline: Instant,
}

/// What a job needs to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The agent that it has for itself while it runs, in its conversation.
    pub agent: Option<String>,
    /// It only looks up what the gateway has at hand, and starts no process.
    pub is_reading: bool,
}

/// Does the work of jobs, many at a time.
#[async_trait]
pub trait Worker: Send + Sync {
    /// The engine's name, for `job_started`.
    fn engine(&self) -> &'static str;

    /// What the job needs to begin, as far as that can be told before.
    fn needs(&self, owner: &Principal, job: &Job, task: &agent::Task) -> Needs;

    /// Does the work, telling the writer what happens. Ends when it is cancelled and at the deadline, and leaves nothing
    /// running. The outcome is written by the caller, once.
    ///
    /// # Errors
    /// What made the task fail, with its reason.
    async fn work(&self, assignment: Assignment<'_>, writer: &mut Writer) -> Result<Done>;
}

/// The agent, its mind and its tools.
pub struct AgentWorker {
    /// The tools.
    pub toolbox: Toolbox,
    /// The model and its tools.
    pub mind: Arc<Mind>,
}

#[async_trait]
impl Worker for AgentWorker {
    fn engine(&self) -> &'static str {
        self.toolbox.engine().kind.name()
    }

    fn needs(&self, owner: &Principal, job: &Job, task: &agent::Task) -> Needs {
        let agent::Task::Call(call, _) = task else { return Needs::default() };
        let conversation_id = job.options.as_ref().map_or("", |options| &options.conversation_id);
        let conversation_id = if conversation_id.is_empty() { DEFAULT_CONVERSATION } else { conversation_id };
        Needs {
            agent: self.toolbox.agent_needed(owner, conversation_id, call),
            is_reading: call.only_reads(),
        }
    }

    async fn work(&self, assignment: Assignment<'_>, writer: &mut Writer) -> Result<Done> {
        let Assignment { job, owner, task, inputs, cancel, deadline } = assignment;
        let options = job.options.clone().unwrap_or_default();
        let named = Some(options.conversation_id).filter(|id| !id.is_empty());
        let agent = Agent {
            toolbox: &self.toolbox,
            mind: &self.mind,
            caller: owner,
            job_id: job.job_id.clone(),
            named_conversation: named.clone(),
            conversation_id: named.unwrap_or_else(|| DEFAULT_CONVERSATION.to_owned()),
            max_steps: options.max_steps,
            max_total_tokens: options.max_total_tokens,
            max_cost: crate::llm::dollars(&options.max_cost),
            inputs,
            cancel,
            deadline,
        };
        agent.run(task, writer).await
    }
}
