//! `--agent X --input Y`: one run, stateless or contextual.

use serde_json::{Value, json};

use super::{
    answer,
    arguments::RunArguments,
    catalogue::find,
    history::{History, Interaction},
    output::{Failure, Printer},
};
use crate::engine::workspace::Workspace;

#[expect(clippy::disallowed_methods, reason = "a program of its own with one thread; the pause is the point")]
pub(super) fn run(workspace: &Workspace, run: &RunArguments, printer: &Printer) -> Result<(), Failure> {
    let definition = find(workspace, &run.agent_id)?;
    let history = if run.is_contextual {
        Some(History::lock(workspace, &run.agent_id).map_err(Failure::failed)?)
    } else {
        None
    };
    let mut earlier = history.as_ref().map_or(0, History::len);
    if let Some(history) = history.as_ref().filter(|_| run.clears_history) {
        history.clear().map_err(Failure::failed)?;
        earlier = 0;
    }
    let answer = answer::simulated(&run.agent_id, &definition, &run.input, earlier);
    if !printer.is_json() {
        let pace = answer::pace();
        for word in answer::words(&answer) {
            printer.text(word)?;
            std::thread::sleep(pace);
        }
    }
    let task_id = format!("{:016x}", rand_id());
    let (mut session, mut entry) = (Value::Null, Value::Null);
    if let Some(history) = &history {
        let said = Interaction { task_id: &task_id, input: &run.input, answer: &answer };
        (session, entry) = history.remember(&said).map_err(Failure::failed)?;
    }
    if printer.is_json() {
        let document = json!({
            "status": "success",
            "output": answer,
            "metadata": {
                "agent_id": run.agent_id, "task_id": task_id, "is_simulated": true,
                "project": run.project, "environment": run.environment,
            },
            "updated_session": session,
            "updated_knowledge": Value::Null,
            "history_entry": entry,
        });
        printer.text(&format!("{document}\n"))?;
    }
    Ok(())
}

pub(super) fn clear(workspace: &Workspace, agent_id: &str, printer: &Printer) -> Result<(), Failure> {
    find(workspace, agent_id)?;
    let history = History::lock(workspace, agent_id).map_err(Failure::failed)?;
    let removed = history.clear().map_err(Failure::failed)?;
    printer.either(
        &json!({"agent_id": agent_id, "removed": removed}),
        &format!("{removed} interactions removed\n"),
    )
}

fn rand_id() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers the time still tells two runs apart.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => crate::pb::Timestamp::now().unix_millis(),
    }
}
