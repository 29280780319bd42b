//! Tokens as they come from a model: each alone, many jobs at a time, each job with its reader. What a token costs with the store on
//! the disk against the one in memory, and how late it is.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::task::JoinSet;

use super::{
    Figure, bare, client, median,
    model::{data, processor_time, thinking},
    start::Child,
};

/// So long is measured, when all jobs have begun.
const WINDOW: Duration = Duration::from_secs(6);
const PAIRS: usize = 3;

fn now_micros() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A model that says a word at each tick, with the time at which it said it, until nobody listens.
async fn ticking_model(tick: Duration) -> SocketAddr {
    let begun = Arc::new(AtomicU64::new(0));
    bare::sse_server(Arc::new(move |sender| {
        // Not all at the same moment.
        let offset = tick / 64 * u32::try_from(begun.fetch_add(1, Ordering::Relaxed) % 64).unwrap();
        tokio::spawn(async move {
            let start = tokio::time::Instant::now() + offset;
            let mut ticks = tokio::time::interval_at(start, tick);
            loop {
                ticks.tick().await;
                let token = data(&format!("{{\"content\":\"at{} \"}}", now_micros()), "null");
                if sender.send(token).await.is_err() {
                    return;
                }
            }
        });
    }))
    .await
}

/// How often a process' threads were put aside or put themselves aside.
fn context_switches(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of_thread = |entry: std::fs::DirEntry| -> u64 {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
        counts.filter_map(|line| line.rsplit_once('\t')?.1.parse::<u64>().ok()).sum()
    };
    threads.map(of_thread).sum()
}

fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What the readers have seen.
#[derive(Default)]
struct Seen {
    tokens: AtomicU64,
    late_micros: Mutex<Vec<u64>>,
}

async fn read(address: SocketAddr, path: String, seen: Arc<Seen>) {
    let mut body = client::open_http(address, &path).await;
    let mut late = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let now = now_micros();
        let Ok(bytes) = frame.into_data() else { continue };
        let text = String::from_utf8_lossy(&bytes);
        // In the gateway's member or, from a relay, in the model's own.
        for (at, marker) in text.match_indices("\":\"at") {
            let digits = &text[at + marker.len()..];
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            late.push(now.saturating_sub(digits[..end].parse().unwrap()));
        }
        seen.tokens.fetch_add(late.len() as u64, Ordering::Relaxed);
        seen.late_micros.lock().unwrap().append(&mut late);
    }
}

/// The processor time that a relay without a store takes for a token with the same sockets, microseconds.
async fn relayed(jobs: u32, tick: Duration) -> f64 {
    let model = ticking_model(tick).await;
    let relay = Child::start(&["bare-relay", &model.to_string()]);
    let seen = Arc::new(Seen::default());
    let mut readers = JoinSet::new();
    for _ in 0..jobs {
        readers.spawn(read(relay.address, "/".to_owned(), seen.clone()));
    }
    let wanted = u64::from(jobs) * 4;
    while seen.tokens.load(Ordering::Relaxed) < wanted {
        tokio::time::sleep(tick).await;
    }
    let before = (processor_time(relay.pid()), seen.tokens.load(Ordering::Relaxed));
    tokio::time::sleep(WINDOW).await;
    let after = (processor_time(relay.pid()), seen.tokens.load(Ordering::Relaxed));
    (after.0 - before.0).as_secs_f64() * 1e6 / (after.1 - before.1) as f64
}

/// What one run cost.
struct Cost {
    micros: f64,
    switches: f64,
    p99_ms: f64,
    kib_per_job: f64,
}

async fn run(store: &str, jobs: u32, tick: Duration) -> Cost {
    let model = ticking_model(tick).await;
    let (kind, most) = (format!("storage.kind={store}"), format!("jobs.max_running={}", jobs * 4 / 3 + 2));
    let gateway = thinking(model, &[&kind, &most, "jobs.max_queued=2000"]).await;
    let pid = gateway.child.id();
    let idle = resident_kib(pid);
    let seen = Arc::new(Seen::default());
    let mut readers = JoinSet::new();
    for _ in 0..jobs {
        let body: Bytes =
            client::post(gateway.address, "/api/v1/stream-execute", "{\"command\":\"tell me everything\"}")
                .await;
        let job: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let path = format!("/api/v1/stream/{}", job["job_id"].as_str().unwrap());
        readers.spawn(read(gateway.address, path, seen.clone()));
    }
    // Every job has said a few words.
    let wanted = u64::from(jobs) * 4;
    while seen.tokens.load(Ordering::Relaxed) < wanted {
        tokio::time::sleep(tick).await;
    }
    seen.late_micros.lock().unwrap().clear();
    let before = (processor_time(pid), context_switches(pid), seen.tokens.load(Ordering::Relaxed));
    tokio::time::sleep(WINDOW).await;
    let after = (processor_time(pid), context_switches(pid), seen.tokens.load(Ordering::Relaxed));
    let memory = resident_kib(pid) - idle;
    let mut late = std::mem::take(&mut *seen.late_micros.lock().unwrap());
    late.sort_unstable();
    let tokens = (after.2 - before.2) as f64;
    Cost {
        micros: (after.0 - before.0).as_secs_f64() * 1e6 / tokens,
        switches: (after.1 - before.1) as f64 / tokens,
        p99_ms: late[late.len() * 99 / 100] as f64 / 1e3,
        kib_per_job: memory / f64::from(jobs),
    }
}

pub async fn figures() -> Vec<Figure> {
    let mut figures = Vec::new();
    for (jobs, tick) in [(100, Duration::from_millis(50)), (1000, Duration::from_millis(500))] {
        let (mut disk, mut memory, mut relay) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            relay.push(relayed(jobs, tick).await);
            disk.push(run("embedded", jobs, tick).await);
            memory.push(run("memory", jobs, tick).await);
        }
        let of = |costs: &[Cost], what: fn(&Cost) -> f64| median(costs.iter().map(what).collect());
        let ratios = disk.iter().zip(&memory).map(|(disk, memory)| disk.micros / memory.micros).collect();
        let rate = Duration::from_secs(1).as_millis() / tick.as_millis();
        let name = |what: &str| format!("{jobs} jobs, {rate} tokens a second: {what}");
        let figure = |what: &str, value: f64, floor: f64, note: String| Figure {
            what: name(what),
            value,
            floor,
            is_ratio: false,
            note,
        };
        let note =
            format!("{:.0} against {:.0} µs", of(&disk, |cost| cost.micros), of(&memory, |cost| cost.micros));
        figures.push(figure("processor time by the memory store's", median(ratios), 1.3, note));
        let ratios = memory.iter().zip(&relay).map(|(memory, relay)| memory.micros / relay).collect();
        let note = format!(
            "the relay {:.0} µs; with the embedded store {:.2}",
            median(relay.clone()),
            of(&disk, |cost| cost.micros) / median(relay)
        );
        figures.push(figure("the memory store's by a bare relay's", median(ratios), 1.5, note));
        let note = format!("{:.2} with the memory store", of(&memory, |cost| cost.switches));
        figures.push(figure("context switches a token", of(&disk, |cost| cost.switches), 0.6, note));
        let note = format!("{:.1} with the memory store", of(&memory, |cost| cost.p99_ms));
        figures.push(figure("from model to reader, p99, ms", of(&disk, |cost| cost.p99_ms), 10.0, note));
        figures.push(figure(
            "memory of a job with its reader, KiB",
            of(&disk, |cost| cost.kib_per_job),
            160.0,
            String::new(),
        ));
    }
    figures
}
