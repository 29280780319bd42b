//! What callers share: greedy ones keep a third from nothing, what waits holds nothing, and a gateway that is full of
//! connections answers.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    checker::{check_nothing_lives, run},
    scenario::{Scenario, percentile, size},
    support::{Answer, Gateway, Options, SseReader, eventually, send, try_send},
};

/// A caller's job may begin so much later beside others than alone.
const DELAY: Duration = Duration::from_millis(100);
const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn submit(address: &str, caller: &str, body: &Value) -> Answer {
    let headers = [JSON, ("x-caller", caller)];
    send(address, "POST", "/api/v1/stream-execute", &headers, Some(body.to_string().into_bytes())).await
}

fn job_id_of(answer: &Answer) -> String {
    answer.json()["job_id"].as_str().unwrap().to_owned()
}

/// How long one caller's jobs take from their submit to their start, one after another; each is done before the next.
async fn begin_times(
    address: &str,
    caller: &str,
    count: usize,
    name: &str,
) -> (Vec<Duration>, BTreeSet<String>) {
    let (mut times, mut jobs) = (Vec::new(), BTreeSet::new());
    for number in 0..count {
        let begun = Instant::now();
        let accepted = submit(address, caller, &run("ok", &format!("{name}{number}"))).await;
        assert_eq!(accepted.status, 200, "nothing of a modest caller's is refused: {}", accepted.text());
        let job_id = job_id_of(&accepted);
        let mut reader = SseReader::try_open_as(address, &job_id, 0, &[("x-caller", caller)]).await.unwrap();
        assert_eq!(reader.status, 200);
        reader.until("job_started").await;
        times.push(begun.elapsed());
        reader.until("end_of_stream").await;
        jobs.insert(job_id);
    }
    (times, jobs)
}

async fn open_session(mcp: &str, caller: &str) -> Option<String> {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let headers = [ACCEPT, JSON, ("x-caller", caller)];
    let opened = send(mcp, "POST", "/mcp", &headers, Some(body.to_string().into_bytes())).await;
    let id = opened.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    let is_refused = [429, 503].contains(&opened.status);
    assert!(opened.status == 200 || is_refused, "{}", opened.text());
    id.filter(|_| !is_refused)
}

async fn ping(mcp: &str, caller: &str, session: &str) -> u16 {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string().into_bytes();
    let headers = [ACCEPT, JSON, ("x-caller", caller), ("mcp-session-id", session)];
    send(mcp, "POST", "/mcp", &headers, Some(body)).await.status
}

