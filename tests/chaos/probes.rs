//! Whatever is stuck, full or taken, a probe is answered; and a stuck store holds up neither a cancel nor a time limit.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    checker::{check_job, run},
    disk::Disk,
    scenario::{Scenario, percentile, size},
    support::{Gateway, Options, alive_with, eventually, send, try_send},
};

/// So much later than a bare answer, 99 of 100 times.
const DELAY: Duration = Duration::from_millis(50);

/// A server that answers anything, and does nothing else.
async fn bare_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _asked = stream.read(&mut request).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _answered = stream.write_all(answer).await;
            });
        }
    });
    address
}

/// Asks so often, turn by turn with a bare server. Answers with both p99.
async fn probe(gateway: &Gateway, bare: &str, what: &str) -> (Duration, Duration) {
    // A machine that was busy with something else for a while gets a second chance.
    for attempt in 0.. {
        let (mut probes, mut bares) = (Vec::new(), Vec::new());
        for _ in 0..size(200, 1_000) {
            for (address, times) in [(gateway.address.as_str(), &mut probes), (bare, &mut bares)] {
                let begun = Instant::now();
                assert_eq!(send(address, "GET", "/health/live", &[], None).await.status, 200, "{what}");
                times.push(begun.elapsed());
            }
        }
        let (probes, bares) = (percentile(&mut probes, 99), percentile(&mut bares, 99));
        if probes < bares + DELAY {
            return (probes, bares);
        }
        assert!(attempt < 2, "{what}: a probe took {probes:?}, a bare answer {bares:?}");
    }
    unreachable!()
}

/// Submits for as long as it is wanted, by many clients at once.
fn submit_on(gateway: &Gateway) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..16 {
        let address = gateway.address.clone();
        clients.spawn(async move {
            loop {
                let body = run("ok", &format!("s{number}")).to_string().into_bytes();
                let headers = [("content-type", "application/json")];
                let _answer =
                    try_send(&address, "POST", "/api/v1/stream-execute", &headers, Some(body)).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    clients
}

async fn running(gateway: &Gateway) -> Value {
    gateway.get("/api/v1/info").await.json()["running_jobs"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_store() {
    let scenario = Scenario::begin("stuck_store").await;
    let (disk, bare) = (Disk::new(), bare_server().await);
    let gateway = disk.start(Options::default().set("conductor.kill_grace_seconds", 1));
    let kept = gateway.submit(&run("ok", "kept")).await;
    let kept_events = gateway.events(&kept).await;
    // One that will be cancelled and one that will time out; both say something all the time.
    let cancelled = gateway.submit(&run("flood 32", "cancelled")).await;
    let mut body = run("flood 32", "late");
    body["timeout_seconds"] = json!(2);
    let late = gateway.submit(&body).await;
    let (mut one, mut other) = (gateway.sse(&cancelled, 0).await, gateway.sse(&late, 0).await);
    one.until("on_tool_output").await;
    other.until("on_tool_output").await;
    disk.is_stuck(true);
    let stuck = Instant::now();
    let submitters = submit_on(&gateway);
    let path = format!("/api/v1/jobs/{cancelled}/cancel");
    let address = gateway.address.clone();
    let cancel = tokio::spawn(async move {
        try_send(&address, "POST", &path, &[("content-type", "application/json")], Some(b"{}".to_vec())).await
    });
    eventually(Duration::from_secs(15), "both engines are gone", async || {
        alive_with(&cancelled).is_empty() && alive_with(&late).is_empty()
    })
    .await;
    let ended_within = stuck.elapsed();
    let (probes, bares) = probe(&gateway, &bare, "the store is stuck").await;
    // Both permits are given back, although the store has not heard of it.
    eventually(Duration::from_secs(15), "nothing runs", async || running(&gateway).await == json!(0)).await;
    drop(submitters);
    cancel.abort();
    disk.is_stuck(false);
    for (job_id, state, reason) in [(&cancelled, "CANCELLED", "CANCELLED"), (&late, "FAILED", "TIMED_OUT")] {
        let events = gateway.events(job_id).await;
        check_job(&gateway, job_id, &events).await;
        let job = gateway.job(job_id).await;
        assert_eq!((&job["state"], &job["error"]["reason"]), (&json!(state), &json!(reason)), "{job}");
    }
    assert_eq!(gateway.events(&kept).await, kept_events);
    let after = gateway.submit(&run("ok", "after")).await;
    check_job(&gateway, &after, &gateway.events(&after).await).await;
    scenario.report(format_args!(
        "a cancel and a time limit end their runs within {ended_within:.1?}, their ends are stored when it goes on; probes {probes:.1?} (p99), a \
         bare answer {bares:.1?}"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes() {
    let scenario = Scenario::begin("probes").await;
    let (disk, bare) = (Disk::new(), bare_server().await);
    let options = Options::default()
        .set("jobs.max_running", 4)
        .set("jobs.max_queued", 16)
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "error,conductor_gateway::cli=info")
        .after("ulimit -n 600");
    let gateway = disk.start(options);
    // Every permit, with work that says something all the time, and the queue.
    let mut jobs = Vec::new();
    loop {
        let answer =
            gateway.post("/api/v1/stream-execute", &run("flood 400", &format!("f{}", jobs.len()))).await;
        match answer.status {
            200 => jobs.push(answer.json()["job_id"].as_str().unwrap().to_owned()),
            status => break assert_eq!(status, 429, "{}", answer.text()),
        }
    }
    let taken = probe(&gateway, &bare, "every permit is taken").await;
    disk.is_full(true);
    eventually(Duration::from_secs(20), "the disk is full", async || {
        gateway.get("/health/ready").await.status == 503
    })
    .await;
    let submitters = submit_on(&gateway);
    let full = probe(&gateway, &bare, "the disk is full").await;
    drop(submitters);
    // And every connection, with streams that are read.
    let mut held = Vec::new();
    loop {
        let mut stream = TcpStream::connect(&gateway.address).await.unwrap();
        let (job_id, address) = (jobs.last().unwrap(), &gateway.address);
        let request = format!("GET /api/v1/stream/{job_id} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        if &begun != b"HTTP/1.1 200" {
            break;
        }
        held.push(stream);
    }
    assert!(held.len() >= 300, "{} connections", held.len());
    // What one caller's streams leave, idle ones take.
    for _ in held.len()..600 {
        held.push(TcpStream::connect(&gateway.address).await.unwrap());
    }
    let all = probe(&gateway, &bare, "every connection is taken").await;
    drop(held);
    disk.is_full(false);
    for job_id in &jobs {
        gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
    }
    scenario.report(format_args!(
        "probes, p99, beside a bare answer's: every permit and place in the queue taken {:.1?} ({:.1?}), a full disk too {:.1?} ({:.1?}), every \
         connection too {:.1?} ({:.1?})",
        taken.0, taken.1, full.0, full.1, all.0, all.1
    ));
}
