//! A damaged store: whatever byte of whatever file was changed, lost or torn, the gateway starts, gives what is whole
//! exactly as it was, and says what is not.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    checker::run,
    scenario::{Random, Scenario, size},
    support::{Gateway, Options, eventually, send},
};

/// What was there before.
struct Kept {
    /// Every event of every job, in order.
    jobs: BTreeMap<String, Vec<Value>>,
    /// Those that had not ended.
    running: Vec<String>,
    /// What `GetJob` says of those that had.
    documents: BTreeMap<String, Value>,
    deleted: String,
}

fn options(engine: &Path) -> Options {
    Options::default()
        .set("conductor.project_path", engine.display())
        .set("conductor.command", format!("[{}]", crate::support::mean_engine().display()))
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "warn,conductor_gateway::cli=info")
}

/// A store with jobs of many sizes, some of them running when the gateway was killed.
async fn fill(gateway: &mut Gateway) -> Kept {
    let mut jobs = BTreeMap::new();
    for (number, input) in
        ["ok", "bytes", "drip 60", "flood 1", "json-error", "drip 12"].into_iter().enumerate()
    {
        let job_id = gateway.submit(&run(input, &format!("e{number}"))).await;
        jobs.insert(job_id.clone(), gateway.events(&job_id).await);
        eventually(std::time::Duration::from_secs(5), "it is marked as ended", async || {
            gateway.job(&job_id).await["expire_time"].is_string()
        })
        .await;
    }
    let mut running = Vec::new();
    for number in 0..2 {
        let job_id = gateway.submit(&run("ignore-term", &format!("r{number}"))).await;
        let mut reader = gateway.sse(&job_id, 0).await;
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &Value| event["event"] != "on_tool_output") {
            events.push(reader.next().await.unwrap());
        }
        jobs.insert(job_id.clone(), events);
        running.push(job_id);
    }
    let mut documents = BTreeMap::new();
    for job_id in jobs.keys().filter(|job_id| !running.contains(job_id)) {
        documents.insert(job_id.clone(), gateway.job(job_id).await);
    }
    let deleted = gateway.submit(&run("ok", "deleted")).await;
    gateway.events(&deleted).await;
    eventually(std::time::Duration::from_secs(5), "it is deleted", async || {
        let path = format!("/api/v1/jobs/{deleted}");
        (200..300).contains(&send(&gateway.address, "DELETE", &path, &[], None).await.status)
    })
    .await;
    gateway.crash();
    Kept { jobs, running, documents, deleted }
}

