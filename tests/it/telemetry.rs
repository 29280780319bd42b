//! Traces and metrics: a job belongs to the trace of its submitter through every door, and hands it on to models and engines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use conductor_gateway::pb;

use crate::support::{
    Gateway, ModelServer, Options,
    model::openai::{answer_turn, call_turn},
    send,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

/// The spans in the gateway's log, by name.
fn spans(gateway: &Gateway) -> BTreeMap<String, Value> {
    let log = gateway.log.lock().unwrap().clone();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let spans = lines.filter(|line| line["target"] == "span");
    spans.map(|span| (span["name"].as_str().unwrap().to_owned(), span)).collect()
}

/// The `traceparent` headers of the requests that a model's server has had.
fn headers(model: &ModelServer) -> Vec<String> {
    let headers = model.asked().into_iter().map(|asked| asked.headers.to_ascii_lowercase());
    headers
        .map(|headers| {
            let line =
                headers.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap_or_default();
            line.trim().to_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_door_to_the_models_and_the_engine() {
    let call = call_turn(&[(
        "a",
        "execute_agent_stateless",
        json!({"agent_id": "SqlExpert_Agent", "input_text": "x"}),
    )]);
    let model = ModelServer::start(vec![call, answer_turn(&["agent"]), answer_turn(&["done"])]).await;
    let gateway = Gateway::thinking(&model, Options::default().set("telemetry.log", "info,span=debug"));
    let body = json!({"command": "ask the agent"}).to_string();
    let given = traceparent();
    let headers_sent = [("content-type", "application/json"), ("traceparent", given.as_str())];
    let answer =
        send(&gateway.address, "POST", "/api/v1/stream-execute", &headers_sent, Some(body.into_bytes()))
            .await;
    let job_id = answer.json()["job_id"].as_str().unwrap().to_owned();
    gateway.events(&job_id).await;
    assert_eq!(gateway.job(&job_id).await["trace_parent"], given);
    // The gateway's model, the engine's own model call, and the gateway's model again.
    let asked = headers(&model);
    assert_eq!(asked.len(), 3);
    for header in &asked {
        assert!(header.starts_with(&format!("00-{TRACE}-")), "{header}");
    }
    let mut distinct = asked.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 3, "each is a span of its own");
    let spans = spans(&gateway);
    let parent = |name: &str| spans[name]["parent_span_id"].as_str().unwrap().to_owned();
    let own = |name: &str| spans[name]["span_id"].as_str().unwrap().to_owned();
    assert_eq!(parent("invoke_agent"), PARENT);
    assert_eq!(parent("chat"), own("invoke_agent"));
    assert_eq!(parent("execute_tool"), own("invoke_agent"));
    assert_eq!(parent("engine_run"), own("execute_tool"));
    assert!(asked[1].contains(&own("engine_run")), "the engine goes on with the span of its run");
    for span in spans.values() {
        assert_eq!((&span["trace_id"], &span["outcome"]), (&json!(TRACE), &json!("ok")));
        assert_eq!(span["job_id"], *job_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_takes_a_trace() {
    let gateway = Gateway::start();
    let mut client = gateway.grpc().await;
    let task = pb::Task { task: Some(pb::task::Task::Command("conductor --list".into())) };
    let mut request = tonic::Request::new(pb::SubmitJobRequest { task: Some(task), options: None });
    request.metadata_mut().insert("traceparent", traceparent().parse().unwrap());
    let job = client.submit_job(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.trace_parent, Some(traceparent()));
    // Without one, or with one that is none, the gateway begins a trace of its own and the job names none.
    for given in [&[][..], &[("traceparent", "00-zz-1-01")][..]] {
        let headers: Vec<_> =
            [("content-type", "application/json")].into_iter().chain(given.iter().copied()).collect();
        let body = json!({"command": "conductor --list"}).to_string();
        let answer =
            send(&gateway.address, "POST", "/api/v1/stream-execute", &headers, Some(body.into_bytes())).await;
        let job_id = answer.json()["job_id"].as_str().unwrap().to_owned();
        assert!(gateway.job(&job_id).await.get("trace_parent").is_none());
    }
    // Over MCP in the call's metadata, or in the header of its request.
    let (given, call) = (traceparent(), json!({"name": "backup_agents", "arguments": {}}));
    for is_header in [false, true] {
        let mut params = call.clone();
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {}});
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "backup_agents"),
        ];
        match is_header {
            true => headers.push(("traceparent", given.as_str())),
            false => params["_meta"]["traceparent"] = json!(given),
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        let address = gateway.mcp.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap();
        let answer = send(address, "POST", "/mcp", &headers, Some(body.into_bytes())).await;
        assert!(answer.text().contains("conductor.gateway/job_id"), "{}", answer.text());
    }
    let jobs = gateway.get("/api/v1/jobs?view=full").await.json();
    let traced = |job: &&Value| job["door"] == "MCP" && job["trace_parent"] == given;
    assert_eq!(jobs["jobs"].as_array().unwrap().iter().filter(traced).count(), 2, "{jobs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_done() {
    let gateway = Gateway::mean(Options::default());
    for input in ["ok 1", "ok 2", "json-error"] {
        let job_id = gateway.submit_mean(input).await;
        gateway.events(&job_id).await;
    }
    let answer = gateway.get("/metrics").await;
    let kind = answer.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    // Every line is a comment, or a name with a number; every series has its TYPE above it.
    let mut described = String::new();
    let mut values = BTreeMap::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            described = rest.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with("# ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&described) && name.starts_with("conductor_gateway_"), "{line}");
            values.insert(name.to_owned(), value.parse::<f64>().unwrap());
        }
    }
    let value = |name: &str| values.get(name).copied();
    assert_eq!(value(r#"conductor_gateway_jobs_total{door="HTTP",outcome="ok"}"#), Some(2.0), "{text}");
    assert_eq!(
        value(r#"conductor_gateway_jobs_total{door="HTTP",outcome="ENGINE_FAILED"}"#),
        Some(1.0),
        "{text}"
    );
    assert_eq!(value(r#"conductor_gateway_job_duration_seconds_count{door="HTTP"}"#), Some(3.0), "{text}");
    let tool = r#"conductor_gateway_tool_calls_total{tool="execute_agent_stateless",outcome="ok"}"#;
    assert_eq!(value(tool), Some(2.0), "{text}");
    // The gateway itself has asked the engine something as well.
    let runs = value(r#"conductor_gateway_engine_run_duration_seconds_count{driver="conductor"}"#);
    assert!(runs.is_some_and(|runs| runs >= 3.0), "{text}");
    assert_eq!(value("conductor_gateway_running_jobs"), Some(0.0), "{text}");
}
