//! Orphans that are hard to see: one that looks like a zombie and lives, one that is another process every moment.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use serde_json::json;

use crate::support::{Gateway, Options, alive_in, eventually, write_workspace};

/// A gateway with the engine of `tests/engines/undead.c`.
fn undead() -> Gateway {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let root = directory.path().join("engine");
    write_workspace(&root);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/undead.c");
    let program = directory.path().join("undead");
    let compiled = Command::new("cc").arg("-pthread").arg("-o").arg(&program).arg(source).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let options = Options::default()
        .set("conductor.project_path", root.display())
        .set("conductor.command", format!("[{}]", program.display()))
        .set("conductor.kill_grace_seconds", 1);
    Gateway::start_in(directory, options)
}

fn body(input: &str) -> serde_json::Value {
    json!({
        "tool": "execute_agent_contextual", "conversation_id": input,
        "arguments": {"agent_id": "Mean_Agent", "input_text": input},
    })
}

/// Processes of the engine, whatever they look like.
fn engines(gateway: &Gateway) -> Vec<i32> {
    let own = [gateway.guardians(), vec![gateway.pid()]].concat();
    let named = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/task/{pid}/comm")).unwrap_or_default();
        line.starts_with(b"undead")
    };
    let everything = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found: Vec<i32> = everything
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| named(pid) && !own.contains(pid))
        .collect();
    found.extend(alive_in(gateway.directory.path()).into_iter().filter(|pid| !own.contains(pid)));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_that_hide_are_ended_and_hold_up_nobody() {
    let gateway = undead();
    // Looks like a zombie, and lives: its run is over only when it is gone.
    let answer = gateway.post("/execute", &body("half-dead")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(engines(&gateway).is_empty(), "the half-dead one is gone");
    // Another process every moment, of no known origin: it lives as long as what may have started it, and no run that
    // began later keeps it alive.
    let early = gateway.submit(&body("wait")).await;
    gateway.sse(&early, 0).await.until("on_tool_output").await;
    let chain = gateway.post("/execute", &body("chain")).await;
    assert_eq!(chain.status, 200, "{}", chain.text());
    let chained = || {
        let found = engines(&gateway).into_iter();
        found
            .filter(|pid| {
                std::fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.ends_with(b"--as=chain\0"))
            })
            .count()
    };
    let late = gateway
        .submit(&json!({
            "tool": "execute_agent_contextual", "conversation_id": "late",
            "arguments": {"agent_id": "Mean_Agent", "input_text": "wait"},
        }))
        .await;
    gateway.sse(&late, 0).await.until("on_tool_output").await;
    gateway.post(&format!("/api/v1/jobs/{early}/cancel"), &json!({"wait_seconds": 10})).await;
    eventually(Duration::from_secs(5), "the chain is broken", async || chained() == 0).await;
    assert_eq!(gateway.job(&late).await["state"], "RUNNING", "the later run goes on");
    gateway.post(&format!("/api/v1/jobs/{late}/cancel"), &json!({"wait_seconds": 10})).await;
    assert!(engines(&gateway).is_empty());
}
