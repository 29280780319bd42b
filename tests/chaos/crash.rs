//! kill -9 at random moments, again and again: what a client has seen is there, every accepted job ends once, no engine is
//! started twice for one job, nothing is left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use conductor_gateway::pb::{self, gateway_service_client::GatewayServiceClient};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    checker::{check_job, check_nothing_lives, check_starts, run},
    scenario::{Scenario, size},
    support::{Gateway, Options, SseReader, starts, try_send},
};

/// So many run at once.
const RUNNING: usize = 50;
/// And some wait.
const JOBS: usize = 60;
/// Every accepted job has ended this long after the restart; a run may take three seconds of it and its end another.
const RECOVERY: Duration = Duration::from_secs(10);

/// What one client saw of its job.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) sse: Vec<Value>,
    pub(crate) grpc: Vec<pb::JobEvent>,
}

pub(crate) type AllSeen = Arc<Mutex<BTreeMap<String, Seen>>>;

/// Submits, and reads for as long as there is somebody to read from.
pub(crate) async fn client(address: String, body: Value, by_grpc: bool, all: AllSeen) {
    let headers = [("content-type", "application/json")];
    let body = body.to_string().into_bytes();
    let accepted = try_send(&address, "POST", "/api/v1/stream-execute", &headers, Some(body)).await;
    let Ok(accepted) = accepted else { return };
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    let job_id = accepted.json()["job_id"].as_str().unwrap().to_owned();
    all.lock().unwrap().insert(job_id.clone(), Seen::default());
    let note = |use_it: &mut dyn FnMut(&mut Seen)| use_it(all.lock().unwrap().get_mut(&job_id).unwrap());
    if !by_grpc {
        let Ok(mut reader) = SseReader::try_open(&address, &job_id, 0).await else { return };
        while let Some(event) = reader.next().await {
            note(&mut |seen| seen.sse.push(event.clone()));
        }
        return;
    }
    let Ok(mut client) = GatewayServiceClient::connect(format!("http://{address}")).await else { return };
    let request = pb::WatchJobRequest { job_id: job_id.clone(), after_sequence: 0 };
    let Ok(frames) = client.watch_job(request).await else { return };
    let mut frames = frames.into_inner();
    while let Ok(Some(frame)) = frames.message().await {
        let Some(event) = frame.event else { continue };
        note(&mut |seen| seen.grpc.push(pb::JobEvent::decode(event.clone()).unwrap()));
    }
}

/// The engine's ledger and the events agree: what printed was started once, what was never said to start was not.
pub(crate) async fn check_ledger(gateway: &Gateway, job_ids: impl Iterator<Item = &String>) {
    let ledger = starts(gateway.directory.path());
    for job_id in job_ids {
        let events = gateway.events(job_id).await;
        let has = |wanted: &str| events.iter().any(|event| event["event"] == wanted);
        let starts = ledger.get(job_id).copied().unwrap_or(0);
        // The ledger is written before anything is printed.
        assert!(starts <= 1 && (starts == 1 || !has("on_tool_output")), "{job_id}: {starts} starts");
        assert!(starts == 0 || has("job_started"), "{job_id}: started, and no event says so");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash() {
    let mut scenario = Scenario::begin("crash").await;
    let options = Options::default()
        // A quarter of them is for others.
        .set("jobs.max_running", RUNNING + RUNNING / 3)
        .set("conductor.timeout", 3)
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let mut gateway = Gateway::mean(options);
    let (mut most_running, mut checked) = (0, BTreeSet::new());
    let (mut jobs, mut events_seen, mut events_kept, mut slowest) = (0, 0, 0, Duration::ZERO);
    let cycles = size(6, 100);
    for cycle in 0..cycles {
        let all = AllSeen::default();
        let mut clients = tokio::task::JoinSet::new();
        for job in 0..JOBS {
            let input = match scenario.random.below(7) {
                0 => "hang".to_owned(),
                1 => "escaped-grandchild".to_owned(),
                2 => "stubborn-grandchild".to_owned(),
                3 => "flood 1".to_owned(),
                4 => "json-error".to_owned(),
                _ => format!("sleep {}", scenario.random.below(400)),
            };
            let body = run(&input, &format!("c{cycle}-{job}"));
            clients.spawn(client(gateway.address.clone(), body, job % 2 == 1, all.clone()));
        }
        tokio::time::sleep(scenario.random.millis_below(800)).await;
        let running = gateway.get("/api/v1/info").await.json()["running_jobs"].as_u64().unwrap();
        // Now and then the guardian dies in the same moment, and nobody is left to end the engines.
        if scenario.random.below(4) == 0 {
            for pid in gateway.guardians() {
                let _gone = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
        let crashed = Instant::now();
        gateway = gateway.crash_and_restart();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        let all = std::mem::take(&mut *all.lock().unwrap());
        for job_id in all.keys() {
            assert_eq!(gateway.events(job_id).await.last().unwrap()["event"], "end_of_stream", "{job_id}");
        }
        slowest = slowest.max(crashed.elapsed());
        assert!(crashed.elapsed() < RECOVERY, "every job has ended after {:?}", crashed.elapsed());
        for (job_id, seen) in &all {
            events_kept += check_job(&gateway, job_id, &seen.sse).await;
            if !seen.grpc.is_empty() {
                assert_eq!(gateway.watch(job_id, 0).await[..seen.grpc.len()], seen.grpc, "{job_id}");
            }
            events_seen += seen.sse.len() + seen.grpc.len();
        }
        jobs += all.len();
        most_running = most_running.max(running);
        // Jobs too whose clients never read that they were accepted.
        for job_id in gateway.listed("").await {
            if !all.contains_key(&job_id) && checked.insert(job_id.clone()) {
                events_kept += check_job(&gateway, &job_id, &[]).await;
            }
        }
        check_ledger(&gateway, all.keys()).await;
        checked.extend(all.into_keys());
        check_nothing_lives(&gateway).await;
    }
    let starts = check_starts(gateway.directory.path());
    scenario.report(format_args!(
        "{cycles} crashes with up to {most_running} jobs running, {jobs} accepted, {events_seen} events seen and {events_kept} kept: 0 lost, 0 gaps, 0 \
         repeats; {starts} engines started, none twice; slowest recovery {slowest:.1?}"
    ));
}
