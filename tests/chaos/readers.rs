//! Many readers of one job: the same events for each, a stalled one costs little and holds up nobody, a storm of returning
//! ones loses nothing.

use std::{
    collections::HashSet,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
};

use crate::{
    checker::{check_job, run},
    raw::{DOORS, Door, Stream},
    scenario::{Random, Scenario, percentile, resident_bytes, size},
    support::{Gateway, Options},
};

const LIVE_READERS: usize = 99;
/// Stalled readers, to measure what one costs.
const MANY: usize = 16;
/// A sign of life and its frame, as they are on the wire: `8`, `: ping` and the line breaks.
const PING_BYTES: u64 = 13;

fn options() -> Options {
    Options::default()
        .set("conductor.max_output_bytes", 2_u32 << 30)
        .set("telemetry.log", "error,conductor_gateway::cli=info")
}

async fn connect(gateway_address: &str, job_id: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway_address).await.unwrap();
    let request =
        format!("GET /api/v1/stream/{job_id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

/// Takes everything as fast as it comes. Answers with the number of bytes.
async fn take_all(mut socket: TcpStream) -> u64 {
    let mut buffer = vec![0; 256 * 1024];
    let mut taken = 0;
    let mut tail = Vec::new();
    loop {
        let read = socket.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        taken += read as u64;
        tail.extend_from_slice(&buffer[read.saturating_sub(1024)..read]);
        let over = tail.len().saturating_sub(1024);
        tail.drain(..over);
    }
    assert!(String::from_utf8_lossy(&tail).contains("end_of_stream"), "read to the end");
    taken
}

/// Readers that took nothing, and their job.
struct Idle {
    job_id: String,
    /// Nobody reads from these.
    sockets: Vec<TcpStream>,
    /// Of gRPC: each has a client that answers pings and gives its stream no window.
    streams: Vec<Stream>,
}

struct Paced {
    time: Duration,
    memory: u64,
}

/// One live job with its readers, and some that take nothing.
async fn live_run(gateway: &Gateway, number: usize, mebibytes: u64, stalled: usize) -> (Paced, Idle) {
    let go = gateway.path(&format!("go-{number}"));
    let input = format!("flood-when {mebibytes} {}", go.display());
    let job_id = gateway.submit(&run(&input, &format!("live{number}"))).await;
    gateway.sse(&job_id, 0).await.until("on_tool_output").await;
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for number in 0..stalled {
        if number % 2 == 0 {
            sockets.push(connect(&gateway.address, &job_id).await);
        } else {
            streams.push(Stream::open(&gateway.address, Door::Grpc, &job_id, 0).await);
        }
    }
    let mut readers = JoinSet::new();
    for _ in 0..LIVE_READERS {
        readers.spawn(take_all(connect(&gateway.address, &job_id).await));
    }
    let started = Instant::now();
    std::fs::write(&go, "").unwrap();
    let mut memory = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut taken = HashSet::new();
    while !readers.is_empty() {
        tokio::select! {
            ended = readers.join_next() => { taken.insert(ended.unwrap().unwrap()); }
            _ = tick.tick() => memory = memory.max(resident_bytes(gateway.pid())),
        }
    }
    let time = started.elapsed();
    // A reader that waited for longer than the others may have had signs of life beside it; an event is larger than all of them.
    let (least, most) = (*taken.iter().min().unwrap(), *taken.iter().max().unwrap());
    let is_signs = taken.iter().all(|bytes| (bytes - least) % PING_BYTES == 0) && most - least < 32 * 1024;
    assert!(is_signs, "every reader had the same: {taken:?}");
    (Paced { time, memory }, Idle { job_id, sockets, streams })
}

async fn check_goes_on(gateway: &Gateway, door: Door, job_id: &str, cursor: u32) {
    let rest = Stream::open(&gateway.address, door, job_id, cursor).await.rest().await;
    assert_eq!(rest.first().unwrap().sequence, cursor + 1, "its last id is its cursor");
}

/// Each stalled reader was closed by the gateway, and goes on at its last id.
async fn check_closed(gateway: &Gateway, idle: Idle, mebibytes: u64) {
    // So long they take nothing, which is longer than is waited for them.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for mut socket in idle.sockets {
        // Closed by the gateway, not by us: what is left in the socket ends.
        let closed = tokio::time::timeout(Duration::from_secs(15), async {
            let mut bytes = Vec::new();
            drop(socket.read_to_end(&mut bytes).await);
            bytes
        });
        let bytes = closed.await.expect("the stalled reader is closed");
        assert!((bytes.len() as u64) < mebibytes << 19, "it was not served: {} bytes", bytes.len());
        let text = String::from_utf8_lossy(&bytes);
        let cut = text.rfind("\n\n").map_or(0, |at| at + 2);
        let cursor = text[..cut].lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
        let cursor: u32 = cursor.expect("it had events").parse().unwrap();
        check_goes_on(gateway, Door::Sse, &idle.job_id, cursor).await;
    }
    for mut stream in idle.streams {
        while stream.more().await.is_some() {}
        assert!(
            (stream.bytes.len() as u64) < mebibytes << 19,
            "it was not served: {} bytes",
            stream.bytes.len()
        );
        let cursor = stream.events().last().expect("it had events").sequence;
        check_goes_on(gateway, Door::Grpc, &idle.job_id, cursor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_reader() {
    let scenario = Scenario::begin("stalled").await;
    let gateway = Gateway::mean(options());
    let mebibytes = size(32, 1024);
    live_run(&gateway, 0, mebibytes, 0).await;
    // What else a machine does moves single runs by far more than a tenth. A reader that held the others up would show both in the
    // quickest run of each kind and in the middle of the pairs; a busy machine gets more of them.
    let (mut alone, mut beside, mut ratios) = (f64::MAX, f64::MAX, Vec::new());
    let mut ratio = f64::MAX;
    for pair in 1..=15 {
        let (without, _) = live_run(&gateway, 2 * pair, mebibytes, 0).await;
        // The stalled one is there from the beginning to the end.
        let (with, idle) = live_run(&gateway, 2 * pair + 1, mebibytes, 1).await;
        drop(idle);
        let (without, with) = (without.time.as_secs_f64(), with.time.as_secs_f64());
        (alone, beside) = (alone.min(without), beside.min(with));
        ratios.push(with / without);
        ratios.sort_unstable_by(f64::total_cmp);
        ratio = ratios[ratios.len() / 2].min(beside / alone);
        if pair % 5 == 0 && ratio < 1.1 {
            break;
        }
    }
    assert!(
        ratio < 1.1,
        "the live ones were slowed: {beside:.3} s instead of {alone:.3} s, pairs {ratios:?}"
    );
    // What one costs is less than what a measurement of memory is wrong by; many tell.
    let mut costs = Vec::new();
    for pair in 0..3 {
        let without = live_run(&gateway, 1_000 + 2 * pair, mebibytes, 0).await.0.memory;
        let with = live_run(&gateway, 1_001 + 2 * pair, mebibytes, MANY).await.0.memory;
        costs.push(with.saturating_sub(without) / MANY as u64);
    }
    costs.sort_unstable();
    let cost = costs[1];
    let strict = options().set("server.stall_timeout_seconds", 1).set("server.heartbeat_seconds", 1);
    let strict = Gateway::mean(strict);
    let (_, idle) = live_run(&strict, 0, 64, 4).await;
    check_closed(&strict, idle, 64).await;
    assert!(cost <= 8 << 20, "a stalled reader costs {cost} bytes");
    scenario.report(format_args!(
        "one stalled among {LIVE_READERS} live readers of {mebibytes} MiB: time {ratio:.3} of that without it (the quickest of each, or the median of the pairs); \
         {MANY} stalled ones cost {} KiB each; closed in time, resumed at their cursors",
        cost / 1024
    ));
}

/// Reads with cuts, coming back each time within a second, then to the end. Everyone has their place in each storm.
async fn storm_reader(
    address: String,
    door: Door,
    job_id: String,
    storms: Arc<Vec<Barrier>>,
    mut random: Random,
) -> Vec<u32> {
    let mut seen: Vec<u32> = Vec::new();
    tokio::time::sleep(random.millis_below(1_000)).await;
    for storm in storms.iter() {
        let after = seen.last().copied().unwrap_or(0);
        let mut stream = Stream::open(&address, door, &job_id, after).await;
        // At least one event, then whatever comes until the cut.
        while stream.events().is_empty() && stream.more().await.is_some() {}
        storm.wait().await;
        seen.extend(stream.events().iter().map(|event| event.sequence));
        drop(stream);
        tokio::time::sleep(random.millis_below(1_000)).await;
    }
    let after = seen.last().copied().unwrap_or(0);
    seen.extend(
        Stream::open(&address, door, &job_id, after).await.rest().await.iter().map(|event| event.sequence),
    );
    seen
}

fn ask_health(address: &str) -> Duration {
    let started = Instant::now();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn storm() {
    let mut scenario = Scenario::begin("storm").await;
    let (readers, storms) = (size(300, 1_000), size(4, 10));
    let (events, p99, bare) = storms_of(&mut scenario, readers, storms).await;
    // On a machine that is busy with something else, a bare answer takes long too; a debug build on two cores is slow by itself.
    let bound = Duration::from_millis(size(250, 100)).max(bare * 5);
    assert!(p99 < bound, "/health took {p99:?}, a bare answer {bare:?}");
    scenario.report(format_args!(
        "{readers} readers cut and back {storms} times: 0 of {events} events lost, 0 doubled; /health p99 {p99:.1?}, a bare \
         answer {bare:.1?}"
    ));
}

/// A server that answers at once, whatever is asked, one after another: what an answer takes on this machine now.
fn bare_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _asked = socket.read(&mut [0; 1024]);
            let _answered = socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        }
    });
    address
}

