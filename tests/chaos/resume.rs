//! A stream that is cut anywhere and resumed is, byte for byte, the stream that was not cut: over every door, of jobs that
//! ended and of jobs that run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    checker::run,
    raw::{DOORS, Door, RawEvent, Stream},
    scenario::{Random, Scenario, percentile, size},
    support::{Gateway, Options, eventually},
};

async fn uncut(gateway: &Gateway, door: Door, job_id: &str) -> (Vec<RawEvent>, usize) {
    let mut stream = Stream::open(&gateway.address, door, job_id, 0).await;
    while stream.more().await.is_some() {}
    (stream.events(), stream.bytes.len())
}

/// Reads a job with cuts at random places. Answers with all that was seen, and how often it was cut.
async fn read_with_cuts(
    gateway: &Gateway,
    door: Door,
    job_id: &str,
    cuts: usize,
    len: usize,
    random: &mut Random,
) -> Vec<RawEvent> {
    let mut seen: Vec<RawEvent> = Vec::new();
    for _ in 0..cuts {
        let after = seen.last().map_or(0, |event| event.sequence);
        let cut_at = usize::try_from(random.below(len as u64 + 1)).unwrap();
        let stream = Stream::open(&gateway.address, door, job_id, after).await;
        seen.extend(stream.cut_at(cut_at).await);
    }
    let after = seen.last().map_or(0, |event| event.sequence);
    seen.extend(Stream::open(&gateway.address, door, job_id, after).await.rest().await);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn resume() {
    let mut scenario = Scenario::begin("resume").await;
    let options = Options::default()
        .set("jobs.max_running", 8)
        .set("conductor.max_output_bytes", 2_u32 << 30)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let gateway = Arc::new(Gateway::mean(options));
    // A third of them of jobs that run meanwhile.
    let cuts = size(3_000, 10_000);
    let mut done = 0;
    for (number, input) in ["bytes", "drip 200", "flood 1"].into_iter().enumerate() {
        let job_id = gateway.submit(&run(input, &format!("ended{number}"))).await;
        gateway.events(&job_id).await;
        for door in DOORS {
            let (expected, len) = uncut(&gateway, door, &job_id).await;
            let share = cuts * 2 / 3 / DOORS.len() / if input == "flood 1" { 20 } else { 2 };
            let mut readers = JoinSet::new();
            for _ in 0..share {
                let (gateway, job_id, expected) = (gateway.clone(), job_id.clone(), expected.clone());
                let mut random = scenario.random.fork();
                readers.spawn(async move {
                    let seen = read_with_cuts(&gateway, door, &job_id, 1, len, &mut random).await;
                    assert!(seen == expected, "{door:?} {job_id}: a resumed stream differs");
                });
                if readers.len() == 16 {
                    readers.join_next().await.unwrap().unwrap();
                }
            }
            readers.join_all().await;
            done += share;
        }
    }
    let mut round = 0;
    while done < cuts {
        round += 1;
        let job_id = gateway.submit(&run("drip 300 4", &format!("live{round}"))).await;
        let mut readers = JoinSet::new();
        for reader in 0..24 {
            let (gateway, job_id) = (gateway.clone(), job_id.clone());
            let mut random = scenario.random.fork();
            let door = DOORS[reader % DOORS.len()];
            readers.spawn(async move {
                (door, read_with_cuts(&gateway, door, &job_id, 10, 4_000, &mut random).await)
            });
        }
        let seen = readers.join_all().await;
        for door in DOORS {
            let (expected, _) = uncut(&gateway, door, &job_id).await;
            for (_, seen) in seen.iter().filter(|(other, _)| *other == door) {
                assert!(*seen == expected, "{door:?} {job_id}: a resumed stream differs");
            }
        }
        done += 24 * 10;
    }
    let (early, late) = check_large(&gateway, size(64, 1024)).await;
    check_cursors(&gateway).await;
    scenario.report(format_args!(
        "{done} cuts over {} doors, {round} of the jobs while they ran: every byte the same; of a large log its end came after \
         {late:.0?}, its beginning after {early:.0?}; false cursors refused",
        DOORS.len()
    ));
}

/// Coming back to the end of a large log takes no longer than to begin it. Answers with the median times to the first
/// event, from the first sequence and from one of the last.
async fn check_large(gateway: &Gateway, mebibytes: u64) -> (Duration, Duration) {
    let job_id = gateway.submit(&run(&format!("flood {mebibytes}"), "large")).await;
    let mut whole = Stream::open(&gateway.address, Door::Grpc, &job_id, 0).await;
    let mut bytes = 0;
    while let Some(more) = whole.more().await {
        bytes += more;
        whole.bytes.clear();
    }
    assert!(bytes as u64 > mebibytes << 20);
    let last = u32::try_from(gateway.job(&job_id).await["last_sequence"].as_u64().unwrap()).unwrap();
    let mut medians = Vec::new();
    for after in [0, last - 3] {
        let mut times = Vec::new();
        for _ in 0..9 {
            let started = Instant::now();
            let mut stream = Stream::open(&gateway.address, Door::Sse, &job_id, after).await;
            while stream.events().is_empty() {
                stream.more().await.expect("there are events");
            }
            assert_eq!(stream.events()[0].sequence, after + 1);
            times.push(started.elapsed());
        }
        medians.push(percentile(&mut times, 50));
    }
    assert!(medians[1] < medians[0] * 4 + Duration::from_millis(30), "the end came late: {medians:?}");
    (medians[0], medians[1])
}

/// A cursor beyond the log, and a job that retention removed.
async fn check_cursors(gateway: &Gateway) {
    let job_id = gateway.submit(&run("ok", "cursor")).await;
    let events = gateway.events(&job_id).await;
    let last = u32::try_from(events.len()).unwrap();
    let refused = gateway.get(&format!("/api/v1/stream/{job_id}?after={}", last + 1)).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (400, &json!("CURSOR_BEYOND_LOG")));
    assert_eq!(refused.json()["last_sequence"], last);
    // grpc-status 11 is OUT_OF_RANGE, 5 is NOT_FOUND.
    for door in [Door::Grpc, Door::GrpcWeb] {
        let stream = Stream::open(&gateway.address, door, &job_id, last + 1).await;
        assert_eq!(stream.headers["grpc-status"], "11", "{door:?}");
    }
    let short = Gateway::mean(Options::default().set("jobs.retention_seconds", 1));
    let removed = short.submit(&run("ok", "removed")).await;
    short.events(&removed).await;
    eventually(Duration::from_secs(10), "retention removes it", async || {
        short.get(&format!("/api/v1/jobs/{removed}")).await.status == 404
    })
    .await;
    let refused = short.get(&format!("/api/v1/stream/{removed}?after=1")).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (404, &json!("JOB_NOT_FOUND")));
    for door in [Door::Grpc, Door::GrpcWeb] {
        let stream = Stream::open(&short.address, door, &removed, 1).await;
        assert_eq!(stream.headers["grpc-status"], "5", "{door:?}");
    }
}
