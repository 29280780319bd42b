//! What many ended jobs cost: memory, a start, a listing, a submit.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use conductor_gateway::{
    journal::{
        BatchAppend, Catalogue, CreateOutcome, Durability, EmbeddedStore, EventBatch, EventLog, Holder,
        JobId, Lease,
    },
    pb::{EndOfStream, Job, JobState, TaskOptions, Timestamp, Usage, job_event::Payload, storage::JobRecord},
    principal::Principal,
};

use super::{
    Figure, client, median,
    start::{BINARY, Process},
};

const COUNTS: [u32; 3] = [1_000, 10_000, 100_000];
/// The bare program does what a start has to do at the least: it reads the catalogue and checks every entry.
const BARE: &str = "bare-catalogue";

/// Reads a catalogue and checks every entry's length and checksum.
pub fn bare_catalogue(path: &str) {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut entries) = (8, 0);
    while at < bytes.len() {
        let number = |from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().unwrap());
        let (len, expected) = (number(at) as usize, number(at + 4));
        let content = &bytes[at + 8..at + 8 + len];
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&(at as u64).to_le_bytes()), content);
        assert_eq!(checksum, expected);
        entries += 1;
        at += 8 + len;
    }
    println!("{entries}");
}

/// A store with so many ended jobs of one tool call each, written as the gateway writes them.
async fn fill(path: &Path, count: u32, template: &[Payload]) {
    let store = EmbeddedStore::open(path, Durability::Process).unwrap();
    Catalogue::open(&store).await.unwrap();
    let lease = Lease { holder: Holder::generate().unwrap(), time: Duration::from_secs(3600) };
    for _ in 0..count {
        let job_id = JobId::generate().unwrap();
        let job = Job {
            job_id: job_id.to_string(),
            state: JobState::Queued as i32,
            caller: "local".into(),
            options: Some(TaskOptions::default()),
            create_time: Some(Timestamp::now()),
            ..Job::default()
        };
        let principal = Some(Principal::local().to_stored());
        let record = JobRecord { job: Some(job.clone()), request_digest: vec![7; 32].into(), principal };
        let CreateOutcome::New(claim) = store.create(&record, &lease).await.unwrap() else { unreachable!() };
        let batch = Arc::new(EventBatch::of_events(&job_id, template));
        let last_sequence = batch.last_sequence();
        let answers = store.append(vec![BatchAppend { claim: claim.clone(), batches: vec![batch] }]).await;
        assert!(answers.iter().all(Result::is_ok));
        let now = Timestamp::now();
        let usage = Usage { tool_calls: Some(1), ..Usage::default() };
        let ended = Job {
            state: JobState::Succeeded as i32,
            start_time: Some(now),
            end_time: Some(now),
            expire_time: Some(now.after(Duration::from_secs(86_400))),
            last_sequence,
            usage: Some(usage),
            ..job
        };
        store.end(&claim, &ended).await.unwrap();
    }
    store.close().await;
}

fn memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

async fn timed(times: usize, mut work: impl AsyncFnMut()) -> f64 {
    let mut taken = Vec::new();
    for _ in 0..times {
        let started = Instant::now();
        work().await;
        taken.push(started.elapsed().as_secs_f64() * 1e3);
    }
    median(taken)
}

pub async fn figures() -> Vec<Figure> {
    let end = Payload::EndOfStream(EndOfStream { state: JobState::Succeeded as i32, message: "done".into() });
    let template = vec![end; 5];
    let mut rows: Vec<[f64; 6]> = Vec::new();
    for count in COUNTS {
        // The first start fills the bundled engine's workspace.
        let mut process = Process::start(&[]).await;
        let mut directory = std::mem::replace(&mut process.directory, tempfile::tempdir().unwrap());
        drop(process);
        let store = directory.path().join("conductor-data");
        fill(&store, count, &template).await;
        let (mut starts, mut bares, mut held) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = [0.0; 6];
        for round in 0..5 {
            let catalogue = store_of(directory.path()).join("catalogue");
            let started = Instant::now();
            let bare = std::process::Command::new(std::env::current_exe().unwrap())
                .args([BARE, catalogue.to_str().unwrap()])
                .output()
                .unwrap();
            assert!(bare.status.success());
            bares.push(started.elapsed().as_secs_f64() * 1e3);
            let mut process = Process::start_in(directory, &[]).await;
            starts.push(process.start_time.as_secs_f64() * 1e3);
            held.push(memory(process.child.id()));
            if round == 4 {
                let address = process.address;
                row[4] = timed(51, async || {
                    client::read_http(address, "/api/v1/jobs?page_size=50").await;
                })
                .await;
                let mut grpc = process.client().await;
                row[5] = timed(51, async || {
                    let request = conductor_gateway::pb::SubmitJobRequest {
                        task: super::start::call("list_available_agents"),
                        options: None,
                    };
                    grpc.submit_job(request).await.unwrap();
                })
                .await;
            }
            directory = std::mem::replace(&mut process.directory, tempfile::tempdir().unwrap());
            drop(process);
        }
        (row[0], row[1], row[2], row[3]) = (f64::from(count), median(starts), median(bares), median(held));
        println!(
            "     {count} ended jobs: start {:.0} ms (bare read of the catalogue {:.0} ms), {:.1} MiB, a page {:.2} ms, a submit {:.2} ms",
            row[1],
            row[2],
            row[3] / 1048576.0,
            row[4],
            row[5]
        );
        rows.push(row);
    }
    let (few, many) = (rows[0], rows[2]);
    let figure = |what: &str, value: f64, floor: f64, note: String| Figure {
        what: what.into(),
        value,
        floor,
        is_ratio: false,
        note,
    };
    let note = format!("{BINARY} holds {:.1} MiB with {} jobs", few[3] / 1048576.0, few[0]);
    vec![
        figure(
            "memory of an ended job after a start, bytes",
            (many[3] - few[3]) / (many[0] - few[0]),
            600.0,
            note,
        ),
        figure("start with 100,000 ended jobs, ms", many[1], 500.0, format!("with 1,000: {:.0}", few[1])),
        figure(
            "the same by a bare read of the catalogue",
            (many[1] - few[1]) / many[2],
            4.0,
            format!("bare: {:.0} ms", many[2]),
        ),
        figure("memory after that start, MiB", many[3] / 1048576.0, 100.0, String::new()),
        figure(
            "a page of 50 with 100,000 jobs by one with 1,000",
            many[4] / few[4],
            1.5,
            format!("{:.2} ms", many[4]),
        ),
        figure(
            "a submit with 100,000 jobs by one with 1,000",
            many[5] / few[5],
            1.5,
            format!("{:.2} ms", many[5]),
        ),
    ]
}

fn store_of(directory: &Path) -> std::path::PathBuf {
    directory.join("conductor-data")
}
