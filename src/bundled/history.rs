//! An agent's memory: session.json and history.log, under one lock per agent.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    engine::workspace::Workspace,
    files::{ReplaceDurability, replace},
};

const LOG: &str = "history.log";
/// The maximum number of bytes that are read; a log is pruned far below this.
const MAX_READ_BYTES: u64 = 64 * 1024 * 1024;

/// Pruning keeps up to this many of the latest interactions, within half of the bytes below.
const MAX_INTERACTIONS: usize = 200;
const MAX_LOG_BYTES: usize = 8 * 1024 * 1024;

/// The memory of one agent, locked for one run: no other run of this agent is active meanwhile.
#[derive(Debug)]
pub(super) struct History<'a> {
    workspace: &'a Workspace,
    agent_id: &'a str,
    _lock: File,
}

/// One input and its answer.
pub(super) struct Interaction<'a> {
    pub(super) task_id: &'a str,
    pub(super) input: &'a str,
    pub(super) answer: &'a str,
}

impl<'a> History<'a> {
    /// Locks an agent's memory. Waits for other runs of the agent to end.
    pub(super) fn lock(workspace: &'a Workspace, agent_id: &'a str) -> io::Result<Self> {
        Ok(Self { workspace, agent_id, _lock: workspace.lock(agent_id)? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workspace.agent_directory(self.agent_id).join(name)
    }

    fn log(&self) -> io::Result<String> {
        self.workspace.agent_root(self.agent_id)?.read_text(Path::new(LOG), MAX_READ_BYTES)
    }

    pub(super) fn len(&self) -> usize {
        self.workspace.history_len(self.agent_id)
    }

    /// Returns the latest interactions, the oldest of them first: input and answer.
    pub(super) fn latest(&self, max: usize, max_bytes: usize) -> Vec<(String, String)> {
        let log = self.log().unwrap_or_default();
        let mut bytes = 0;
        let mut latest: Vec<(String, String)> = log
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|entry| {
                Some((entry["user_input"].as_str()?.to_owned(), entry["ai_response"].as_str()?.to_owned()))
            })
            .take(max)
            .take_while(|(input, answer)| {
                bytes += input.len() + answer.len();
                bytes <= max_bytes
            })
            .collect();
        latest.reverse();
        latest
    }

    /// Removes the oldest interactions when there are too many or they are too large.
    fn prune(&self) -> io::Result<()> {
        let log = self.log()?;
        let lines: Vec<&str> = log.lines().collect();
        if lines.len() <= 2 * MAX_INTERACTIONS && log.len() <= MAX_LOG_BYTES {
            return Ok(());
        }
        let mut bytes = 0;
        let kept = lines.iter().rev().take(MAX_INTERACTIONS).take_while(|line| {
            bytes += line.len();
            bytes <= MAX_LOG_BYTES / 2
        });
        let mut kept: Vec<&str> = kept.copied().collect();
        kept.reverse();
        replace(&self.path(LOG), (kept.join("\n") + "\n").as_bytes(), ReplaceDurability::Process)
    }

    pub(super) fn clear(&self) -> io::Result<usize> {
        self.workspace.clear_history(self.agent_id)
    }

    /// Adds an interaction. Returns the new session and the history's entry.
    pub(super) fn remember(&self, said: &Interaction<'_>) -> io::Result<(Value, Value)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let summary: String = said.answer.chars().take(200).collect();
        let entry = json!({
            "_id": said.task_id, "agent_id": self.agent_id, "task_id": said.task_id, "status": "completed",
            "summary": summary, "git_commit_hash": "", "timestamp": now, "user_input": said.input,
            "ai_response": said.answer, "output_length": said.answer.len(),
        });
        let mut log = self.workspace.agent_root(self.agent_id)?.append(Path::new(LOG))?;
        log.write_all(format!("{entry}\n").as_bytes())?;
        self.prune()?;
        let session = json!({
            "current_task_id": Value::Null, "last_task_id": said.task_id, "last_interaction": now,
            "conversation_count": self.len(),
            "state": {"last_task_id": said.task_id, "last_interaction": now, "conversation_count": self.len()},
        });
        replace(&self.path("session.json"), session.to_string().as_bytes(), ReplaceDurability::Process)?;
        Ok((session, entry))
    }
}
