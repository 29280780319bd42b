//! Cancels at random moments, some before the start: afterwards nothing of the job lives, nothing follows its end, and it
//! is recorded who it was.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    checker::{check_events, check_nothing_lives, run},
    scenario::{Scenario, size},
    support::{Gateway, Options, alive_with, starts},
};

const GRACE: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 20;

struct Cancelled {
    job_id: String,
    had_grandchild: bool,
    took: Duration,
    was_started: bool,
}

async fn cancel_one(gateway: Arc<Gateway>, input: &str, conversation: String, wait: Duration) -> Cancelled {
    let job_id = gateway.submit(&run(input, &conversation)).await;
    tokio::time::sleep(wait).await;
    let asked = Instant::now();
    let path = format!("/api/v1/jobs/{job_id}/cancel");
    let job = gateway.post(&path, &json!({"wait_seconds": 20})).await.json();
    let took = asked.elapsed();
    // One whose engine ends by itself may have been faster.
    let is_cancelled = job["state"] == "CANCELLED";
    assert!(is_cancelled || (job["state"] == "SUCCEEDED" && input.ends_with("daemon")), "{input}: {job}");
    if is_cancelled {
        assert_eq!(
            (&job["error"]["cancelled_by"], &job["error"]["reason"]),
            (&json!("local"), &json!("CANCELLED"))
        );
    }
    assert!(alive_with(&job_id).is_empty(), "{input}: something of {job_id} lives");
    let events = gateway.events(&job_id).await;
    check_events(&job_id, &events);
    assert_eq!(events.last().unwrap()["sequence"], job["last_sequence"], "nothing follows the end");
    let has = |wanted: &str| events.iter().any(|event| event.to_string().contains(wanted));
    Cancelled { job_id, took, was_started: has("\"job_started\""), had_grandchild: has("spawned\\n") }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel() {
    const INPUTS: [&str; 6] =
        ["hang", "ignore-term", "stubborn-grandchild", "escaped-grandchild", "daemon", "nameless-daemon"];
    let mut scenario = Scenario::begin("cancel").await;
    let options = Options::default()
        // Fewer than ask for it, so that some are cancelled while they wait; a quarter is for others.
        .set("jobs.max_running", 24)
        .set("conductor.kill_grace_seconds", GRACE.as_secs())
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Arc::new(Gateway::mean(options));
    let cancels = size(200, 1_000);
    let mut running = JoinSet::new();
    let mut ended = Vec::new();
    for number in 0..cancels {
        let input = *scenario.random.one_of(&INPUTS);
        let wait = scenario.random.millis_below(80);
        running.spawn(cancel_one(gateway.clone(), input, format!("c{number}"), wait));
        if running.len() == AT_ONCE {
            ended.push(running.join_next().await.unwrap().unwrap());
        }
    }
    ended.extend(running.join_all().await);
    let slowest = ended.iter().map(|cancelled| cancelled.took).max().unwrap();
    assert!(slowest < GRACE + Duration::from_secs(1), "the slowest took {slowest:?}");
    let before = ended.iter().filter(|cancelled| !cancelled.was_started).count();
    assert!(before > 0, "some were cancelled before their start");
    let grandchildren = ended.iter().filter(|cancelled| cancelled.had_grandchild).count();
    assert!(grandchildren > 0, "some had grandchildren");
    let starts = starts(gateway.directory.path());
    for cancelled in ended.iter().filter(|cancelled| !cancelled.was_started) {
        assert!(!starts.contains_key(&cancelled.job_id), "{}: cancelled, and started", cancelled.job_id);
    }
    // Those too that hide whose they are.
    check_nothing_lives(&gateway).await;
    scenario.report(format_args!(
        "{cancels} cancels, {before} before the start and never started, {grandchildren} with grandchildren by then: nothing left, nothing behind the end; slowest {slowest:.2?} with a \
         grace of {GRACE:?}"
    ));
}
