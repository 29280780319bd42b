//! A thousand clients submit under one key, again and again until one answer comes, while the gateway crashes: one job,
//! one start.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conductor_gateway::pb;
use serde_json::json;
use tokio::sync::watch;

use crate::{
    checker::{check_job, check_starts, run},
    scenario::{Scenario, size},
    support::{Gateway, Options, try_send},
};

const CLIENTS: usize = 1_000;

/// Submits until there is an answer, wherever the gateway is by now.
async fn submit(
    mut address: watch::Receiver<String>,
    key: String,
    body: Vec<u8>,
    answered: Arc<AtomicUsize>,
) -> (String, usize) {
    let headers = [("content-type", "application/json"), ("idempotency-key", &key)];
    for attempt in 1.. {
        let at = address.borrow_and_update().clone();
        match try_send(&at, "POST", "/api/v1/stream-execute", &headers, Some(body.clone())).await {
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
                return (answer.json()["job_id"].as_str().unwrap().to_owned(), attempt);
            }
            // Gone, or going: the next one says where it is.
            Err(_) => drop(tokio::time::timeout(Duration::from_millis(100), address.changed()).await),
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency() {
    let mut scenario = Scenario::begin("idempotency").await;
    let options = Options::default().set("telemetry.log", "error,conductor_gateway::cli=info");
    let mut gateway = Gateway::mean(options);
    let (address, _) = watch::channel(gateway.address.clone());
    let rounds = size(3, 20);
    let (mut repeated, mut amid) = (0, 0);
    for round in 0..rounds {
        let key = format!("round-{round}");
        let body = run("sleep 50", &format!("c{round}")).to_string().into_bytes();
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(submit(address.subscribe(), key.clone(), body.clone(), answered.clone())))
            .collect();
        tokio::time::sleep(scenario.random.millis_below(400)).await;
        gateway.crash();
        let by_then = answered.load(Ordering::Relaxed);
        amid += usize::from(by_then > 0 && by_then < CLIENTS);
        gateway = gateway.restart();
        address.send_replace(gateway.address.clone());
        let mut jobs = BTreeSet::new();
        for client in clients {
            let (job_id, attempts) = client.await.unwrap();
            jobs.insert(job_id);
            repeated += attempts - 1;
        }
        assert_eq!(jobs.len(), 1, "one key is one job: {jobs:?}");
        check_job(&gateway, jobs.first().unwrap(), &[]).await;
        let listed = gateway.get("/api/v1/jobs?page_size=500").await.json();
        assert_eq!(listed["jobs"].as_array().unwrap().len(), round + 1, "and no other job came of it");
        // The same key for something else.
        let other = run("ok", "other").to_string().into_bytes();
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let refused = try_send(&gateway.address, "POST", "/api/v1/stream-execute", &headers, Some(other))
            .await
            .unwrap();
        assert_eq!((refused.status, &refused.json()["reason"]), (409, &json!("IDEMPOTENCY_CONFLICT")));
        let request = pb::SubmitJobRequest {
            task: Some(pb::Task { task: Some(pb::task::Task::Command("list the agents".into())) }),
            options: Some(pb::TaskOptions { idempotency_key: key, ..pb::TaskOptions::default() }),
        };
        let status = gateway.grpc().await.submit_job(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::AlreadyExists);
    }
    let starts = check_starts(gateway.directory.path());
    // One that the crash met between its start and its engine has none.
    assert!(starts <= rounds && starts > 0, "{starts} starts");
    assert!(amid > 0, "no crash came amid the answers");
    scenario.report(format_args!(
        "{rounds} keys, {CLIENTS} clients and a crash each, {amid} of them amid the answers, {repeated} submits repeated: {rounds} jobs, {starts} starts; \
         another body under the key refused"
    ));
}