/// Answers with the number of events, and what `/health` and a bare answer took in 99 of 100 times.
async fn storms_of(scenario: &mut Scenario, readers: usize, storms: usize) -> (usize, Duration, Duration) {
    let gateway = Gateway::mean(options());
    let stop = gateway.path("stop");
    let job_id = gateway.submit(&run(&format!("drip-until {}", stop.display()), "storm")).await;
    // At the last one this test takes part, and then ends the job.
    let places = |storm| if storm + 1 == storms { readers + 1 } else { readers };
    let barriers: Arc<Vec<Barrier>> =
        Arc::new((0..storms).map(|storm| Barrier::new(places(storm))).collect());
    let mut running = JoinSet::new();
    for number in 0..readers {
        let door = DOORS[number % DOORS.len()];
        let random = scenario.random.fork();
        running.spawn(storm_reader(gateway.address.clone(), door, job_id.clone(), barriers.clone(), random));
    }
    // Another client, that only wants to know whether the gateway is well; with a thread of its own.
    let is_over = Arc::new(AtomicBool::new(false));
    let (address, over) = (gateway.address.clone(), is_over.clone());
    let asking = std::thread::spawn(move || {
        let bare = bare_server();
        let (mut took, mut bare_took) = (Vec::new(), Vec::new());
        while !over.load(Ordering::Relaxed) {
            took.push(ask_health(&address));
            bare_took.push(ask_health(&bare));
            std::thread::sleep(Duration::from_millis(10));
        }
        (took, bare_took)
    });
    barriers.last().unwrap().wait().await;
    std::fs::write(&stop, "").unwrap();
    let all = running.join_all().await;
    is_over.store(true, Ordering::Relaxed);
    let (mut health, mut bare) = asking.join().unwrap();
    let events = check_job(&gateway, &job_id, &[]).await;
    let expected: Vec<u32> = (1..=u32::try_from(events).unwrap()).collect();
    for seen in &all {
        assert!(*seen == expected, "lost or doubled: {} of {events} events", seen.len());
    }
    (events, percentile(&mut health, 99), percentile(&mut bare, 99))
}

