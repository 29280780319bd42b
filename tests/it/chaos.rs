//! kill -9 and cancels at random moments, again and again. The checker knows the public contract only:
//! what a client has seen is there, numbered without gaps; every accepted job ends once; no engine is started twice for
//! one job (the engine keeps the ledger); nothing is left behind.
//!
//! `CHAOS_CYCLES=100 cargo test --test it -- chaos --nocapture` is the long form. A failure prints its seed;
//! `CHAOS_SEED=n` makes the same choices again (the machine's timing stays its own).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    crash::find_logs,
    support::{Gateway, Options, SseReader, alive_with, eventually, try_send},
};

const JOBS: usize = 50;
/// Every accepted job has ended this long after the restart; a run may take three seconds of it and its end another.
const RECOVERY: Duration = Duration::from_secs(10);

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Says which seed it was when a check fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CHAOS_SEED={}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What one client saw of each of its jobs.
type Seen = Arc<Mutex<BTreeMap<String, Vec<Value>>>>;

/// Submits, and reads for as long as there is somebody to read from.
async fn client(address: String, body: Value, seen: Seen) {
    let headers = [("content-type", "application/json")];
    let body = body.to_string().into_bytes();
    let accepted = try_send(&address, "POST", "/api/v1/stream-execute", &headers, Some(body)).await;
    let Ok(accepted) = accepted else { return };
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    let job_id = accepted.json()["job_id"].as_str().unwrap().to_owned();
    seen.lock().unwrap().insert(job_id.clone(), Vec::new());
    let Ok(mut reader) = SseReader::try_open(&address, &job_id, 0).await else { return };
    while let Some(event) = reader.next().await {
        seen.lock().unwrap().get_mut(&job_id).unwrap().push(event);
    }
}

/// Every check of one job after a restart. Answers with the number of its events.
async fn check(gateway: &Gateway, job_id: &str, before: &[Value]) -> usize {
    let events = gateway.events(job_id).await;
    assert!(events.len() >= before.len(), "{job_id}: {} events seen, {} kept", before.len(), events.len());
    assert_eq!(events[..before.len()], *before, "{job_id}: what was seen is there");
    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(event["sequence"], sequence, "{job_id}: no sequence repeats or jumps");
    }
    let ends: Vec<&Value> = events.iter().filter(|event| event["event"] == "end_of_stream").collect();
    let outcomes =
        events.iter().filter(|event| ["result", "error"].contains(&event["event"].as_str().unwrap()));
    assert_eq!((ends.len(), outcomes.count()), (1, 1), "{job_id}: {events:?}");
    assert_eq!(events.last().unwrap()["event"], "end_of_stream", "{job_id}");
    assert_eq!(gateway.job(job_id).await["state"], ends[0]["data"]["state"], "{job_id}");
    events.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_at_random_moments_lose_nothing() {
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16 | 0x5eed);
    let _seed = Seed(seed);
    let mut random = Random(seed);
    let options = Options::default()
        .set("jobs.max_running", 30)
        .set("conductor.timeout", 3)
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let mut gateway = Gateway::mean(options);
    let home = gateway.path("conductor-data").display().to_string();
    let (mut jobs, mut events_seen, mut events_kept, mut slowest) = (0, 0, 0, Duration::ZERO);
    let cycles = number("CHAOS_CYCLES").unwrap_or(6);
    for cycle in 0..cycles {
        let seen = Seen::default();
        let mut clients = tokio::task::JoinSet::new();
        for job in 0..JOBS {
            let input = match random.below(7) {
                0 => "hang".to_owned(),
                1 => "escaped-grandchild".to_owned(),
                2 => "stubborn-grandchild".to_owned(),
                3 => "flood 1".to_owned(),
                4 => "json-error".to_owned(),
                _ => format!("sleep {}", random.below(400)),
            };
            // Each in a conversation of its own: one agent's runs wait for each other in one.
            let body = json!({
                "tool": "execute_agent_contextual",
                "arguments": {"agent_id": "Mean_Agent", "input_text": input},
                "conversation_id": format!("c{cycle}-{job}"),
            });
            clients.spawn(client(gateway.address.clone(), body, seen.clone()));
        }
        tokio::time::sleep(Duration::from_millis(random.below(800))).await;
        gateway = gateway.crash_and_restart();
        let restarted = Instant::now();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        for (job_id, before) in &seen {
            events_kept += check(&gateway, job_id, before).await;
            events_seen += before.len();
        }
        jobs += seen.len();
        slowest = slowest.max(restarted.elapsed());
        assert!(restarted.elapsed() < RECOVERY, "every job has ended after {:?}", restarted.elapsed());
        // Jobs too whose clients never read that they were accepted.
        eventually(RECOVERY, "no engine is left", async || {
            alive_with(&home).iter().all(|pid| *pid == gateway.pid())
        })
        .await;
    }
    let mut starts: BTreeMap<String, usize> = BTreeMap::new();
    for log in find_logs(gateway.directory.path()) {
        for job_id in std::fs::read_to_string(log).unwrap().lines() {
            *starts.entry(job_id.to_owned()).or_default() += 1;
        }
    }
    assert!(starts.values().all(|count| *count == 1), "started more than once: {starts:?}");
    println!(
        "{cycles} crashes, {jobs} jobs accepted, {events_seen} events seen and {events_kept} kept: 0 lost, 0 gaps, 0 \
         repeats; {} engines started, none twice; the slowest recovery took {slowest:?}",
        starts.len()
    );
}

