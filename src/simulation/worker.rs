//! Simulated work that takes time, produces much or little output, fails, panics, hangs, and ends late when it is cancelled.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;

use super::world::World;
use crate::{
    agent::{self, Writer},
    engine::{OutputChunk, Stream},
    error::{Error, Reason, Result},
    job::worker::{Assignment, JobRequirements, Worker},
    pb::Job,
    principal::Principal,
    tool::ToolResult,
};

/// The payload of the panic of work that panics.
pub(super) const PANIC: &str = "work that panics";

pub(super) struct SimulatedWorker {
    world: Arc<World>,
    gateway: u32,
    max_running: u32,
}

/// Marks work as running until it is dropped, however the work ends.
struct WorkGuard {
    world: Arc<World>,
    gateway: u32,
    by: String,
    agent: Option<String>,
}

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.world.stop(self.gateway, &self.by, self.agent.as_deref());
    }
}

impl SimulatedWorker {
    pub(super) fn new(world: Arc<World>, gateway: u32, max_running: u32) -> Self {
        Self { world, gateway, max_running }
    }

    async fn rest(&self, assignment: &Assignment<'_>, longest: u64) -> Result<()> {
        let rest = Duration::from_millis(self.world.below(longest));
        tokio::select! {
            biased;
            () = assignment.cancel.cancelled() => {
                // A process tree takes a moment to end.
                tokio::time::sleep(Duration::from_millis(self.world.below(900))).await;
                Err(Error::cancelled())
            }
            () = assignment.limit.passed() => Err(Error::new(Reason::TimedOut, "too late")),
            () = tokio::time::sleep(rest) => Ok(()),
        }
    }
}

#[async_trait]
impl Worker for SimulatedWorker {
    fn engine(&self) -> &'static str {
        "simulated"
    }

    fn needs(&self, owner: &Principal, job: &Job, _: &agent::Task) -> JobRequirements {
        // Some jobs of one caller need the same agent and must run one after another.
        let number = job.create_time.map_or(0, |time| time.nanos / 1_000_000);
        JobRequirements { agent: (number % 3 == 0).then(|| owner.name().to_owned()), is_reading: false }
    }

    async fn work(&self, assignment: Assignment<'_>, writer: &mut Writer) -> Result<ToolResult> {
        self.world.note(format_args!("{} begins", assignment.job.job_id));
        let (world, by) = (self.world.clone(), assignment.owner.name().to_owned());
        let agent = self.needs(&assignment.owner, assignment.job, assignment.task).agent;
        world.begin(self.gateway, &assignment.job.job_id, &by, agent.as_deref(), self.max_running);
        let _working = WorkGuard { world, gateway: self.gateway, by, agent };
        let kind = self.world.below(100);
        let call = writer.tool_start("simulated", "{}", 1).await?;
        for number in 0..self.world.below(12) {
            self.rest(&assignment, 600).await?;
            let size = usize::try_from(self.world.below(if kind % 10 == 3 { 90_000 } else { 200 })).unwrap();
            let text = format!("{number} {}", "x".repeat(size));
            let chunk = OutputChunk {
                stream: Stream::Stdout,
                text,
                byte_offset: 0,
                invalid_bytes: 0,
                is_truncated: false,
            };
            writer.tool_output(&call, chunk).await?;
        }
        match kind {
            0..3 => std::panic::panic_any(PANIC),
            3..15 => loop {
                self.rest(&assignment, 60_000).await?;
            },
            15..30 => Err(Error::new(Reason::ToolFailed, "simulated")),
            _ => {
                Ok(ToolResult { text: "done".to_owned(), value: json!({"kind": kind}), is_truncated: false })
            }
        }
    }
}
