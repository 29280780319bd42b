//! The agent with a scripted model: a command becomes tool calls and an answer, every step among the events.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{
    Gateway, ModelServer, Options, alive_with, eventually,
    model::{Act, openai, stream_head},
};

pub fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

/// The data of the events of one name.
pub fn of<'e>(events: &'e [Value], name: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == name).map(|event| &event["data"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_becomes_tool_calls_and_a_streamed_answer() {
    let model = ModelServer::start(vec![
        openai::call_turn(&[("call_a", "list_available_agents", json!({}))]),
        openai::answer_turn(&["There are ", "eight", " agents."]),
    ])
    .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let job_id = gateway.submit(&json!({"command": "how many agents do we have, dear?"})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(
        names(&events),
        [
            "job_started", "on_chain_start", "on_llm_start", "on_llm_end", "on_tool_start", "on_tool_end",
            "on_llm_start", "on_llm_new_token", "on_llm_new_token", "on_llm_new_token", "on_llm_end",
            "on_chain_end", "result", "end_of_stream"
        ]
    );
    assert_eq!(
        of(&events, "on_chain_start")[0],
        &json!({"planner": "model", "provider": "openai", "model": "scripted"})
    );
    assert_eq!(of(&events, "result")[0]["result"], "There are eight agents.");
    assert_eq!(of(&events, "on_chain_end")[0]["usage"]["total_tokens"], 42);
    assert_eq!(of(&events, "on_chain_end")[0]["usage"]["tool_calls"], 1);
    assert_eq!(gateway.job(&job_id).await["usage"]["input_tokens"], 30);
    // The second request carries what the tool answered.
    let asked = model.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].path, "/v1/chat/completions");
    let tools: Vec<_> =
        asked[0].body["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
    assert!(tools.len() >= 14 && tools.contains(&&json!("ask_user")), "{tools:?}");
    let messages = asked[1].body["messages"].as_array().unwrap();
    let last = messages.last().unwrap();
    assert_eq!((&last["role"], &last["tool_call_id"]), (&json!("tool"), &json!("call_a")));
    assert!(last["content"].to_string().contains("CodeReviewer_Agent"), "{last}");
    let health = gateway.get("/health").await.json();
    assert_eq!((&health["mode"], &health["agent"]["model"]), (&json!("model"), &json!("scripted")));
}

/// Tokens reach readers as they come: the server is held between two of them.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_not_kept_back() {
    let hold = Arc::new(Semaphore::new(0));
    let model = ModelServer::start(vec![vec![
        stream_head(),
        Act::Send(openai::text("first").into()),
        Act::Hold(hold.clone()),
        Act::Send(openai::text(" second").into()),
        Act::Hold(hold.clone()),
        Act::Send((openai::finish("stop") + openai::DONE).into()),
    ]])
    .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let job_id = gateway.submit(&json!({"command": "say two words"})).await;
    let mut sse = gateway.sse(&job_id, 0).await;
    let request = conductor_gateway::pb::WatchJobRequest { job_id: job_id.clone(), after_sequence: 0 };
    let mut grpc = gateway.grpc().await.watch_job(request).await.unwrap().into_inner();
    for word in ["first", " second"] {
        let token = sse.until("on_llm_new_token").await;
        assert_eq!(token["data"]["text"], word);
        loop {
            use prost::Message;
            let event = grpc.message().await.unwrap().unwrap().event.unwrap();
            let event = conductor_gateway::pb::JobEvent::decode(event).unwrap();
            if let Some(conductor_gateway::pb::job_event::Payload::OnLlmNewToken(token)) = event.payload {
                assert_eq!(token.text, word);
                break;
            }
        }
        hold.add_permits(1);
    }
    let rest = sse.rest().await;
    assert_eq!(rest.last().unwrap()["event"], "end_of_stream");
}

/// A cancellation is seen by the model's server and by the tool, and the events end in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_reaches_the_model_and_the_tool() {
    let model = ModelServer::start(vec![vec![
        stream_head(),
        Act::Send(openai::text("thinking").into()),
        Act::Silence,
    ]])
    .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let job_id = gateway.submit(&json!({"command": "think for ever"})).await;
    gateway.sse(&job_id, 0).await.until("on_llm_new_token").await;
    gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
    let events = gateway.events(&job_id).await;
    let tail = names(&events)[3..].to_vec();
    assert_eq!(tail, ["on_llm_new_token", "on_llm_end", "on_chain_end", "error", "end_of_stream"]);
    assert_eq!(of(&events, "error")[0]["reason"], "CANCELLED");
    assert_eq!(of(&events, "on_llm_end")[0]["finish_reason"], "cancelled");
    eventually(Duration::from_secs(5), "the server sees the client leave", async || model.left() == 1).await;

    let model = ModelServer::start(vec![openai::call_turn(&[(
        "call_a",
        "execute_agent_stateless",
        json!({"agent_id": "Mean_Agent", "input_text": "stubborn-grandchild"}),
    )])])
    .await;
    let options = Options::default()
        .set("agent.provider", "openai")
        .set("agent.model", "scripted")
        .set("agent.base_url", model.url("/v1"))
        .set("conductor.kill_grace_seconds", 1);
    let gateway = Gateway::mean(options);
    let job_id = gateway.submit(&json!({"command": "run it"})).await;
    let mut reader = gateway.sse(&job_id, 0).await;
    while !reader.until("on_tool_output").await["data"]["text"].as_str().unwrap().contains("spawned") {}
    gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(
        names(&events).iter().rev().take(4).rev().copied().collect::<Vec<_>>(),
        ["on_tool_end", "on_chain_end", "error", "end_of_stream"]
    );
    assert!(alive_with(&job_id).is_empty());
}
