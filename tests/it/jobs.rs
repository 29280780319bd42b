//! The job calls: idempotency, queue, cancel, list, delete, retention.

use std::time::Duration;

use conductor_gateway::pb;
use serde_json::{Value, json};

use crate::support::{Gateway, Options, alive_with, eventually, send};

#[tokio::test]
async fn one_key_is_one_job() {
    let gateway = Gateway::mean(Options::default());
    let body = json!({"agent_id": "Mean_Agent", "input_text": "ok"});
    let submit = async |key: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        send(
            &gateway.address,
            "POST",
            "/api/v1/stream-execute",
            &headers,
            Some(body.to_string().into_bytes()),
        )
        .await
    };
    let answers = futures_util::future::join_all((0..50).map(|_| submit("k1", &body))).await;
    let ids: std::collections::BTreeSet<String> =
        answers.iter().map(|answer| answer.json()["job_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1);
    gateway.events(ids.first().unwrap()).await;
    let starts = std::fs::read_to_string(gateway.path("starts.log")).unwrap();
    assert_eq!(starts.lines().count(), 1);
    let other = submit("k1", &json!({"agent_id": "Mean_Agent", "input_text": "other"})).await;
    assert_eq!((other.status, &other.json()["reason"]), (409, &json!("IDEMPOTENCY_CONFLICT")));
    let quoted = submit("\"k1\"", &body).await;
    assert_eq!(quoted.json()["job_id"].as_str(), ids.first().map(String::as_str));
}

#[tokio::test]
async fn the_queue_is_bounded_seen_and_in_order() {
    let gateway = Gateway::mean(Options::default().set("jobs.max_running", 1).set("jobs.max_queued", 2));
    let go_on = gateway.path("go-on");
    let first = gateway.submit_mean(&format!("two-parts {}", go_on.display())).await;
    gateway.sse(&first, 0).await.until("on_tool_output").await;
    let second = gateway.submit_mean("ok").await;
    let body = json!({"agent_id": "Mean_Agent", "input_text": "ok", "queue_timeout_seconds": 1});
    let third = gateway.submit(&body).await;
    let refused = gateway.post("/api/v1/stream-execute", &json!({"command": "list the agents"})).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (429, &json!("QUEUE_FULL")));
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    let status = gateway
        .grpc()
        .await
        .submit_job(pb::SubmitJobRequest {
            task: Some(pb::Task { task: Some(pb::task::Task::Command("x".into())) }),
            options: None,
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    use tonic_types::StatusExt;
    assert!(status.get_error_details().retry_info().is_some());
    assert_eq!(gateway.job(&second).await["queue_position"], 1);
    assert_eq!(gateway.job(&third).await["queue_position"], 2);
    let expired = gateway.events(&third).await;
    assert_eq!(expired[1]["data"]["reason"], "QUEUE_TIMED_OUT");
    std::fs::write(&go_on, "").unwrap();
    let events = gateway.events(&second).await;
    assert_eq!(events[0]["data"]["queue_position"], 1);
    assert_eq!(events.last().unwrap()["data"]["state"], "SUCCEEDED");
}

#[tokio::test]
async fn cancel_ends_the_process_tree_and_says_who() {
    let gateway =
        Gateway::mean(Options::default().set("conductor.kill_grace_seconds", 1).set("jobs.max_running", 1));
    let running = gateway.submit_mean("escaped-grandchild").await;
    let queued = gateway.submit_mean("ok").await;
    gateway.sse(&running, 0).await.until("on_tool_output").await;
    // A queued one never starts.
    let cancelled =
        gateway.post(&format!("/api/v1/jobs/{queued}/cancel"), &json!({"wait_seconds": 5})).await.json();
    assert_eq!(cancelled["state"], "CANCELLED");
    let at_once = gateway.post(&format!("/api/v1/jobs/{running}/cancel"), &Value::Null).await;
    assert_eq!(at_once.status, 422, "null is no body: {}", at_once.text());
    let at_once =
        send(&gateway.address, "POST", &format!("/api/v1/jobs/{running}/cancel"), &[], None).await.json();
    assert_eq!(at_once["state"], "RUNNING");
    assert!(at_once["cancel_request_time"].is_string());
    let waited =
        gateway.post(&format!("/api/v1/jobs/{running}/cancel"), &json!({"wait_seconds": 20})).await.json();
    assert_eq!(waited["state"], "CANCELLED");
    assert_eq!(waited["error"]["cancelled_by"], "local");
    assert!(alive_with(&running).is_empty(), "no process of it lives");
    let events = gateway.events(&running).await;
    assert!(events.iter().any(|event| event["data"]["reason"] == "CANCEL_REQUESTED"));
    // Once more changes nothing.
    let again = gateway.post(&format!("/api/v1/jobs/{running}/cancel"), &json!({})).await.json();
    assert_eq!((&again["state"], &again["last_sequence"]), (&json!("CANCELLED"), &waited["last_sequence"]));
    let starts = std::fs::read_to_string(gateway.path("starts.log")).unwrap();
    assert!(!starts.contains(&queued));
}

#[tokio::test]
async fn jobs_are_listed_and_deleted() {
    let gateway = Gateway::start();
    let mut ids = Vec::new();
    for number in 0..7 {
        let body = json!({"command": "list the agents", "labels": {"n": number.to_string()}, "conversation_id": "talk"});
        let job_id = gateway.submit(&body).await;
        gateway.events(&job_id).await;
        ids.push(job_id);
    }
    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let page = gateway
            .get(&format!("/api/v1/jobs?conversation_id=talk&page_size=3&page_token={token}"))
            .await
            .json();
        listed.extend(
            page["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()),
        );
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ids.iter().rev().cloned().collect::<Vec<_>>(), "newest first");
    let one = gateway.get("/api/v1/jobs?label=n:4").await.json();
    assert_eq!(one["jobs"][0]["job_id"], json!(ids[4]));
    eventually(Duration::from_secs(5), "the job is marked as ended", async || {
        send(&gateway.address, "DELETE", &format!("/api/v1/jobs/{}", ids[4]), &[], None).await.status == 204
    })
    .await;
    assert_eq!(gateway.get(&format!("/api/v1/jobs/{}", ids[4])).await.status, 404);
    assert_eq!(gateway.get(&format!("/api/v1/stream/{}", ids[4])).await.status, 404);
    assert_eq!(
        gateway.job(&ids[5]).await["result"]["text"].as_str().unwrap().lines().next(),
        Some("8 agents are installed:")
    );
}

#[tokio::test]
async fn retention_removes_what_is_old_and_keeps_nothing_of_it() {
    let options = Options::default().set("jobs.retention_seconds", 1).set("jobs.retention_max_jobs", 500);
    let gateway = Gateway::start_with(options);
    let mut last = String::new();
    for _ in 0..200 {
        last = gateway.submit(&json!({"command": "list the agents"})).await;
    }
    gateway.events(&last).await;
    eventually(Duration::from_secs(15), "every job is gone", async || {
        gateway.get("/api/v1/jobs").await.json()["jobs"].as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(std::fs::read_dir(gateway.path("conductor-data/jobs")).unwrap().count(), 0);
    let answer = gateway.get(&format!("/api/v1/stream/{last}")).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (404, &json!("JOB_NOT_FOUND")));
}

#[tokio::test]
async fn execute_over_grpc_answers_the_ended_job() {
    let gateway = Gateway::mean(Options::default());
    let execute = async |input: &str| {
        let run = pb::AgentRun { agent_id: "Mean_Agent".into(), input_text: input.into() };
        let task = Some(pb::Task { task: Some(pb::task::Task::AgentRun(run)) });
        let request = pb::ExecuteRequest { task, options: None };
        gateway.grpc().await.execute(request).await.unwrap().into_inner().job.unwrap()
    };
    assert_eq!(execute("ok").await.state(), pb::JobState::Succeeded);
    // A job that ran and failed is an answer.
    let failed = execute("json-error").await;
    assert_eq!(failed.state(), pb::JobState::Failed);
    assert!(
        matches!(failed.outcome, Some(pb::job::Outcome::Error(error)) if error.reason == "ENGINE_FAILED")
    );
    // A client that gives up takes its job along.
    let mut client = gateway.grpc().await;
    let run = pb::AgentRun { agent_id: "Mean_Agent".into(), input_text: "hang".into() };
    let request = pb::ExecuteRequest {
        task: Some(pb::Task { task: Some(pb::task::Task::AgentRun(run)) }),
        options: None,
    };
    let given_up = tokio::time::timeout(Duration::from_millis(500), client.execute(request)).await;
    assert!(given_up.is_err());
    eventually(Duration::from_secs(10), "its job is cancelled", async || {
        let listed = gateway.get("/api/v1/jobs?state=CANCELLED").await.json();
        listed["jobs"].as_array().unwrap().len() == 1
    })
    .await;
}

/// Calls `Execute` with a key on a connection of its own; dropping the answer is leaving.
fn execute(
    gateway: &Gateway,
    input: &str,
    key: &str,
    on_disconnect: pb::OnDisconnect,
) -> tokio::task::JoinHandle<pb::Job> {
    let task = pb::Task {
        task: Some(pb::task::Task::AgentRun(pb::AgentRun {
            agent_id: "Mean_Agent".into(),
            input_text: input.into(),
        })),
    };
    let options = pb::TaskOptions {
        idempotency_key: key.into(),
        on_disconnect: on_disconnect as i32,
        ..pb::TaskOptions::default()
    };
    let url = gateway.url();
    tokio::spawn(async move {
        let mut client = pb::gateway_service_client::GatewayServiceClient::connect(url).await.unwrap();
        let request = pb::ExecuteRequest { task: Some(task), options: Some(options) };
        client.execute(request).await.unwrap().into_inner().job.unwrap()
    })
}

/// Calls `StreamExecute` with a key on a connection of its own and waits for the first event, after which this client counts
/// among those of the job. Dropping the stream is leaving.
async fn joined(
    gateway: &Gateway,
    input: &str,
    key: &str,
    on_disconnect: pb::OnDisconnect,
) -> tonic::Streaming<pb::EventFrame> {
    let request = stream_request(input, key, on_disconnect);
    let mut client = pb::gateway_service_client::GatewayServiceClient::connect(gateway.url()).await.unwrap();
    let mut stream = client.stream_execute(request).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("an event");
    stream
}

fn stream_request(input: &str, key: &str, on_disconnect: pb::OnDisconnect) -> pb::StreamExecuteRequest {
    let task =
        pb::task::Task::AgentRun(pb::AgentRun { agent_id: "Mean_Agent".into(), input_text: input.into() });
    let options = pb::TaskOptions {
        idempotency_key: key.into(),
        on_disconnect: on_disconnect as i32,
        ..pb::TaskOptions::default()
    };
    pb::StreamExecuteRequest { task: Some(pb::Task { task: Some(task) }), options: Some(options) }
}

/// Waits until a job with this input runs.
async fn running(gateway: &Gateway, input: &str) -> String {
    let mut job_id = String::new();
    eventually(Duration::from_secs(10), "the job runs", async || {
        let jobs = gateway.get("/api/v1/jobs?state=running&view=full").await.json();
        let jobs = jobs["jobs"].as_array().unwrap().clone();
        let found: Vec<_> = jobs.iter().filter(|job| job["task"].to_string().contains(input)).collect();
        assert!(found.len() <= 1, "one key is one job");
        job_id = found.first().map_or(String::new(), |job| job["job_id"].as_str().unwrap().to_owned());
        !job_id.is_empty()
    })
    .await;
    job_id
}

/// What several clients hold ends with the last of them, and not while somebody wants it to go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_several_hold_ends_with_the_last_of_them() {
    use pb::OnDisconnect::{Cancel, Unspecified};
    let gateway = Gateway::mean(Options::default());
    // The first leaves, then the second: cancelled only then. Asked again with the key, it is done anew.
    let first = execute(&gateway, "hang", "k1", Unspecified);
    let job_id = running(&gateway, "hang").await;
    let second = joined(&gateway, "hang", "k1", Cancel).await;
    first.abort();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(gateway.job(&job_id).await["state"], "RUNNING", "the second still waits");
    drop(second);
    eventually(Duration::from_secs(10), "the last has left", async || {
        gateway.job(&job_id).await["state"] == "CANCELLED"
    })
    .await;
    let again = execute(&gateway, "hang", "k1", Cancel);
    assert_eq!(gateway.job(&job_id).await["error"]["cancelled_by"], "disconnect");
    assert_ne!(
        running(&gateway, "hang").await,
        job_id,
        "a retry finds no job that was cancelled because nobody was there"
    );
    again.abort();
}

/// Whoever joins without a hold wants the job to go on, also where both come in the same moment and one finds the key of a job
/// that is only just being stored.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_while_the_job_is_being_stored_counts() {
    use pb::OnDisconnect::{Cancel, Continue};
    let gateway = Gateway::mean(Options::default());
    for round in 0..20 {
        let (key, input) = (format!("both-{round}"), format!("sleep {}", 700 + round));
        let clients =
            tokio::join!(joined(&gateway, &input, &key, Cancel), joined(&gateway, &input, &key, Continue));
        let job_id = running(&gateway, &input).await;
        drop(clients);
        let events = gateway.events(&job_id).await;
        assert_eq!(events.last().unwrap()["data"]["state"], "SUCCEEDED", "{key}");
    }
}

/// A listing costs what its page costs: summaries, or whole jobs up to a bound, however long their answers are.
#[tokio::test(flavor = "multi_thread")]
async fn listings_are_bounded_in_bytes() {
    let gateway = Gateway::mean(Options::default());
    let input = format!("ok {}", "x".repeat(50_000));
    let mut submitted = Vec::new();
    for _ in 0..60 {
        submitted.push(gateway.submit_mean(&input).await);
    }
    for job_id in &submitted {
        gateway.events(job_id).await;
    }
    let page = gateway.get("/api/v1/jobs?page_size=60").await;
    assert!(page.body.len() < 100_000, "{} bytes of summaries", page.body.len());
    let jobs = page.json()["jobs"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 60);
    for job in &jobs {
        assert_eq!(job["is_summary"], true);
        assert!(
            job.get("task").is_none() && job.get("result").is_none() && job["end_time"].is_string(),
            "{job}"
        );
    }
    // Whole ones by pages of 2 MiB, nothing left out and nothing twice; within what gRPC clients take.
    let mut client = gateway.grpc().await;
    let mut request =
        pb::ListJobsRequest { page_size: 60, view: pb::JobView::Full as i32, ..Default::default() };
    let (mut listed, mut pages) = (Vec::new(), 0);
    loop {
        let page = client.list_jobs(request.clone()).await.unwrap().into_inner();
        pages += 1;
        for job in page.jobs {
            assert!(job.task.is_some() && job.outcome.is_some() && !job.is_summary);
            listed.push(job.job_id);
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    listed.reverse();
    assert_eq!(listed, submitted);
    assert!(pages > 1, "one page holds less than all");
    assert_eq!(gateway.get("/api/v1/jobs?view=all").await.status, 400);
}

/// A job is recognised by its title, in a listing too, and found by it: while it runs, after its end, after a restart.
#[tokio::test]
async fn a_listing_shows_and_finds_jobs_by_their_title() {
    let gateway = Gateway::start();
    let labels = json!({"team": "Billing"});
    let command = gateway.submit(&json!({"command": "list\n the  agents", "labels": labels})).await;
    let run =
        gateway.submit(&json!({"agent_id": "CodeReviewer_Agent", "input_text": "Find the Ümlaut"})).await;
    let call = gateway.submit(&json!({"tool": "get_system_config", "arguments": {}})).await;
    for job_id in [&command, &run, &call] {
        gateway.events(job_id).await;
    }
    let gateway = gateway.crash_and_restart();
    let listed = gateway.get("/api/v1/jobs").await.json();
    let titles: Vec<&Value> = listed["jobs"].as_array().unwrap().iter().map(|job| &job["title"]).collect();
    assert_eq!(titles, ["get_system_config", "CodeReviewer_Agent: Find the Ümlaut", "list the agents"]);
    assert_eq!(gateway.job(&run).await["title"], titles[1].clone());
    for (text, found) in [
        ("%C3%BCmlaut", vec![&run]),
        ("AGENT", vec![&run, &command]),
        ("team:billing", vec![&command]),
        ("nothing", vec![]),
    ] {
        let listed = gateway.listed(&format!("text={text}")).await;
        assert_eq!(listed.iter().collect::<Vec<_>>(), found, "{text}");
    }
    let request = pb::ListJobsRequest { text: "SYSTEM".into(), ..Default::default() };
    let listed = gateway.grpc().await.list_jobs(request).await.unwrap().into_inner();
    assert_eq!(listed.jobs.iter().map(|job| &job.job_id).collect::<Vec<_>>(), [&call]);
    let printed = crate::cli::run(
        &["jobs", "list", "--text", "ümlaut", "--server", &gateway.url()],
        Some(gateway.directory.path()),
    );
    assert_eq!(printed.stdout.lines().count(), 2, "{}", printed.stdout);
}

/// The Rust client: a run over a restart, its whole answer, a question, a cancellation, a failure with its reason.
#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_follows_over_a_restart() {
    use conductor_gateway::client::{Client, Followed};
    let port = {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        probe.local_addr().unwrap().port()
    };
    let gateway = Gateway::mean(Options::default().set("server.port", port));
    let client = Client::connect(&gateway.url()).await.unwrap();
    let agent = |input: &str| pb::Task {
        task: Some(pb::task::Task::AgentRun(pb::AgentRun {
            agent_id: "Mean_Agent".into(),
            input_text: input.into(),
        })),
    };
    let answer = client.run(agent("long 300000"), pb::TaskOptions::default()).await.unwrap();
    assert!(answer.len() > 290_000, "{}", answer.len());
    let failed = client.run(agent("status 3"), pb::TaskOptions::default()).await.unwrap_err();
    assert_eq!(failed.reason(), conductor_gateway::error::Reason::EngineFailed);
    let job = client.submit(agent("hang"), pb::TaskOptions::default()).await.unwrap();
    let mut events = client.follow(&job.job_id, 0);
    let Some(Followed::Event(first)) = events.next().await.unwrap() else { panic!("no event") };
    assert_eq!((first.sequence, events.last_sequence()), (1, 1));
    let gateway = gateway.crash_and_restart();
    let (mut seen, mut cuts) = (vec![1], 0);
    while let Some(followed) = events.next().await.unwrap() {
        match followed {
            Followed::Event(event) => seen.push(event.sequence),
            Followed::Cut => cuts += 1,
        }
    }
    assert_eq!(seen, (1..=seen.len() as u32).collect::<Vec<_>>());
    assert!(cuts > 0 && gateway.job(&job.job_id).await["state"] == "INTERRUPTED");
    let listed = gateway.listed("state=SUCCEEDED").await;
    let long = listed[0].clone();
    let mut gateway = gateway;
    gateway.crash();
    let reading = tokio::spawn({
        let client = client.clone();
        async move { client.result(&long).await }
    });
    let _gateway = tokio::task::spawn_blocking(move || gateway.restart()).await.unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), answer, "an answer is read over a restart");
    let session = pb::Task {
        task: Some(pb::task::Task::ToolCall(pb::ToolCall {
            tool: "start_interactive_session".into(),
            arguments: Some(pb::Json { text: r#"{"agent_id": "Mean_Agent", "initial_input": "ok"}"#.into() }),
        })),
    };
    let session = client.submit(session, pb::TaskOptions::default()).await.unwrap();
    let mut events = client.follow(&session.job_id, 0);
    let asked = loop {
        let Some(Followed::Event(event)) = events.next().await.unwrap() else { panic!("it asks") };
        if let Some(pb::job_event::Payload::InputRequired(asked)) = event.payload {
            break asked.input_id;
        }
    };
    client.answer(&session.job_id, &asked, &json!("more")).await.unwrap();
    let cancelled = client.cancel(&session.job_id, Duration::from_secs(10)).await.unwrap();
    assert_eq!(cancelled.state(), pb::JobState::Cancelled);
}
