//! What the contract says of a job, whoever reads it.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Gateway, alive_in, eventually, starts};

/// An agent's run. Each in a conversation of its own: one agent's runs wait for each other in one.
pub fn run(input: &str, conversation: &str) -> Value {
    json!({
        "tool": "execute_agent_contextual",
        "arguments": {"agent_id": "Mean_Agent", "input_text": input},
        "conversation_id": conversation,
    })
}

/// Numbers from 1 without a gap, one outcome, one end, which is the last.
pub fn check_events(job_id: &str, events: &[Value]) {
    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(event["sequence"], sequence, "{job_id}: no sequence repeats or jumps");
        assert_eq!(event["job_id"], job_id);
    }
    let named = |names: &[&str]| {
        events.iter().filter(|event| names.contains(&event["event"].as_str().unwrap())).count()
    };
    assert_eq!((named(&["end_of_stream"]), named(&["result", "error"])), (1, 1), "{job_id}: {events:?}");
    assert_eq!(events.last().unwrap()["event"], "end_of_stream", "{job_id}");
}

/// Every check of one ended job of which a client had seen `before`. Answers with the number of its events.
pub async fn check_job(gateway: &Gateway, job_id: &str, before: &[Value]) -> usize {
    let events = gateway.events(job_id).await;
    assert!(events.len() >= before.len(), "{job_id}: {} events seen, {} kept", before.len(), events.len());
    assert_eq!(events[..before.len()], *before, "{job_id}: what was seen is there");
    check_events(job_id, &events);
    let state = &events.last().unwrap()["data"]["state"];
    assert_eq!(gateway.job(job_id).await["state"], *state, "{job_id}");
    let was_started = events.iter().any(|event| event["event"] == "job_started");
    assert!(was_started || state != "INTERRUPTED", "{job_id}: one that waited is run, not interrupted");
    events.len()
}

/// The engine's own ledger: no job was started twice. Answers with the number of starts.
pub fn check_starts(directory: &Path) -> usize {
    let starts = starts(directory);
    let twice: Vec<_> = starts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "started more than once: {twice:?}");
    starts.len()
}

/// Nothing that the gateway's engines started lives.
pub async fn check_nothing_lives(gateway: &Gateway) {
    let directory = gateway.directory.path();
    eventually(std::time::Duration::from_secs(10), "no engine is left", async || {
        alive_in(directory).iter().all(|pid| *pid == gateway.pid() || gateway.guardians().contains(pid))
    })
    .await;
}
