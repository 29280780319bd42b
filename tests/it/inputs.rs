//! Questions of jobs: interactive sessions, the agent asking its user, confirmations; answered over every door, or by
//! nobody.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    agent::{names, of},
    support::{Gateway, ModelServer, Options, alive_with, eventually, model::openai},
};

fn session(agent: &str, input: Option<&str>) -> Value {
    let mut arguments = json!({ "agent_id": agent });
    if let Some(input) = input {
        arguments["initial_input"] = json!(input);
    }
    json!({"tool": "start_interactive_session", "arguments": arguments})
}

async fn answer(gateway: &Gateway, job_id: &str, input_id: &str, value: Value) -> crate::support::Answer {
    let body = json!({"input_id": input_id, "value": value});
    gateway.post(&format!("/api/v1/jobs/{job_id}/input"), &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_dialogue_over_every_door() {
    let gateway = Gateway::start();
    let job_id = gateway.submit(&session("SqlExpert_Agent", Some("hello there"))).await;
    let mut reader = gateway.sse(&job_id, 0).await;
    let asked = reader.until("input_required").await;
    assert_eq!((&asked["data"]["input_id"], &asked["data"]["prompt"]), (&json!("input_1"), &json!("you>")));
    assert!(asked["data"]["expire_time"].is_string() && asked["data"]["schema"]["type"].is_array());
    let job = gateway.job(&job_id).await;
    assert_eq!((&job["state"], &job["question"]["input_id"]), (&json!("INPUT_REQUIRED"), &json!("input_1")));

    // What does not fit leaves the question open.
    let refused = answer(&gateway, &job_id, "input_1", json!({"x": 1})).await;
    assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("value")), "{}", refused.text());
    let refused = answer(&gateway, &job_id, "input_9", json!("x")).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (409, &json!("NO_OPEN_QUESTION")));

    let answered = answer(&gateway, &job_id, "input_1", json!("second words")).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    reader.until("input_received").await;
    let asked = reader.until("input_required").await;
    assert_eq!(asked["data"]["input_id"], "input_2");

    let request = conductor_gateway::pb::SendInputRequest {
        job_id: job_id.clone(),
        input_id: "input_2".into(),
        value: Some(conductor_gateway::pb::Json { text: "\"third words\"".into() }),
    };
    gateway.grpc().await.send_input(request).await.unwrap();
    reader.until("input_required").await;
    let status = Command::new(env!("CARGO_BIN_EXE_conductor-gateway"))
        .args(["jobs", "answer", &job_id, "--none", "--server", &gateway.url()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "end_of_stream")[0]["state"], "SUCCEEDED");
    let output: String =
        of(&events, "on_tool_output").iter().map(|output| output["text"].as_str().unwrap()).collect();
    for words in ["hello there", "second words", "third words"] {
        assert!(output.contains(words), "{output}");
    }
    let structured = &of(&events, "result")[0]["structured"];
    assert_eq!((&structured["is_open"], &structured["inputs"]), (&json!(false), &json!(2)));
    assert_eq!(of(&events, "input_received")[0]["caller"], "local");
    assert!(alive_with(&job_id).is_empty());
}

/// A real engine's prompt has no line break and its process sleeps in a read; nobody answers, and nothing hangs.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_no_reason_to_hang() {
    let options = Options::default().set("conductor.session_input_timeout_seconds", 1);
    let gateway = Gateway::mean(options.clone());
    let job_id = gateway.submit(&session("Mean_Agent", None)).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "input_required")[0]["prompt"], "[1] você>");
    assert_eq!(
        of(&events, "input_received")[0],
        &json!({"input_id": "input_1", "caller": "", "is_default": true})
    );
    assert_eq!(of(&events, "end_of_stream")[0]["state"], "SUCCEEDED");
    drop(gateway);

    let gateway = Gateway::mean(options.set("conductor.session_default_input", "sair"));
    let job_id = gateway.submit(&session("Mean_Agent", None)).await;
    let events = gateway.events(&job_id).await;
    assert!(!of(&events, "result")[0]["result"].as_str().unwrap().contains("fim"), "the default was said");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_badly_without_leaving_anything() {
    let gateway = Gateway::mean(Options::default().set("conductor.kill_grace_seconds", 1));
    // Cancelled while it waits.
    let job_id = gateway.submit(&session("Mean_Agent", None)).await;
    gateway.sse(&job_id, 0).await.until("input_required").await;
    gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "end_of_stream")[0]["state"], "CANCELLED");
    assert!(gateway.job(&job_id).await["question"].is_null());
    assert!(alive_with(&job_id).is_empty());
    // Dies at an answer.
    let job_id = gateway.submit(&session("Mean_Agent", None)).await;
    gateway.sse(&job_id, 0).await.until("input_required").await;
    answer(&gateway, &job_id, "input_1", json!("die")).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "error")[0]["reason"], "ENGINE_FAILED");
    // Never reads, and is taken to ask after a while; the end of its time ends it.
    let mut body = session("Mean_Agent", Some("deaf"));
    body["timeout_seconds"] = json!(3);
    let job_id = gateway.submit(&body).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "error")[0]["reason"], "TIMED_OUT");
    assert!(alive_with(&job_id).is_empty());
}