fn files(store: &Path) -> Vec<PathBuf> {
    let jobs = fs::read_dir(store.join("jobs")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = jobs.chain([store.join("catalogue")]).collect();
    files.sort();
    files
}

/// Damages one file. Answers with which, and how.
fn damage(store: &Path, random: &mut Random) -> (PathBuf, String) {
    let files = files(store);
    // The catalogue is one of few files and matters for all.
    let path = if random.below(4) == 0 { store.join("catalogue") } else { random.one_of(&files).clone() };
    let mut bytes = fs::read(&path).unwrap();
    let len = bytes.len() as u64;
    // Often in the small parts that everything hangs on.
    let mut place = |within: u64| -> usize {
        let bound = if random.below(2) == 0 { within.min(256) } else { within };
        usize::try_from(random.below(bound)).unwrap()
    };
    let at = place(len);
    let what = match random.below(8) {
        0 | 1 => {
            bytes[at] ^= 1 << random.below(8);
            format!("a bit at {at} flipped")
        }
        2 => {
            bytes.truncate(at);
            format!("cut to {at} of {len} bytes")
        }
        3 => {
            let end = bytes.len() - usize::try_from(random.below(40.min(len))).unwrap();
            bytes.truncate(end);
            format!("its tail torn off at {end} of {len}")
        }
        4 => {
            let end = bytes.len().min(at + 1 + usize::try_from(random.below(5_000)).unwrap());
            bytes[at..end].fill(0);
            format!("zeros from {at} to {end}")
        }
        5 => {
            let end = bytes.len().min(at + 1 + usize::try_from(random.below(64)).unwrap());
            for byte in &mut bytes[at..end] {
                *byte = u8::try_from(random.below(256)).unwrap();
            }
            format!("noise from {at} to {end}")
        }
        6 => {
            bytes.extend((0..random.below(300)).map(|number| u8::try_from(number % 251).unwrap()));
            "bytes behind its end".to_owned()
        }
        _ => {
            let other = random.one_of(&files);
            bytes = fs::read(other).unwrap();
            format!("replaced by {}", other.display())
        }
    };
    fs::write(&path, bytes).unwrap();
    (path, what)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            // The socket of the operators stays behind; nobody listens on it any more.
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a reader of a job meets: the events, and what was said instead of others.
async fn read(gateway: &Gateway, job_id: &str) -> (u16, Vec<Value>, String) {
    let answer = gateway.get(&format!("/api/v1/stream/{job_id}")).await;
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    (answer.status, data.map(|line| serde_json::from_str(line).unwrap()).collect(), text)
}

/// One damage, one start. Answers with whether anything was lost.
async fn check_one(base: &Path, engine: &Path, kept: &Kept, random: &mut Random) -> bool {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let store = directory.path().join("conductor-data");
    copy(base, &store);
    let (path, what) = damage(&store, random);
    let what = format!("{}: {what}", path.file_name().unwrap().to_string_lossy());
    let damaged_bytes = fs::read(&path).unwrap();
    let gateway = Gateway::start_in(directory.clone(), options(engine));
    let mut is_lost = false;
    for (job_id, expected) in &kept.jobs {
        let (status, events, text) = read(&gateway, job_id).await;
        // What comes is what was, or the end that the restart wrote.
        let by_sequence = |sequence: u64| expected.get(usize::try_from(sequence).unwrap() - 1);
        let mut last = 0;
        for event in &events {
            let sequence = event["sequence"].as_u64().unwrap();
            assert!(sequence > last, "{what}: {job_id}: {sequence} behind {last}");
            last = sequence;
            match by_sequence(sequence) {
                Some(before) => assert_eq!(event, before, "{what}: {job_id}: silently wrong"),
                None => {
                    assert!(kept.running.contains(job_id), "{what}: {job_id}: an event from nowhere: {event}")
                }
            }
        }
        let is_whole = events.len() >= expected.len() && last as usize == events.len();
        if !is_whole {
            is_lost = true;
            let log = gateway.log.lock().unwrap().clone();
            let is_named = log.lines().any(|line| line.contains(job_id.as_str()) && line.contains("lost"));
            let is_said = text.contains("DATA_LOSS") || is_named;
            assert!(
                is_said,
                "{what}: {job_id}: {status}, {} of {} events and no word: {log}",
                events.len(),
                expected.len()
            );
        } else if kept.running.contains(job_id) && !text.contains("DATA_LOSS") {
            // Nothing was lost of what nobody has seen either.
            assert_eq!(events.last().unwrap()["data"]["state"], "INTERRUPTED", "{what}: {job_id}");
        }
        // Its document too is as it was, or says what happened to it.
        let job = gateway.get(&format!("/api/v1/jobs/{job_id}")).await;
        let state = &events.last().map_or(Value::Null, |event| event["data"]["state"].clone());
        let is_honest = match job.status {
            200 => match kept.documents.get(job_id) {
                Some(before) => job.json() == *before,
                // The end lies behind what its reader was told to be lost.
                None => job.json()["state"] == *state || !is_whole || text.contains("DATA_LOSS"),
            },
            _ => job.text().contains("DATA_LOSS"),
        };
        assert!(is_honest, "{what}: {job_id}: {}: {}", job.status, job.text());
    }
    // A deleted one does not come back, but where nobody can know that it was.
    let deleted = gateway.get(&format!("/api/v1/jobs/{}", kept.deleted)).await;
    assert!(deleted.status == 404 || deleted.text().contains("DATA_LOSS"), "{what}: {}", deleted.text());
    // What was met and could not be used is kept as it was.
    let log = gateway.log.lock().unwrap().clone();
    if is_lost || log.contains("the store is damaged") {
        let aside = fs::read_dir(store.join("damaged")).map(|entries| entries.flatten().count()).unwrap_or(0);
        let missing_only = damaged_bytes.is_empty() || log.contains("missing");
        assert!(aside > 0 || missing_only, "{what}: nothing was kept aside: {log}");
    }
    // And it works.
    let job_id = gateway.submit(&run("ok", "after")).await;
    assert_eq!(gateway.events(&job_id).await.last().unwrap()["data"]["state"], "SUCCEEDED", "{what}");
    is_lost
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere() {
    let mut scenario = Scenario::begin("damage").await;
    let mut gateway = Gateway::mean(Options::default().set("conductor.kill_grace_seconds", 1));
    let engine = gateway.path("engine");
    let kept = fill(&mut gateway).await;
    let base = gateway.path("conductor-data");
    let damages = size(120, 3_000);
    let mut lost = 0;
    for _ in 0..damages {
        lost += usize::from(check_one(&base, &engine, &kept, &mut scenario.random).await);
    }
    scenario.report(format_args!(
        "{damages} damages in {} files: 0 silently wrong, {lost} lost something and said what, the others lost nothing",
        files(&base).len()
    ));
}
