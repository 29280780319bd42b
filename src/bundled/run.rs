//! `--agent X --input Y`: one run, stateless or contextual; with `--interactive` a dialogue.

use std::{io::BufRead, time::Duration};

use serde_json::{Value, json};

use super::{
    answer::{AgentPrompt, Answerer},
    arguments::RunArguments,
    catalogue::find,
    history::{History, Interaction},
    output::{CommandFailure, Printer},
};
use crate::engine::workspace::{Definition, Workspace};

/// How much of a conversation is passed to a model.
const MAX_EARLIER: usize = 20;
const MAX_EARLIER_BYTES: usize = 64 * 1024;
/// Printed when the next input is expected.
const PROMPT: &str = "you> ";

pub(super) fn run(
    workspace: &Workspace,
    run: &RunArguments,
    printer: &Printer,
) -> Result<(), CommandFailure> {
    let definition = find(workspace, &run.agent_id)?;
    let answerer = Answerer::choose(run.is_simulated)?;
    if run.clears_history {
        let history = History::lock(workspace, &run.agent_id).map_err(CommandFailure::failed)?;
        history.clear().map_err(CommandFailure::failed)?;
    }
    if let Some(input) = &run.input {
        turn(workspace, run, &definition, &answerer, input, printer)?;
    }
    if run.is_interactive {
        talk(workspace, run, &definition, &answerer, printer)?;
    }
    Ok(())
}

/// Reads inputs until standard input ends, or until one asks to stop.
fn talk(
    workspace: &Workspace,
    run: &RunArguments,
    definition: &Definition,
    answerer: &Answerer,
    printer: &Printer,
) -> Result<(), CommandFailure> {
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if !printer.is_json() {
            printer.text(PROMPT)?;
        }
        let Some(line) = lines.next() else { return Ok(()) };
        let line = line.map_err(CommandFailure::failed)?;
        match line.trim() {
            "" => {}
            "exit" | "quit" => return Ok(()),
            input => turn(workspace, run, definition, answerer, input, printer)?,
        }
    }
}

/// Handles one input: prints the answer and, in a contextual run, remembers both.
fn turn(
    workspace: &Workspace,
    run: &RunArguments,
    definition: &Definition,
    answerer: &Answerer,
    input: &str,
    printer: &Printer,
) -> Result<(), CommandFailure> {
    // Held during this turn, so that another run of this conversation waits and then sees this turn.
    let history = match run.is_contextual {
        true => Some(History::lock(workspace, &run.agent_id).map_err(CommandFailure::failed)?),
        false => None,
    };
    let earlier =
        history.as_ref().map(|history| history.latest(MAX_EARLIER, MAX_EARLIER_BYTES)).unwrap_or_default();
    let asked = AgentPrompt {
        agent_id: &run.agent_id,
        definition,
        input,
        earlier: &earlier,
        timeout: Duration::from_secs(run.timeout_seconds.max(1).into()),
    };
    let answer = answerer.answer(workspace, &asked, printer)?;
    let task_id = format!("{:016x}", random_id());
    let (mut session, mut entry) = (Value::Null, Value::Null);
    if let Some(history) = &history {
        let said = Interaction { task_id: &task_id, input, answer: &answer };
        (session, entry) = history.remember(&said).map_err(CommandFailure::failed)?;
    }
    if printer.is_json() {
        let document = json!({
            "status": "success",
            "output": answer,
            "metadata": {
                "agent_id": run.agent_id, "task_id": task_id, "is_simulated": answerer.is_simulated(),
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

pub(super) fn clear(workspace: &Workspace, agent_id: &str, printer: &Printer) -> Result<(), CommandFailure> {
    find(workspace, agent_id)?;
    let history = History::lock(workspace, agent_id).map_err(CommandFailure::failed)?;
    let removed = history.clear().map_err(CommandFailure::failed)?;
    printer.either(
        &json!({"agent_id": agent_id, "removed": removed}),
        &format!("{removed} interactions removed\n"),
    )
}

fn random_id() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers the time still distinguishes two runs.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => crate::pb::Timestamp::now().unix_millis(),
    }
}
