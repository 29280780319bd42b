//! A real engine's command line, played by the mean one: its outcome, its serialised runs, its root.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Gateway, Options};

#[tokio::test]
async fn it_runs_in_its_root_with_safe_flags() {
    let gateway = Gateway::mean(Options::default());
    let answer =
        gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": "cwd"})).await.json();
    let root = gateway.path("engine").canonicalize().unwrap();
    assert_eq!(answer["result"].as_str().unwrap(), root.display().to_string());
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
    assert_eq!(gateway.job(&second).await["state"], "RUNNING");
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(gateway.events(&second).await.last().unwrap()["data"]["state"], "SUCCEEDED");
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
