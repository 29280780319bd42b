//! A real engine's command line, played by the mean one: its outcome, its serialised runs, its root.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Gateway, Options, eventually};

#[tokio::test]
async fn it_runs_in_a_root_of_its_own_with_safe_flags() {
    let gateway = Gateway::mean(Options::default());
    let answer =
        gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": "cwd"})).await.json();
    // A root of its own, which is gone with it.
    let root = std::path::PathBuf::from(answer["result"].as_str().unwrap());
    assert!(
        root.starts_with(gateway.path("conductor-data/runs").canonicalize().unwrap()),
        "{}",
        root.display()
    );
    eventually(Duration::from_secs(5), "the run's root is gone", async || !root.exists()).await;
    // A value that looks like a flag stays a value.
    let answer = gateway
        .post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": "--clear everything"}))
        .await;
    assert_eq!(answer.json()["result"], "--clear everything");
    let body = json!({"tool": "execute_agent_stateless", "arguments": {"agent_id": "Mean_Agent", "input_text": "ok", "output_format": "json"}});
    let answer = gateway.post("/execute", &body).await.json();
    assert_eq!(answer["structured"]["document"]["status"], "success");
    let valid = gateway.post("/execute", &json!({"tool": "validate_conductor_system"})).await.json();
    assert_eq!((&valid["structured"]["is_valid"], &valid["structured"]["agents"]), (&json!(true), &json!(1)));
}

#[tokio::test]
async fn runs_of_one_agent_wait_for_each_other_and_say_so() {
    let gateway = Gateway::mean(Options::default());
    let go_on = gateway.path("go-on");
    let first = gateway.submit_mean(&format!("two-parts {}", go_on.display())).await;
    gateway.sse(&first, 0).await.until("on_tool_output").await;
    let second = gateway.submit_mean("ok").await;
    let waiting = gateway.sse(&second, 0).await.until("status_update").await;
    assert_eq!(waiting["data"]["reason"], "WAITING_FOR_AGENT");
    // Another agent does not wait.
    let started = Instant::now();
    let other = gateway.post("/execute", &json!({"agent_id": "Other_Agent", "input_text": "ok"})).await;
    assert_eq!(other.status, 200);
    assert!(started.elapsed() < Duration::from_secs(5));
    // It holds no permit meanwhile.
    assert_eq!(gateway.job(&second).await["state"], "QUEUED");
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(gateway.events(&second).await.last().unwrap()["data"]["state"], "SUCCEEDED");
}

/// A call that a planner thought of waits while its job runs already. The job's limit does not count that, and the wait has an end.
#[tokio::test]
async fn a_limit_counts_work_and_not_the_wait_for_an_agent() {
    let gateway = Gateway::mean(Options::default());
    let [first_goes_on, second_goes_on] = ["first", "second"].map(|name| gateway.path(name));
    let first = gateway.submit_mean(&format!("two-parts {}", first_goes_on.display())).await;
    gateway.sse(&first, 0).await.until("on_tool_output").await;
    let ask = async |input: &str, limit: u32| {
        let command = format!("ask Mean_Agent: {input}");
        gateway.submit(&json!({"command": command, "timeout_seconds": limit})).await
    };
    let vain = ask("ok", 1).await;
    let second = ask(&format!("two-parts {}", second_goes_on.display()), 6).await;
    let ended = gateway.events(&vain).await;
    let error = ended.iter().find(|event| event["event"] == "error").unwrap();
    assert_eq!(error["data"]["reason"], "TIMED_OUT");
    assert!(error["data"]["message"].as_str().unwrap().contains("another run of Mean_Agent"), "{error}");
    let mut reader = gateway.sse(&second, 0).await;
    assert_eq!(reader.until("status_update").await["data"]["reason"], "WAITING_FOR_AGENT");
    // Longer than the limit in all, and less in work and in waiting. Time is what is measured, so that it has to pass.
    tokio::time::sleep(Duration::from_secs(4)).await;
    std::fs::write(&first_goes_on, "").unwrap();
    reader.until("on_tool_output").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    std::fs::write(&second_goes_on, "").unwrap();
    assert_eq!(gateway.events(&second).await.last().unwrap()["data"]["state"], "SUCCEEDED");
}

