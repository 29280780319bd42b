//! Ten times more work than there is room for: the excess is refused at once and says when to come back, memory stays
//! flat, and a caller with little to do hardly notices the one with much.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use conductor_gateway::pb::{self, gateway_service_client::GatewayServiceClient};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    checker::{check_events, check_nothing_lives, run},
    scenario::{Scenario, percentile, resident_bytes, size},
    support::{Gateway, Options, send},
};

const MAX_RUNNING: u64 = 4;
const MAX_QUEUED: u64 = 40;
/// One job's work.
const JOB_TIME: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    refused: AtomicUsize,
    positions: AtomicUsize,
}

/// One submit of the greedy caller, through one door or the other. Answers with how long a refusal took.
async fn submit(
    address: String,
    mut grpc: GatewayServiceClient<Channel>,
    number: usize,
    counts: Arc<Counts>,
) -> Option<Duration> {
    let body = run(&format!("sleep {}", JOB_TIME.as_millis()), &format!("g{number}"));
    let started = Instant::now();
    let is_refused = if number.is_multiple_of(2) {
        let headers = [("content-type", "application/json"), ("x-caller", "greedy")];
        let answer =
            send(&address, "POST", "/api/v1/stream-execute", &headers, Some(body.to_string().into_bytes()))
                .await;
        if answer.status == 429 {
            assert_eq!(answer.json()["reason"], "QUEUE_FULL");
            assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        } else {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let path = format!("/api/v1/jobs/{}", answer.json()["job_id"].as_str().unwrap());
            let job = send(&address, "GET", &path, &[("x-caller", "greedy")], None).await.json();
            if let Some(position) = job["queue_position"].as_u64() {
                assert!((1..=MAX_QUEUED).contains(&position), "{job}");
                counts.positions.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer.status == 429
    } else {
        let call = pb::ToolCall {
            tool: "execute_agent_contextual".to_owned(),
            arguments: Some(pb::Json::from_value(&body["arguments"])),
        };
        let conversation_id = body["conversation_id"].as_str().unwrap().to_owned();
        let mut request = tonic::Request::new(pb::SubmitJobRequest {
            task: Some(pb::Task { task: Some(pb::task::Task::ToolCall(call)) }),
            options: Some(pb::TaskOptions { conversation_id, ..pb::TaskOptions::default() }),
        });
        request.metadata_mut().insert("x-caller", "greedy".parse().unwrap());
        match grpc.submit_job(request).await {
            Ok(_) => false,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                let details = status.get_error_details();
                assert!(details.retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(1));
                true
            }
        }
    };
    let counter = if is_refused { &counts.refused } else { &counts.accepted };
    counter.fetch_add(1, Ordering::Relaxed);
    is_refused.then(|| started.elapsed())
}

/// The modest caller's job: always taken. Answers with how long it waited for its start.
async fn modest(address: String, number: usize) -> Duration {
    let body = run("ok", &format!("m{number}")).to_string().into_bytes();
    let headers = [("content-type", "application/json"), ("x-caller", "modest")];
    let started = Instant::now();
    let answer = send(&address, "POST", "/api/v1/stream-execute", &headers, Some(body)).await;
    assert_eq!(answer.status, 200, "nobody fills the queue alone: {}", answer.text());
    let path = format!("/api/v1/stream/{}", answer.json()["job_id"].as_str().unwrap());
    let text = send(&address, "GET", &path, &[("x-caller", "modest")], None).await.text();
    let took = started.elapsed();
    assert!(text.contains("\"end_of_stream\"") && text.contains("SUCCEEDED"), "{text}");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn overload() {
    let scenario = Scenario::begin("overload").await;
    let options = Options::default()
        .set("jobs.max_running", MAX_RUNNING)
        .set("jobs.max_queued", MAX_QUEUED)
        .set("jobs.retention_max_jobs", 200)
        .set("auth.caller_header", "x-caller")
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Gateway::mean(options);
    let grpc = gateway.grpc().await;
    let duration = Duration::from_secs(size(8, 60));
    // Jobs that come for each that can be done.
    let offered = 10 * u32::try_from(MAX_RUNNING).unwrap();
    let mut tick = tokio::time::interval(JOB_TIME / offered);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let counts = Arc::new(Counts::default());
    let (mut greedy, mut modest_jobs) = (JoinSet::new(), JoinSet::new());
    let (mut refusals, mut memory) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let mut number = 0;
    while started.elapsed() < duration {
        tick.tick().await;
        number += 1;
        greedy.spawn(submit(gateway.address.clone(), grpc.clone(), number, counts.clone()));
        if number.is_multiple_of(100) {
            modest_jobs.spawn(modest(gateway.address.clone(), number));
            memory.push(resident_bytes(gateway.pid()));
        }
        while let Some(ended) = greedy.try_join_next() {
            refusals.extend(ended.unwrap());
        }
    }
    refusals.extend(greedy.join_all().await.into_iter().flatten());
    let mut waits = modest_jobs.join_all().await;
    let (accepted, refused) =
        (counts.accepted.load(Ordering::Relaxed), counts.refused.load(Ordering::Relaxed));
    assert!(refused > 5 * accepted, "{accepted} accepted, {refused} refused");
    assert!(counts.positions.load(Ordering::Relaxed) > 0, "a waiting job says its position");
    let refusal = percentile(&mut refusals, 99);
    assert!(refusal < Duration::from_millis(250), "a refusal took {refusal:?}");
    // In turn: at most one job of the other's before each of one's own, and there are four places.
    let (usual, longest) = (percentile(&mut waits, 50), percentile(&mut waits, 100));
    assert!(longest < JOB_TIME * 8, "a modest caller waited {longest:?}");
    // Once the pools are warm.
    let (early, late) = (memory[memory.len() / 3], *memory.last().unwrap());
    assert!(late < early + (12 << 20), "memory grew from {early} to {late}: {memory:?}");
    // What was accepted is done, and the queued ones said where they stood.
    let listed =
        send(&gateway.address, "GET", "/api/v1/jobs?page_size=100", &[("x-caller", "greedy")], None).await;
    let mut told = 0;
    for job in listed.json()["jobs"].as_array().unwrap() {
        let job_id = job["job_id"].as_str().unwrap();
        let path = format!("/api/v1/stream/{job_id}");
        let text = send(&gateway.address, "GET", &path, &[("x-caller", "greedy")], None).await.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<serde_json::Value> = data.map(|line| serde_json::from_str(line).unwrap()).collect();
        check_events(job_id, &events);
        let position = events[0]["data"]["queue_position"].as_u64();
        assert!(events[0]["event"] == "job_started" || position > Some(0), "{:?}", events[0]);
        told += usize::from(position > Some(0));
    }
    assert!(told > 0, "a waiting job's events say its position");
    check_nothing_lives(&gateway).await;
    scenario.report(format_args!(
        "ten times the capacity for {duration:?}: {accepted} taken, {refused} refused within {refusal:.1?} (p99); the \
         other caller's {} jobs all taken, done within {usual:.0?} (median), {longest:.0?} (longest); memory {:+} KiB",
        waits.len(),
        (late as i64 - early as i64) / 1024
    ));
}