#[tokio::test(flavor = "multi_thread")]
async fn digest() {
    let scenario = Scenario::begin("digest").await;
    let gateway = Gateway::mean(options());
    let job_id = gateway.submit(&run("drip 300 4", "digest")).await;
    let mut readers = JoinSet::new();
    for number in 0..120 {
        let (address, job_id) = (gateway.address.clone(), job_id.clone());
        readers.spawn(async move {
            let door = DOORS[number % DOORS.len()];
            let mut stream = Stream::open(&address, door, &job_id, 0).await;
            if number < 20 {
                // Leaves in the middle, which disturbs nobody.
                stream.more().await;
                return None;
            }
            let mut digest = Sha256::new();
            for event in stream.rest().await {
                digest.update(&event.bytes);
            }
            Some((door, digest.finalize().to_vec()))
        });
    }
    let digests: Vec<_> = readers.join_all().await.into_iter().flatten().collect();
    for door in DOORS {
        let of_door: HashSet<_> = digests.iter().filter(|(other, _)| *other == door).collect();
        assert_eq!(of_door.len(), 1, "{door:?}: every reader had the same bytes");
    }
    let of = |door| digests.iter().find(|(other, _)| *other == door).map(|(_, digest)| digest);
    assert_eq!(of(Door::Grpc), of(Door::GrpcWeb), "and the same over gRPC and grpc-web");
    scenario.report(format_args!(
        "{} readers, one digest for each form; 20 others left in the middle",
        digests.len()
    ));
}
