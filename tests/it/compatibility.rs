//! Clients of the earlier gateway: their paths and bodies are served, what they look for is there, and nobody else's bytes change.

use serde_json::{Value, json};

use crate::support::{
    Gateway, ModelServer, Options,
    model::openai::{answer_turn, call_turn},
    send,
};

#[tokio::test(flavor = "multi_thread")]
async fn their_paths_and_bodies_are_served() {
    let gateway = Gateway::start();
    let entries = json!([{"uid": "1", "type": "text", "content": "select 1"}]);
    for (path, body) in [
        (
            "/execute",
            json!({"agent_id": "SqlExpert_Agent", "textEntries": entries, "instance_id": "i1", "cwd": "/home/x"}),
        ),
        ("/execute-agent", json!({"agent_id": "SqlExpert_Agent", "input": "select 1"})),
        (
            "/conductor/execute",
            json!({"agent_id": "SqlExpert_Agent", "textEntries": entries, "conversation_id": "c1"}),
        ),
        ("/api/agents/SqlExpert_Agent/execute", json!({"textEntries": entries})),
        ("/api/agents/SqlExpert_Agent/execute", json!({"input_text": "select 1"})),
    ] {
        let answer = gateway.post(path, &body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        assert!(
            answer.json()["result"].as_str().unwrap().contains("It was told: select 1"),
            "{}",
            answer.text()
        );
        let job = gateway.job(answer.json()["job_id"].as_str().unwrap()).await;
        assert_eq!(job["door"], "COMPATIBILITY");
    }
    // That gateway took `input`, whatever `command` said.
    let both = gateway.post("/execute", &json!({"command": "nonsense", "input": "list the agents"})).await;
    assert_eq!(both.status, 200, "{}", both.text());
    let agents = gateway.get("/api/agents").await.json();
    assert_eq!(agents["agents"].as_array().unwrap().len(), 8);
    assert!(agents["agents"].as_array().unwrap().iter().all(|agent| agent["id"] == agent["agent_id"]));
    let unknown = gateway.post("/api/agents/Nope_Agent/execute", &json!({"input": "x"})).await;
    assert_eq!((unknown.status, &unknown.json()["reason"]), (422, &json!("AGENT_NOT_FOUND")));
    let two = json!({"agent_id": "DocWriter_Agent", "input": "x"});
    assert_eq!(gateway.post("/api/agents/SqlExpert_Agent/execute", &two).await.status, 400);
    let api = gateway.get("/health").await.json()["endpoints"]["api"].as_str().unwrap().to_owned();
    assert!(api.ends_with("/api/v1"), "{api}");
    let mcp = gateway.mcp.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap();
    let older = send(mcp, "GET", "/sse", &[("accept", "text/event-stream")], None).await;
    assert_eq!((older.status, older.headers["location"].to_str().unwrap()), (410, "/mcp"));
}

/// The events of two jobs that do the same: one through a compatible body, one not.
#[tokio::test(flavor = "multi_thread")]
async fn what_they_look_for_is_there_and_only_for_them() {
    let call = call_turn(&[("a", "get_system_config", json!({}))]);
    let broken = call_turn(&[("b", "get_agent_info", json!({"agent_id": "Nope_Agent"}))]);
    let turns = [call, broken, answer_turn(&["do", "ne"])];
    let model = ModelServer::start(turns.iter().chain(&turns).cloned().collect()).await;
    let gateway = Gateway::thinking(&model, Options::default());
    let usual = gateway.submit(&json!({"command": "do it"})).await;
    let usual = gateway.events(&usual).await;
    let theirs = gateway.submit(&json!({"textEntries": [{"content": "do it"}]})).await;
    let theirs = gateway.events(&theirs).await;
    let of = |events: &[Value], name: &str, member: &str| -> Vec<Value> {
        let named = events.iter().filter(|event| event["event"] == name);
        named.map(|event| event["data"][member].clone()).collect()
    };
    for (name, member, own) in [("on_llm_new_token", "chunk", "text"), ("on_tool_end", "output", "result")] {
        assert!(of(&usual, name, member).iter().all(Value::is_null), "{name} has no {member} for others");
        assert!(!of(&theirs, name, member).iter().any(Value::is_null), "{name} has a {member} for them");
        assert_eq!(of(&theirs, name, member)[0], of(&theirs, name, own)[0]);
    }
    let failed = &of(&theirs, "on_tool_end", "output")[1];
    assert!(failed.as_str().unwrap().contains("Nope_Agent"), "{failed}");
    // Everything else is the same: the same events with the same members, but for the ones above.
    let members = |events: &[Value]| -> Vec<(Value, Vec<String>)> {
        let keys = |event: &Value| -> Vec<String> {
            let data = event["data"].as_object().unwrap();
            data.keys().filter(|key| !["chunk", "output"].contains(&key.as_str())).cloned().collect()
        };
        events.iter().map(|event| (event["event"].clone(), keys(event))).collect()
    };
    assert_eq!(members(&usual), members(&theirs));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_switched_off() {
    let gateway = Gateway::start_with(Options::default().set("server.compatibility", false));
    assert_eq!(gateway.get("/api/agents").await.status, 404);
    let both = gateway.post("/execute", &json!({"command": "list the agents", "input": "x"})).await;
    assert_eq!(both.status, 400);
    let mixed = json!({"agent_id": "SqlExpert_Agent", "textEntries": [{"content": "x"}]});
    assert_eq!(gateway.post("/execute", &mixed).await.status, 400);
}