/// A call that waits for its answer is told that there is a question; the job goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_is_told_of_the_question() {
    let gateway = Gateway::mean(Options::default());
    let answered = gateway.post("/execute", &session("Mean_Agent", None)).await;
    assert_eq!(answered.status, 409, "{}", answered.text());
    let problem = answered.json();
    assert_eq!(
        (&problem["reason"], &problem["question"]["input_id"]),
        (&json!("INPUT_REQUIRED"), &json!("input_1"))
    );
    let job_id = problem["job_id"].as_str().unwrap();
    answer(&gateway, job_id, "input_1", json!("sair")).await;
    assert_eq!(of(&gateway.events(job_id).await, "end_of_stream")[0]["state"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_asks_its_user() {
    let question = json!({"question": "Which one?", "choices": ["red", "blue"]});
    let model = ModelServer::start(vec![
        openai::call_turn(&[("a", "ask_user", question)]),
        openai::answer_turn(&["It is blue."]),
    ])
    .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let job_id = gateway.submit(&json!({"command": "paint it"})).await;
    gateway.sse(&job_id, 0).await.until("input_required").await;
    assert_eq!(answer(&gateway, &job_id, "input_1", json!("green")).await.status, 400);
    assert_eq!(answer(&gateway, &job_id, "input_1", json!("blue")).await.status, 200);
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "result")[0]["result"], "It is blue.");
    let told = model.asked()[1].body["messages"].as_array().unwrap().last().unwrap().to_string();
    assert!(told.contains("The user answered: blue"), "{told}");

    let gateway = Gateway::thinking(
        &ModelServer::start(vec![
            openai::call_turn(&[("a", "ask_user", json!({"question": "Anybody?"}))]),
            openai::answer_turn(&["Nobody."]),
        ])
        .await,
        Options::default().set("agent.input_timeout_seconds", 1),
    );
    let started = Instant::now();
    let answered = gateway.post("/api/v1/stream-execute", &json!({"command": "ask"})).await.json();
    let events = gateway.events(answered["job_id"].as_str().unwrap()).await;
    assert_eq!(of(&events, "result")[0]["result"], "Nobody.");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// A question does not outlive the job's own time, however long an answer may take.
#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_time_ends_its_question() {
    let model =
        ModelServer::start(vec![openai::call_turn(&[("a", "ask_user", json!({"question": "Anybody?"}))])])
            .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let started = Instant::now();
    let job_id = gateway.submit(&json!({"command": "ask", "timeout_seconds": 1})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "error")[0]["reason"], "TIMED_OUT", "{events:?}");
    assert!(of(&events, "input_received").is_empty(), "nobody answered, and no default was taken");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// What a model thought of is not done to agents or histories before a person has agreed.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_cannot_confirm_its_own_idea() {
    let model = ModelServer::start(vec![
        openai::call_turn(&[(
            "a",
            "clear_agent_history",
            json!({"agent_id": "SqlExpert_Agent", "confirm": "SqlExpert_Agent"}),
        )]),
        openai::answer_turn(&["As you like."]),
    ])
    .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let job_id = gateway.submit(&json!({"command": "forget everything"})).await;
    let asked = gateway.sse(&job_id, 0).await.until("input_required").await;
    assert!(asked["data"]["prompt"].as_str().unwrap().contains("SqlExpert_Agent"));
    assert_eq!(asked["data"]["default_value"], false);
    answer(&gateway, &job_id, "input_1", json!(false)).await;
    let events = gateway.events(&job_id).await;
    let end = of(&events, "on_tool_end")[0];
    assert_eq!(end["is_error"], true);
    assert!(end["error"].as_str().unwrap().contains("did not agree"), "{end}");
    assert_eq!(names(&events).last(), Some(&"end_of_stream"));
    eventually(Duration::from_secs(1), "the job has ended", async || {
        gateway.job(&job_id).await["state"] == "SUCCEEDED"
    })
    .await;
}
