//! Much of everything that ends early: afterwards the gateway has no more descriptors, tasks, processes or memory
//! than before. And what hangs for ever holds up nobody.

use std::{sync::Arc, time::Duration};

use rmcp::{model::CallToolRequestParams, service::ClientLifecycleMode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    mcp::{Client, connect},
    support::{
        Gateway, ModelServer, Options, SseReader, alive_with, eventually,
        model::{Act, openai, stream_head},
        send,
    },
};

/// What a gateway holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    tasks: u64,
    memory: u64,
}

impl Held {
    async fn by(gateway: &Gateway) -> Self {
        let directory = format!("/proc/{}", gateway.pid());
        let status = std::fs::read_to_string(format!("{directory}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        Self {
            descriptors: std::fs::read_dir(format!("{directory}/fd")).unwrap().count(),
            tasks: gateway.get("/api/v1/info").await.json()["live_tasks"].as_u64().unwrap(),
            memory: line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024,
        }
    }
}

/// Opens a session and a stream of its messages, and leaves without a word.
async fn abandon_a_session(address: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let headers = [("accept", "application/json, text/event-stream"), ("content-type", "application/json")];
    let opened = send(address, "POST", "/mcp", &headers, Some(body.into_bytes())).await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    let session = opened.headers["mcp-session-id"].to_str().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /mcp HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
}

/// Runs `count` of something, twenty at a time.
async fn many<F: Future<Output = ()> + Send + 'static>(count: usize, mut one: impl FnMut(usize) -> F) {
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() == 20 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(one(number));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Submits a job, reads until it is at work, and cancels it.
async fn start_and_cancel(address: &str, body: &Value, at_work: &str) {
    let headers = [("content-type", "application/json")];
    let body = body.to_string().into_bytes();
    let answer = send(address, "POST", "/api/v1/stream-execute", &headers, Some(body)).await.json();
    let job_id = answer["job_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let mut events = SseReader::open(address, &job_id, 0).await;
    events.until(at_work).await;
    let path = format!("/api/v1/jobs/{job_id}/cancel");
    send(address, "POST", &path, &headers, Some(b"{}".to_vec())).await;
    let events = events.rest().await;
    assert_eq!(events.last().unwrap()["event"], "end_of_stream");
}

async fn round(gateway: &Gateway, sessions: usize, calls: usize, cancelled: usize) {
    let mcp = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    many(sessions, |_| {
        let mcp = mcp.clone();
        async move { abandon_a_session(&mcp).await }
    })
    .await;
    let client = Arc::new(connect(&gateway.mcp, Client::default(), ClientLifecycleMode::Initialize).await);
    many(calls, |number| {
        let client = client.clone();
        async move {
            let tool = if number % 10 == 0 { "get_system_config" } else { "list_available_agents" };
            let result = client.call_tool(CallToolRequestParams::new(tool)).await.unwrap();
            assert_eq!(result.is_error, Some(false), "{result:?}");
        }
    })
    .await;
    Arc::into_inner(client).unwrap().cancel().await.unwrap();
    many(cancelled, |number| {
        let address = gateway.address.clone();
        async move {
            if number % 2 == 0 {
                start_and_cancel(&address, &json!({"command": "think for ever"}), "on_llm_new_token").await;
            } else {
                // One agent's runs wait for each other, so there are several agents' worth of names.
                let run = json!({"agent_id": "Mean_Agent", "input_text": "hang"});
                start_and_cancel(&address, &run, "job_started").await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_early_leaves_nothing() {
    let model = ModelServer::start(vec![vec![
        stream_head(),
        Act::Send(openai::text("thinking").into()),
        Act::Silence,
    ]])
    .await;
    let options = Options::default()
        .set("agent.provider", "openai")
        .set("agent.model", "scripted")
        .set("agent.base_url", model.url("/v1"))
        .set("server.mcp_session_idle_seconds", 1)
        .set("jobs.max_running", 20)
        .set("jobs.retention_max_jobs", 100)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Gateway::mean(options);
    let fresh = Held::by(&gateway).await;
    // As few descriptors and tasks as then, but for a connection or two that are kept for later.
    let back_to = async |before: Held| {
        let mut last = before;
        eventually(Duration::from_secs(30), "descriptors and tasks are back", async || {
            last = Held::by(&gateway).await;
            last.descriptors <= before.descriptors + 4 && last.tasks <= before.tasks + 4
        })
        .await;
        last
    };
    // The first round fills caches, pools and the allocator's arenas.
    round(&gateway, 400, 1_000, 1_000).await;
    let before = back_to(fresh).await;
    round(&gateway, 200, 1_000, 1_000).await;
    let after = back_to(before).await;
    println!("fresh {fresh:?}, before {before:?}, after {after:?}");
    let grown = after.memory.saturating_sub(before.memory);
    assert!(grown < 16 << 20, "{grown} bytes of memory grown: {before:?} to {after:?}");
    eventually(Duration::from_secs(5), "no engine is left", async || {
        let marker = gateway.directory.path().display().to_string();
        alive_with(&marker).iter().all(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !String::from_utf8_lossy(&line).contains("hang")
        })
    })
    .await;
}

fn tool_of(agent: &str, input: &str) -> Value {
    json!({"agent_id": agent, "input_text": input})
}

/// Jobs whose model, outside MCP server or tool hangs: others finish meanwhile, and each of them can be cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_blocks_nobody() {
    let outside = Gateway::mean(Options::default());
    let hung_model = vec![Act::Silence];
    let model = ModelServer::start(vec![
        openai::call_turn(&[("a", "far_execute_agent_stateless", tool_of("Mean_Agent", "hang"))]),
        openai::call_turn(&[("b", "execute_agent_stateless", tool_of("Mean_Agent", "hang"))]),
        hung_model,
        openai::call_turn(&[("c", "execute_agent_stateless", tool_of("Other_Agent", "ok"))]),
        openai::answer_turn(&["It went well."]),
    ])
    .await;
    let options = Options::default()
        .set("agent.provider", "openai")
        .set("agent.model", "scripted")
        .set("agent.base_url", model.url("/v1"))
        .set("agent.mcp_servers", json!({"far": {"url": outside.mcp}}));
    let gateway = Gateway::mean(options);
    let mut hung = Vec::new();
    for (number, at_work) in ["on_tool_start", "on_tool_start", "on_llm_start"].into_iter().enumerate() {
        let job_id = gateway.submit(&json!({"command": "do something slow"})).await;
        gateway.sse(&job_id, 0).await.until(at_work).await;
        eventually(Duration::from_secs(5), "the model is asked", async || model.asked().len() == number + 1)
            .await;
        hung.push(job_id);
    }
    // One that thinks with the same model, and one that needs none.
    let thought = gateway.post("/execute", &json!({"command": "run the other one"})).await;
    assert_eq!((thought.status, &thought.json()["result"]), (200, &json!("It went well.")));
    assert_eq!(gateway.post("/execute", &tool_of("Other_Agent", "ok")).await.status, 200);
    for job_id in hung {
        assert_eq!(gateway.job(&job_id).await["state"], "RUNNING");
        let cancelled =
            gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
        assert_eq!(cancelled.json()["state"], "CANCELLED");
        assert!(alive_with(&job_id).is_empty());
    }
    eventually(Duration::from_secs(10), "the outside tool's run is over too", async || {
        outside.get("/api/v1/info").await.json()["running_jobs"] == 0
    })
    .await;
}