/// Takes all that it can get of everything, until it is told to stop.
struct Greedy {
    address: String,
    mcp: String,
    name: &'static str,
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Greedy {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn pause(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Fills what runs and waits.
    async fn jobs(&self) {
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let body = run("sleep 2000", &format!("{}{number}", self.name));
            if submit(&self.address, self.name, &body).await.status == 429 {
                self.pause().await;
            }
        }
    }

    /// Fills what is kept of ended jobs.
    async fn ended(&self) {
        while self.goes_on() {
            let body = json!({"tool": "get_system_config", "arguments": {}});
            let answer = submit(&self.address, self.name, &body).await;
            if answer.status != 200 {
                self.pause().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Holds every stream that it is given of one job.
    async fn streams(&self, watched: String) {
        let mut held = Vec::new();
        while self.goes_on() {
            let opened = SseReader::try_open_as(&self.address, &watched, 0, &[("x-caller", self.name)]).await;
            match opened {
                Ok(reader) if reader.status == 200 => held.push(reader),
                _ => self.pause().await,
            }
        }
        let path = format!("/api/v1/jobs/{watched}/cancel");
        let _left =
            try_send(&self.address, "POST", &path, &[("x-caller", self.name), JSON], Some(b"{}".to_vec()))
                .await;
    }

    /// Holds every session that it is given.
    async fn sessions(&self) {
        while self.goes_on() {
            if open_session(&self.mcp, self.name).await.is_none() {
                self.pause().await;
            }
        }
    }
}

/// Two greedy callers on everything that is shared: a third's job begins as soon as it would without them, and nothing of the third's
/// is refused, evicted or removed.
#[tokio::test(flavor = "multi_thread")]
async fn starvation() {
    let scenario = Scenario::begin("starvation").await;
    let jobs = size(20, 300);
    let options = Options::default()
        .set("auth.caller_header", "x-caller")
        .set("jobs.max_running", 8)
        .set("jobs.max_queued", 40)
        // Of which a third is more than the third caller has.
        .set("jobs.retention_max_jobs", 15 * jobs)
        .set("server.max_streams", 64)
        .set("server.mcp_max_sessions", 16)
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Gateway::mean(options);
    let mcp = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    // The first ones find everything cold.
    begin_times(&gateway.address, "third", 5, "first").await;
    let (mut alone, mut kept) = begin_times(&gateway.address, "third", jobs, "alone").await;
    let alone = percentile(&mut alone, 99);
    let session = open_session(&mcp, "third").await.unwrap();
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut greedy = JoinSet::new();
    let callers = ["first", "second"].map(|name| {
        let (stop, refused) = (stop.clone(), refused.clone());
        Arc::new(Greedy { address: gateway.address.clone(), mcp: mcp.clone(), name, stop, refused })
    });
    let mut watched = Vec::new();
    for caller in &callers {
        watched.push(job_id_of(&submit(&gateway.address, caller.name, &run("hang", caller.name)).await));
        greedy.spawn({
            let caller = caller.clone();
            async move { caller.jobs().await }
        });
        greedy.spawn({
            let caller = caller.clone();
            async move { caller.ended().await }
        });
    }
    // Whoever holds all the streams cannot submit either, so the queue is filled before the streams are.
    eventually(Duration::from_secs(60), "all runs, and all places in the queue, are taken", async || {
        let info = send(&gateway.address, "GET", "/api/v1/info", &[("x-caller", "third")], None).await.json();
        info["running_jobs"].as_u64() >= Some(6) && info["queued_jobs"].as_u64() >= Some(30)
    })
    .await;
    let before = refused.load(Ordering::Relaxed);
    for (caller, watched) in callers.into_iter().zip(watched) {
        greedy.spawn({
            let caller = caller.clone();
            async move { caller.streams(watched).await }
        });
        greedy.spawn(async move { caller.sessions().await });
    }
    eventually(Duration::from_secs(60), "there is nothing more to take", async || {
        refused.load(Ordering::Relaxed) > before + 40
    })
    .await;
    let mut beside = Duration::MAX;
    // A machine that was busy with something else for a while gets a second chance.
    for attempt in 0..3 {
        let (mut times, more) =
            begin_times(&gateway.address, "third", jobs, &format!("beside{attempt}-")).await;
        kept.extend(more);
        beside = percentile(&mut times, 99);
        if beside < alone + DELAY {
            break;
        }
    }
    assert!(beside < alone + DELAY, "a third's jobs began after {beside:?}, {alone:?} without the others");
    assert_eq!(ping(&mcp, "third", &session).await, 200, "its session lives");
    for job_id in &kept {
        let path = format!("/api/v1/jobs/{job_id}");
        let job = send(&gateway.address, "GET", &path, &[("x-caller", "third")], None).await;
        assert_eq!(job.status, 200, "its jobs are kept: {}", job.text());
    }
    stop.store(true, Ordering::Relaxed);
    greedy.join_all().await;
    let refused = refused.load(Ordering::Relaxed);
    scenario.report(format_args!(
        "two callers take all that they are given ({refused} refusals): a third's jobs begin after {beside:.1?} (p99), {alone:.1?} without \
         them; none of its {} jobs, streams and sessions refused, ended or removed",
        kept.len()
    ));
}

/// A crowd that waits for one agent, and open sessions that wait for people, keep nobody from running.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_holds_nothing() {
    let scenario = Scenario::begin("waiting").await;
    let options = Options::default()
        .set("auth.caller_header", "x-caller")
        .set("jobs.max_running", 4)
        .set("jobs.max_queued", 400)
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Gateway::mean(options);
    let jobs = size(20, 300);
    begin_times(&gateway.address, "other", 5, "first").await;
    let (mut alone, _) = begin_times(&gateway.address, "other", jobs, "alone").await;
    let alone = percentile(&mut alone, 99);
    let never = gateway.path("never");
    let mut waiting = Vec::new();
    // One that runs, and a crowd behind it, of the same caller.
    for _ in 0..size(50, 250) {
        let body = json!({"agent_id": "Mean_Agent", "input_text": format!("two-parts {}", never.display())});
        let accepted = submit(&gateway.address, "crowd", &body).await;
        assert_eq!(accepted.status, 200, "{}", accepted.text());
        waiting.push(job_id_of(&accepted));
    }
    // More sessions than may run, each with a person who does not answer.
    let sessions = size(12, 45);
    for number in 0..sessions {
        let body = json!({
            "tool": "start_interactive_session", "conversation_id": format!("s{number}"),
            "arguments": {"agent_id": "Mean_Agent"},
        });
        let accepted = submit(&gateway.address, "crowd", &body).await;
        let job_id = job_id_of(&accepted);
        let mut reader =
            SseReader::try_open_as(&gateway.address, &job_id, 0, &[("x-caller", "crowd")]).await.unwrap();
        reader.until("input_required").await;
        waiting.push(job_id);
    }
    let mut beside = Duration::MAX;
    for attempt in 0..3 {
        let (mut times, _) = begin_times(&gateway.address, "other", jobs, &format!("beside{attempt}-")).await;
        beside = percentile(&mut times, 99);
        if beside < alone + DELAY {
            break;
        }
    }
    assert!(
        beside < alone + DELAY,
        "another caller's jobs began after {beside:?}, {alone:?} without the crowd"
    );
    // The crowd's own are not held up by it either.
    let (own, _) = begin_times(&gateway.address, "crowd", 3, "own").await;
    let slowest = own.into_iter().max().unwrap();
    assert!(slowest < Duration::from_secs(5), "an own job of another agent's began after {slowest:?}");
    for job_id in &waiting {
        let path = format!("/api/v1/jobs/{job_id}/cancel");
        send(&gateway.address, "POST", &path, &[("x-caller", "crowd"), JSON], Some(b"{}".to_vec())).await;
    }
    check_nothing_lives(&gateway).await;
    scenario.report(format_args!(
        "{} runs of one agent and {sessions} open sessions wait, 4 may run: another caller's jobs begin after {beside:.1?} (p99), {alone:.1?} \
         without them",
        waiting.len() - sessions
    ));
}

/// A connection that reads a job's events, as raw as it gets.
async fn watcher(address: &str, job_id: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /api/v1/stream/{job_id} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.ok()?;
    (&begun == b"HTTP/1.1 200").then_some(stream)
}

/// An idle connection of HTTP/2: the preface and the settings (RFC 9113, section 3.4), and nothing else.
async fn idle_http2(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream
}

/// Four fifths of the descriptors are connections, on both ports together. Beyond that everybody is answered, probes with what they ask
/// for; idle connections go for those that ask something.
#[tokio::test(flavor = "multi_thread")]
async fn connections() {
    let scenario = Scenario::begin("connections").await;
    let (descriptors, expected): (usize, usize) = size((4_000, 3_200), (20_000, 16_000));
    let options = Options::default()
        .set("telemetry.log", "error,conductor_gateway::cli=info")
        .after(&format!("ulimit -n {descriptors}"));
    let gateway = Gateway::mean(options);
    let job_id = gateway.submit(&run("hang", "watched")).await;
    gateway.sse(&job_id, 0).await.until("on_tool_output").await;
    let (mut held, mut probes) = (Vec::new(), Vec::new());
    let mut probe = async || {
        let begun = Instant::now();
        assert_eq!(gateway.get("/health/live").await.status, 200);
        probes.push(begun.elapsed());
    };
    loop {
        match watcher(&gateway.address, &job_id).await {
            Some(stream) => held.push(stream),
            None => break,
        }
        if held.len().is_multiple_of(100) {
            probe().await;
        }
    }
    let carried = held.len();
    assert!(carried >= expected - 5 && carried <= expected, "{carried} connections carried");
    for _ in 0..100 {
        probe().await;
        let refused = gateway.get("/api/v1/jobs").await;
        assert_eq!((refused.status, &refused.json()["reason"]), (503, &json!("TOO_MANY_CONNECTIONS")));
    }
    drop(held);
    // As many that are idle hold nobody up.
    eventually(Duration::from_secs(30), "the readers are gone", async || {
        gateway.get("/api/v1/jobs").await.status == 200
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..expected {
        idle.push(idle_http2(&gateway.address).await);
    }
    eventually(Duration::from_secs(10), "an idle one goes for one that asks", async || {
        gateway.get("/api/v1/jobs").await.status == 200
    })
    .await;
    for _ in 0..50 {
        probe().await;
        assert_eq!(gateway.get("/api/v1/jobs").await.status, 200);
    }
    let slowest = percentile(&mut probes, 99);
    assert!(slowest < Duration::from_millis(250), "a probe took {slowest:?}");
    gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
    drop(idle);
    scenario.report(format_args!(
        "{descriptors} descriptors carry {carried} connections that read; beyond them 100 of 100 were told to come back, and beside \
         {expected} idle ones of HTTP/2 50 of 50 were served; {} probes all answered, within {slowest:.1?} (p99)",
        probes.len()
    ));
}
