//! The main job: a task in through any door, its events out through every door.

use std::time::Duration;

use conductor_gateway::pb::{self, job_event::Payload};
use prost::Message;
use serde_json::{Value, json};

use crate::support::{Gateway, Options, SseReader, eventually, send};

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_two_step_flow() {
    let gateway = Gateway::start();
    let answer =
        gateway.post("/api/v1/stream-execute", &json!({"command": "list all available agents"})).await;
    assert_eq!(answer.status, 200);
    let accepted = answer.json();
    assert_eq!(accepted["status"], "started");
    let job_id = accepted["job_id"].as_str().unwrap();
    assert_eq!(accepted["stream_url"], format!("/api/v1/stream/{job_id}"));

    let mut reader = gateway.sse(job_id, 0).await;
    assert_eq!(reader.headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(reader.headers["x-accel-buffering"], "no");
    let events = reader.rest().await;
    assert_eq!(
        names(&events),
        [
            "job_started", "on_chain_start", "on_tool_start", "on_tool_end", "on_chain_end", "result",
            "end_of_stream"
        ]
    );
    assert_eq!(events[1]["data"]["planner"], "direct");
    assert_eq!(events[2]["data"]["tool"], "list_available_agents");
    let agents = events[3]["data"]["result"]["agents"].as_array().unwrap();
    assert!(agents.len() >= 6, "the bundled engine brings agents that one can use");
    assert!(agents.iter().any(|agent| agent["agent_id"] == "CodeReviewer_Agent"));
    assert!(events[5]["data"]["result"].as_str().unwrap().contains("CodeReviewer_Agent"));
    assert_eq!(events[6]["data"]["state"], "SUCCEEDED");
    for event in &events {
        assert_eq!(event["job_id"], job_id);
        assert!(event["timestamp"].as_f64().unwrap() > 1.7e9);
    }

    // One that has seen the end is told to stop coming back.
    let again = SseReader::open(&gateway.address, job_id, 7).await;
    assert_eq!(again.status, 204);
    let executed = gateway.post("/execute", &json!({"input": "which agents do I have?"})).await;
    assert_eq!((executed.status, &executed.json()["status"]), (200, &json!("success")));
    let health = gateway.get("/health").await.json();
    assert_eq!((&health["status"], &health["mode"]), (&json!("healthy"), &json!("direct")));
}

#[tokio::test]
async fn every_form_of_a_task_is_taken() {
    let gateway = Gateway::start();
    for body in [
        json!({"command": "list the agents"}),
        json!({"input": "conductor --list"}),
        json!({"textEntries": [{"uid": "1", "content": "what agents are there?"}], "something": "else"}),
        json!({"agent_id": "SqlExpert_Agent", "input_text": "-x --list"}),
        json!({"tool": "list_available_agents"}),
        json!({"tool": "get_agent_info", "arguments": {"agent_id": "SqlExpert_Agent"}, "labels": {"a": "b"}}),
    ] {
        let answer = gateway.post("/execute", &body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    }
    // A command that is not understood changes nothing and says what can be done.
    let declined = gateway.post("/execute", &json!({"command": "list all agents and delete them"})).await;
    assert_eq!((declined.status, &declined.json()["reason"]), (422, &json!("COMMAND_NOT_UNDERSTOOD")));
    let events = gateway.events(declined.json()["job_id"].as_str().unwrap()).await;
    assert_eq!(names(&events), ["job_started", "on_chain_start", "on_chain_end", "error", "end_of_stream"]);
}

#[tokio::test]
async fn an_agent_streams_as_it_prints() {
    // The bundled engine, slowly: a token is seen while the process lives.
    let options =
        Options { environment: vec![("CONDUCTOR_SIMULATE_PACE_MS", "40".into())], ..Options::default() }
            .set("conductor.pass_environment", "[CONDUCTOR_SIMULATE_PACE_MS]");
    let gateway = Gateway::start_with(options);
    let job_id =
        gateway.submit(&json!({"agent_id": "CodeReviewer_Agent", "input_text": "one two three"})).await;
    let mut reader = gateway.sse(&job_id, 0).await;
    let first = reader.until("on_tool_output").await;
    assert_eq!(first["data"]["stream"], "STDOUT");
    assert!(
        !crate::support::alive_with(&job_id).is_empty(),
        "the engine had ended before its first output was seen"
    );
    let rest = reader.rest().await;
    assert!(rest.iter().filter(|event| event["event"] == "on_tool_output").count() > 3);
    let output: String = std::iter::once(&first)
        .chain(&rest)
        .filter(|event| event["event"] == "on_tool_output")
        .map(|event| event["data"]["text"].as_str().unwrap())
        .collect();
    let result = rest.iter().find(|event| event["event"] == "result").unwrap();
    assert_eq!(output.trim_end(), result["data"]["result"].as_str().unwrap());
    assert!(output.contains("simulated"));
}

/// One job, many readers through different doors: the same sequences, the same payloads.
#[tokio::test]
async fn all_doors_show_the_same_events() {
    let gateway = Gateway::mean(Options::default());
    let go_on = gateway.path("go-on");
    let mut client = gateway.grpc().await;
    let task = pb::Task {
        task: Some(pb::task::Task::AgentRun(pb::AgentRun {
            agent_id: "Mean_Agent".into(),
            input_text: format!("two-parts {}", go_on.display()),
        })),
    };
    let request = pb::StreamExecuteRequest { task: Some(task), options: None };
    let mut live = client.stream_execute(request).await.unwrap().into_inner();
    let mut frames = Vec::new();
    let job_id = loop {
        let event = pb::JobEvent::decode(live.message().await.unwrap().unwrap().event.unwrap()).unwrap();
        let is_output = matches!(event.payload, Some(Payload::OnToolOutput(_)));
        let job_id = event.job_id.clone();
        frames.push(event);
        if is_output {
            break job_id;
        }
    };
    // Live over SSE, and resumed in the middle; both while the job runs.
    let mut sse = gateway.sse(&job_id, 0).await;
    let first = sse.next().await.unwrap();
    let mut resumed = gateway.sse(&job_id, 2).await;
    let job = gateway.job(&job_id).await;
    assert_eq!((&job["state"], &job["door"]), (&json!("RUNNING"), &json!("GRPC")));
    std::fs::write(&go_on, "").unwrap();
    while let Some(frame) = live.message().await.unwrap() {
        frames.extend(frame.event.map(|event| pb::JobEvent::decode(event).unwrap()));
    }
    let mut over_sse = vec![first];
    over_sse.extend(sse.rest().await);
    let resumed = resumed.rest().await;
    // Late over gRPC and SSE.
    assert_eq!(gateway.watch(&job_id, 0).await, frames);
    assert_eq!(gateway.watch(&job_id, 3).await, frames[3..]);
    let late = gateway.events(&job_id).await;
    assert_eq!(late, over_sse);
    assert_eq!(resumed, over_sse[2..]);
    assert_eq!(over_sse.len(), frames.len());
    for (document, event) in over_sse.iter().zip(&frames) {
        assert_eq!(document["sequence"], event.sequence);
        assert_eq!(document["event"], pb::event_name(event.payload.as_ref().unwrap()));
    }
    // The command line prints the same documents.
    let printed = crate::cli::run(&["jobs", "watch", &job_id, "--json", "--server", &gateway.url()], None);
    let printed: Vec<Value> =
        printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed, over_sse);
}

#[tokio::test]
async fn a_silent_stream_carries_signs_of_life() {
    let gateway = Gateway::mean(Options::default().set("server.heartbeat_seconds", 1));
    let job_id = gateway.submit_mean("sleep 2500").await;
    let request = pb::WatchJobRequest { job_id: job_id.clone(), after_sequence: 0 };
    let mut frames = gateway.grpc().await.watch_job(request).await.unwrap().into_inner();
    let mut heartbeats = 0;
    while let Some(frame) = frames.message().await.unwrap() {
        heartbeats += u32::from(frame.heartbeat.is_some());
    }
    assert!(heartbeats >= 1, "a stream that is silent for two seconds and a half");
    let raw = send(&gateway.address, "GET", &format!("/api/v1/stream/{job_id}"), &[], None).await;
    assert!(raw.text().starts_with("retry: "), "{}", raw.text());
}

#[tokio::test]
async fn a_client_that_leaves_drops_a_reader_only() {
    let gateway = Gateway::mean(Options::default());
    let go_on = gateway.path("go-on");
    let job_id = gateway.submit_mean(&format!("two-parts {}", go_on.display())).await;
    let mut reader = gateway.sse(&job_id, 0).await;
    reader.until("on_tool_output").await;
    drop(reader);
    assert_eq!(gateway.job(&job_id).await["state"], "RUNNING");
    std::fs::write(&go_on, "").unwrap();
    let events = gateway.events(&job_id).await;
    assert_eq!(events.last().unwrap()["data"]["state"], "SUCCEEDED");

    // Unless it asked for the other.
    let task = pb::Task {
        task: Some(pb::task::Task::AgentRun(pb::AgentRun {
            agent_id: "Mean_Agent".into(),
            input_text: "hang".into(),
        })),
    };
    let options = pb::TaskOptions { on_disconnect: pb::OnDisconnect::Cancel as i32, ..Default::default() };
    let request = pb::StreamExecuteRequest { task: Some(task), options: Some(options) };
    let mut frames = gateway.grpc().await.stream_execute(request).await.unwrap().into_inner();
    let first = frames.message().await.unwrap().unwrap().event.unwrap();
    let job_id = pb::JobEvent::decode(first).unwrap().job_id;
    drop(frames);
    eventually(Duration::from_secs(10), "the job is cancelled", async || {
        gateway.job(&job_id).await["state"] == "CANCELLED"
    })
    .await;
    assert_eq!(gateway.job(&job_id).await["error"]["cancelled_by"], "disconnect");
}