/// Waiting holds no permit: not a crowd for one agent, not a person who is asked; and looking something up needs none.
#[tokio::test]
async fn who_waits_keeps_nobody_from_running() {
    let gateway = Gateway::mean(Options::default().set("jobs.max_running", 2));
    let go_on = gateway.path("go-on");
    let first = gateway.submit_mean(&format!("two-parts {}", go_on.display())).await;
    gateway.sse(&first, 0).await.until("on_tool_output").await;
    let mut crowd = Vec::new();
    for _ in 0..16 {
        crowd.push(gateway.submit_mean("ok").await);
    }
    let session = json!({
        "tool": "start_interactive_session", "conversation_id": "talk", "arguments": {"agent_id": "Mean_Agent"},
    });
    let session = gateway.submit(&session).await;
    gateway.sse(&session, 0).await.until("input_required").await;
    let other = json!({"agent_id": "Other_Agent", "input_text": "ok"});
    assert_eq!(gateway.post("/execute", &other).await.status, 200);
    let hangs = gateway.submit(&json!({"agent_id": "Other_Agent", "input_text": "hang"})).await;
    gateway.sse(&hangs, 0).await.until("on_tool_output").await;
    let read = gateway
        .post("/execute", &json!({"tool": "get_agent_info", "arguments": {"agent_id": "Mean_Agent"}}))
        .await;
    assert_eq!(read.status, 200, "{}", read.text());
    gateway.post(&format!("/api/v1/jobs/{session}/cancel"), &json!({"wait_seconds": 10})).await;
    std::fs::write(&go_on, "").unwrap();
    for job_id in crowd {
        assert_eq!(gateway.events(&job_id).await.last().unwrap()["data"]["state"], "SUCCEEDED");
    }
}

#[tokio::test]
async fn conversations_have_roots_of_their_own() {
    let gateway = Gateway::mean(Options::default());
    let talk = async |conversation: &str, word: &str| {
        let body = json!({
            "tool": "execute_agent_contextual", "conversation_id": conversation,
            "arguments": {"agent_id": "Mean_Agent", "input_text": format!("remember {word}")},
        });
        gateway.post("/execute", &body).await.json()["result"].as_str().unwrap().to_owned()
    };
    assert_eq!(talk("a", "apple").await, "");
    assert_eq!(talk("b", "pear").await, "");
    assert_eq!(talk("a", "more").await.trim(), "apple");
    assert_eq!(talk("b", "more").await.trim(), "pear");
    let body = json!({"tool": "clear_agent_history", "conversation_id": "a", "arguments": {"agent_id": "Mean_Agent"}});
    assert_eq!(gateway.post("/execute", &body).await.json()["structured"]["removed"], 2);
    assert_eq!(talk("a", "again").await, "");
}

/// With a project's path only: its script, run by the interpreter of its virtual environment, in its directory.
#[tokio::test]
async fn a_project_path_is_enough() {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let root = directory.path().join("project");
    let agent = root.join(".conductor_workspace/agents/Mean_Agent");
    std::fs::create_dir_all(&agent).unwrap();
    std::fs::create_dir_all(root.join(".venv/bin")).unwrap();
    std::fs::write(agent.join("definition.yaml"), "name: Mean_Agent\nversion: \"1\"\n").unwrap();
    std::fs::write(root.join("config.yaml"), "storage: {type: filesystem, path: .conductor_workspace}\n")
        .unwrap();
    // The stand-in interpreter takes the script's path first, as Python does, and says that it was the one.
    let mean = crate::support::mean_engine();
    let interpreter = format!(
        "#!/bin/sh\n[ \"$1\" = \"{}/conductor\" ] || exit 9\nshift\nexec {} \"$@\"\n",
        root.display(),
        mean.display()
    );
    for (path, text) in [("conductor", "not run by itself\n"), (".venv/bin/python", &interpreter)] {
        std::fs::write(root.join(path), text).unwrap();
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let gateway =
        Gateway::start_in(directory, Options::default().set("conductor.project_path", root.display()));
    let run = async |input: &str| {
        let answer = gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": input})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["result"].as_str().unwrap().to_owned()
    };
    assert!(run("cwd").await.contains("/conductor-data/runs/"));
    assert!(run("environment").await.contains("VIRTUAL_ENV"));
    assert_eq!(gateway.get("/health").await.json()["engine"], "conductor");
}
