//! Retention by age, number and bytes while jobs are written and read: readers and appends notice nothing, and the disk
//! stays bounded.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    checker::{check_events, run},
    scenario::{Scenario, size},
    support::{Gateway, Options, SseReader, eventually, send},
};

fn disk_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            // Removed meanwhile.
            Err(_) => 0,
        })
        .sum()
}

/// One job after another, each read to its end while it runs.
async fn write_and_read(address: String, worker: usize, until: Instant) -> usize {
    let mut jobs = 0;
    while Instant::now() < until {
        jobs += 1;
        let body = run("flood 1", &format!("w{worker}")).to_string().into_bytes();
        let headers = [("content-type", "application/json")];
        let accepted = send(&address, "POST", "/api/v1/stream-execute", &headers, Some(body)).await;
        assert_eq!(accepted.status, 200, "{}", accepted.text());
        let job_id = accepted.json()["job_id"].as_str().unwrap().to_owned();
        let events = SseReader::open(&address, &job_id, 0).await.rest().await;
        check_events(&job_id, &events);
    }
    jobs
}

/// What the store knows of jobs does not grow with those that are gone.
async fn check_the_catalogue(jobs: usize) -> String {
    let options = Options::default()
        .set("jobs.retention_max_jobs", 20)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Gateway::mean(options);
    let catalogue = gateway.path("conductor-data/catalogue");
    let mut most = 0;
    for _ in 0..jobs.div_ceil(20) {
        let call = json!({"tool": "get_system_config", "arguments": {}});
        let calls = (0..20).map(|_| gateway.post("/execute", &call));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        most = most.max(std::fs::metadata(&catalogue).unwrap().len());
    }
    let largest = 1_600 * 400;
    assert!(most < largest, "{most} bytes of catalogue for 20 jobs");
    // Retention looks when a job has ended, and not before it is answered.
    let kept = async || gateway.listed("state=SUCCEEDED").await.len() <= 20;
    eventually(Duration::from_secs(10), "retention leaves as many as it allows", kept).await;
    let gateway = gateway.crash_and_restart();
    assert!(!gateway.log.lock().unwrap().contains("damaged"));
    for job_id in gateway.listed("state=SUCCEEDED").await {
        check_events(&job_id, &gateway.events(&job_id).await);
    }
    format!("{jobs} jobs, 20 of them kept, took at most {} KiB", most >> 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn retention() {
    const MAX_BYTES: u64 = 12 << 20;
    const WRITERS: usize = 3;
    let scenario = Scenario::begin("retention").await;
    let options = Options::default()
        .set("jobs.retention_max_bytes", MAX_BYTES)
        .set("jobs.retention_max_jobs", 1_000)
        .set("server.stall_timeout_seconds", 300)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Gateway::mean(options);
    let duration = Duration::from_secs(size(15, 60));
    let until = Instant::now() + duration;
    // Opened before it is removed, read slowly, and whole all the same.
    let slow = gateway.submit(&run("flood 8", "slow")).await;
    gateway.events(&slow).await;
    let mut slow_reader = gateway.sse(&slow, 0).await;
    let mut slow_events: Vec<Value> = vec![slow_reader.next().await.unwrap()];
    let mut writers = JoinSet::new();
    for worker in 0..WRITERS {
        writers.spawn(write_and_read(gateway.address.clone(), worker, until));
    }
    let store = gateway.path("conductor-data/jobs");
    let (mut most, mut written) = (0, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while !writers.is_empty() {
        tokio::select! {
            jobs = writers.join_next() => written += jobs.unwrap().unwrap(),
            _ = tick.tick() => most = most.max(disk_bytes(&store)),
        }
    }
    // What runs is not ended yet, and what ends is removed a moment later.
    let bound = MAX_BYTES + (WRITERS as u64 + 1) * (3 << 20);
    assert!(most <= bound, "{most} bytes on disk");
    assert!(most >= MAX_BYTES / 2, "and what may stay stays: {most}");
    slow_events.extend(slow_reader.rest().await);
    check_events(&slow, &slow_events);
    assert_eq!(gateway.get(&format!("/api/v1/stream/{slow}")).await.status, 404, "it was removed meanwhile");
    eventually(Duration::from_secs(40), "the disk is back within its bound", async || {
        disk_bytes(&store) <= MAX_BYTES
    })
    .await;
    let total = written as u64 * (1 << 20);
    assert!(total > 2 * MAX_BYTES, "enough was written: {total}");
    // By number, and by age.
    for (key, value) in [("jobs.retention_max_jobs", 5), ("jobs.retention_seconds", 2)] {
        let by = Gateway::mean(Options::default().set("jobs.retention_seconds", 30).set(key, value));
        let mut jobs = Vec::new();
        for number in 0..12 {
            let job_id = by.submit(&run("ok", &format!("n{number}"))).await;
            by.events(&job_id).await;
            jobs.insert(0, job_id);
        }
        let running = by.submit(&run("hang", "running")).await;
        let expected = &jobs[..if value == 5 { 5 } else { 0 }];
        eventually(
            Duration::from_secs(20),
            "the oldest ended jobs are removed, and only those",
            async || by.listed("state=SUCCEEDED").await == expected,
        )
        .await;
        assert_eq!(by.job(&running).await["state"], "RUNNING", "one that runs is never removed");
    }
    let catalogue = check_the_catalogue(size(1_200, 5_000)).await;
    scenario.report(format_args!(
        "{written} MiB written by {WRITERS} in {duration:?} with a bound of {} MiB: at most {} MiB on disk, back within it; a \
         reader of a removed job had it whole; by number and age too; the catalogue of {catalogue}",
        MAX_BYTES >> 20,
        most >> 20
    ));
}
