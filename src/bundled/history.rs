//! What an agent remembers: session.json and history.log, under a lock for each agent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::engine::workspace::Workspace;

/// The memory of one agent, held for one run: no other run of this agent goes on meanwhile.
#[derive(Debug)]
pub(super) struct History<'a> {
    workspace: &'a Workspace,
    agent_id: &'a str,
    _lock: File,
}

/// What was said once.
pub(super) struct Interaction<'a> {
    pub(super) task_id: &'a str,
    pub(super) input: &'a str,
    pub(super) answer: &'a str,
}

impl<'a> History<'a> {
    /// Waits for other runs of the agent to end.
    pub(super) fn lock(workspace: &'a Workspace, agent_id: &'a str) -> io::Result<Self> {
        let locks = workspace.root.join(".locks");
        fs::create_dir_all(&locks)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(locks.join(agent_id))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self { workspace, agent_id, _lock: lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workspace.agent_directory(self.agent_id).join(name)
    }

    pub(super) fn len(&self) -> usize {
        self.workspace.history_len(self.agent_id)
    }

    pub(super) fn clear(&self) -> io::Result<usize> {
        self.workspace.clear_history(self.agent_id)
    }

    /// Adds an interaction. Answers with the new session and the history's entry.
    pub(super) fn remember(&self, said: &Interaction<'_>) -> io::Result<(Value, Value)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let summary: String = said.answer.chars().take(200).collect();
        let entry = json!({
            "_id": said.task_id, "agent_id": self.agent_id, "task_id": said.task_id, "status": "completed",
            "summary": summary, "git_commit_hash": "", "timestamp": now, "user_input": said.input,
            "ai_response": said.answer, "output_length": said.answer.len(),
        });
        let mut log = OpenOptions::new().create(true).append(true).open(self.path("history.log"))?;
        log.write_all(format!("{entry}\n").as_bytes())?;
        let session = json!({
            "current_task_id": Value::Null, "last_task_id": said.task_id, "last_interaction": now,
            "conversation_count": self.len(),
            "state": {"last_task_id": said.task_id, "last_interaction": now, "conversation_count": self.len()},
        });
        let new = self.path("session.json.new");
        fs::write(&new, session.to_string())?;
        fs::rename(new, self.path("session.json"))?;
        Ok((session, entry))
    }
}
