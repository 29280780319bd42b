//! One job with many events, read by one reader and by a hundred.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use conductor_gateway::{
    app::Core,
    config::Config,
    edge::{self, Server},
    journal::{JobId, SubmitOutcome},
    pb::{EndOfStream, Job, JobState, Timestamp, WatchJobRequest, job_event::Payload, storage::JobRecord},
};
use tokio_util::sync::CancellationToken;

use super::{Figure, bare, client, median};

const PAIRS: usize = 5;
const WATCH: &str = "/conductor.gateway.v1.GatewayService/WatchJob";

struct Gateway {
    core: Core,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

/// The gateway with its doors and the embedded store, in this process, so that a job's log can be written to
/// directly.
async fn gateway() -> Gateway {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut config = Config::default();
    config.storage.path = directory.path().join("data");
    config.conductor.workspace = directory.path().join("engine");
    config.server.port = 0;
    let listener = Server::bind(&config.server, config.server.port).await.unwrap();
    let core = Core::build(&config).await.unwrap();
    let address = listener.local_addr().unwrap();
    let doors = edge::doors(
        &core.service,
        &core.directory_service,
        &config.server,
        edge::Addresses { api: address, mcp: None },
    );
    let auth = edge::AuthConfig::default();
    let server = Server::new(
        listener,
        &config.server,
        &auth,
        doors,
        edge::HeaderPolicy::Api,
        &conductor_gateway::edge::Capacity::of(&config.server),
    )
    .unwrap();
    tokio::spawn(server.serve(CancellationToken::new()));
    Gateway { core, address, _directory: directory }
}

/// A job whose events are appended by the returned future.
async fn job(gateway: &Gateway, events: u32) -> (JobId, impl Future<Output = ()> + Send + 'static) {
    let journal = gateway.core.service.journal().clone();
    let job_id = JobId::generate().unwrap();
    let job = Job {
        job_id: job_id.to_string(),
        caller: "local".into(),
        create_time: Some(Timestamp::now()),
        ..Job::default()
    };
    let record = JobRecord { job: Some(job.clone()), request_digest: Bytes::new(), principal: None };
    let SubmitOutcome::New(appender) = journal.submit(record).await.unwrap() else {
        unreachable!("a new id")
    };
    let write = async move {
        for sequence in 1..events {
            appender.append(&bare::token(sequence), |_| None).await.unwrap();
        }
        let end = EndOfStream { state: JobState::Succeeded as i32, message: String::new() };
        appender.append(&Payload::EndOfStream(end), |_| None).await.unwrap();
        let ended = Job { end_time: Some(Timestamp::now()), last_sequence: events, ..job };
        let lost = || unreachable!("nothing is lost");
        assert!(journal.finish(appender, &ended, lost).await);
    };
    (job_id, write)
}

fn rate(events: u32, readers: usize, time: Duration) -> f64 {
    f64::from(events) * readers as f64 / time.as_secs_f64()
}

/// Runs `ours` and `theirs` in turn. Answers with the median ratio and both median rates.
pub async fn paired(
    pairs: usize,
    mut ours: impl AsyncFnMut() -> f64,
    mut theirs: impl AsyncFnMut() -> f64,
) -> (f64, String) {
    let (mut ratios, mut our_rates, mut their_rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        let their_rate = theirs().await;
        let our_rate = ours().await;
        ratios.push(our_rate / their_rate);
        our_rates.push(our_rate);
        their_rates.push(their_rate);
    }
    let note = format!("{:.2} M/s against {:.2} M/s", median(our_rates) / 1e6, median(their_rates) / 1e6);
    (median(ratios), note)
}

async fn bare_grpc(events: u32) -> SocketAddr {
    bare::grpc_server(Arc::new(move |sender| {
        tokio::spawn(async move {
            for sequence in 1..=events {
                let event = bare::event("job_06h0k9ch90vqgpmfjg5g2n330a3k83d69ctg", sequence);
                if sender.send(Ok(bare::Message { event: Some(event) })).await.is_err() {
                    return;
                }
            }
        });
    }))
    .await
}

async fn bare_sse(events: u32) -> SocketAddr {
    bare::sse_server(Arc::new(move |sender| {
        tokio::spawn(async move {
            let line = "id: 123456\ndata: {\"event\":\"on_llm_new_token\",\"data\":{\"step\":1,\"text\":\"token  123456 \",\"is_reasoning\":false},\"timestamp\":1763836800.123,\"job_id\":\"job_06h0k9ch90vqgpmfjg5g2n330a3k83d69ctg\",\"sequence\":123456}\n\n";
            let bytes = Bytes::from_static(line.as_bytes());
            for _ in 0..events {
                if sender.send(bytes.clone()).await.is_err() {
                    return;
                }
            }
        });
    }))
    .await
}

pub async fn one_reader() -> Vec<Figure> {
    const EVENTS: u32 = 500_000;
    let gateway = gateway().await;
    let empty = WatchJobRequest::default();
    let (grpc, sse) = (bare_grpc(EVENTS).await, bare_sse(EVENTS).await);
    let ours_grpc = async || {
        let (job_id, write) = job(&gateway, EVENTS).await;
        let request = WatchJobRequest { job_id: job_id.to_string(), after_sequence: 0 };
        let started = Instant::now();
        let write = tokio::spawn(write);
        client::read_grpc(gateway.address, WATCH, &request).await;
        let time = started.elapsed();
        write.await.unwrap();
        rate(EVENTS, 1, time)
    };
    let theirs_grpc = async || {
        let started = Instant::now();
        client::read_grpc(grpc, "/bare/Stream", &empty).await;
        rate(EVENTS, 1, started.elapsed())
    };
    let ours_sse = async || {
        let (job_id, write) = job(&gateway, EVENTS).await;
        let started = Instant::now();
        let write = tokio::spawn(write);
        client::read_http(gateway.address, &format!("/api/v1/stream/{job_id}")).await;
        let time = started.elapsed();
        write.await.unwrap();
        rate(EVENTS, 1, time)
    };
    let theirs_sse = async || {
        let started = Instant::now();
        client::read_http(sse, "/").await;
        rate(EVENTS, 1, started.elapsed())
    };
    let mut figures = Vec::new();
    let (value, note) = paired(PAIRS, ours_grpc, theirs_grpc).await;
    let what = "500,000 events appended and read by one over gRPC".into();
    figures.push(Figure { what, value, floor: 0.5, is_ratio: true, note });
    let (value, note) = paired(PAIRS, ours_sse, theirs_sse).await;
    let what = "500,000 events appended and read by one over SSE".into();
    figures.push(Figure { what, value, floor: 0.8, is_ratio: true, note });
    figures
}

pub async fn many_readers() -> Vec<Figure> {
    const EVENTS: u32 = 20_000;
    const READERS: usize = 100;
    let gateway = gateway().await;
    let empty = WatchJobRequest::default();
    let grpc = bare_grpc(EVENTS).await;
    let counters = gateway.core.service.journal().counters();
    let encoded_before = counters.events_encoded.load(Ordering::Relaxed);
    let ours = async || {
        let (job_id, write) = job(&gateway, EVENTS).await;
        let request = WatchJobRequest { job_id: job_id.to_string(), after_sequence: 0 };
        let started = Instant::now();
        let write = tokio::spawn(write);
        let readers = (0..READERS).map(|_| client::read_grpc(gateway.address, WATCH, &request));
        let bytes = futures_util::future::join_all(readers).await;
        assert!(bytes.iter().all(|count| *count == bytes[0]), "every reader reads the same");
        let time = started.elapsed();
        write.await.unwrap();
        rate(EVENTS, READERS, time)
    };
    let theirs = async || {
        let started = Instant::now();
        let readers = (0..READERS).map(|_| client::read_grpc(grpc, "/bare/Stream", &empty));
        futures_util::future::join_all(readers).await;
        rate(EVENTS, READERS, started.elapsed())
    };
    let (value, note) = paired(PAIRS, ours, theirs).await;
    let encoded = counters.events_encoded.load(Ordering::Relaxed) - encoded_before;
    let per_event = encoded as f64 / (f64::from(EVENTS) * PAIRS as f64);
    vec![
        Figure {
            what: "20,000 events read by 100 over gRPC".into(),
            value,
            floor: 0.6,
            is_ratio: true,
            note,
        },
        Figure {
            what: "encodings of one event for 100 readers".into(),
            value: per_event,
            floor: 1.0,
            is_ratio: false,
            note: String::new(),
        },
    ]
}