/// Cancels at random moments, some before the start: afterwards nothing of the job lives, nothing follows its end, and it
/// is recorded who it was. `CHAOS_CANCELS=1000` is the long form.
#[tokio::test(flavor = "multi_thread")]
async fn cancels_at_random_moments_leave_nothing() {
    const GRACE: Duration = Duration::from_secs(1);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16 | 0xca9ce1);
    let _seed = Seed(seed);
    let mut random = Random(seed);
    let options = Options::default()
        // Fewer than ask for it, so that some are cancelled while they wait.
        .set("jobs.max_running", 18)
        .set("conductor.kill_grace_seconds", GRACE.as_secs())
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Arc::new(Gateway::mean(options));
    let cancels = number("CHAOS_CANCELS").unwrap_or(100);
    let mut running = tokio::task::JoinSet::new();
    let (mut never_started, mut slowest) = (0, Duration::ZERO);
    for number in 0..cancels {
        let inputs =
            ["hang", "ignore-term", "stubborn-grandchild", "escaped-grandchild", "daemon", "nameless-daemon"];
        let input = inputs[random.below(inputs.len() as u64) as usize];
        let wait = Duration::from_millis(random.below(80));
        let gateway = gateway.clone();
        running.spawn(async move {
            let body = json!({
                "tool": "execute_agent_contextual",
                "arguments": {"agent_id": "Mean_Agent", "input_text": input},
                "conversation_id": format!("c{number}"),
            });
            let job_id = gateway.submit(&body).await;
            tokio::time::sleep(wait).await;
            let asked = Instant::now();
            let path = format!("/api/v1/jobs/{job_id}/cancel");
            let job = gateway.post(&path, &json!({"wait_seconds": 20})).await.json();
            let took = asked.elapsed();
            // One whose engine ends by itself may have been faster.
            let is_cancelled = job["state"] == "CANCELLED";
            assert!(
                is_cancelled || (job["state"] == "SUCCEEDED" && input.ends_with("daemon")),
                "{input}: {job}"
            );
            if is_cancelled {
                assert_eq!(job["error"]["cancelled_by"], "local", "{job}");
            }
            assert!(alive_with(&job_id).is_empty(), "{input}: something of {job_id} lives");
            let events = gateway.events(&job_id).await;
            assert_eq!(events.last().unwrap()["event"], "end_of_stream", "{input}: {events:?}");
            assert_eq!(events.last().unwrap()["sequence"], job["last_sequence"], "nothing follows the end");
            (took, events.iter().any(|event| event["event"] == "job_started"))
        });
        if running.len() == 20 {
            let (took, is_started) = running.join_next().await.unwrap().unwrap();
            (slowest, never_started) = (slowest.max(took), never_started + usize::from(!is_started));
        }
    }
    while let Some(ended) = running.join_next().await {
        let (took, is_started) = ended.unwrap();
        (slowest, never_started) = (slowest.max(took), never_started + usize::from(!is_started));
    }
    assert!(slowest < GRACE + Duration::from_secs(2), "the slowest took {slowest:?}");
    println!(
        "{cancels} cancels, {never_started} before the start: nothing left; the slowest took {slowest:?}"
    );
}
