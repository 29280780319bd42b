//! No disk, no descriptors, no processes: what cannot be done is refused clearly, nothing is lost, and all goes on by
//! itself when there is room again.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use conductor_gateway::pb::{self, gateway_service_client::GatewayServiceClient};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use crate::{
    checker::{check_job, run},
    scenario::Scenario,
    support::{Gateway, Options, eventually, mean_engine, write_workspace},
};

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A small disk of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, kibibytes: u32) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={kibibytes}k");
        succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path));
        Self(path)
    }

    fn grow(&self, kibibytes: u32) {
        let size = format!("remount,size={kibibytes}k");
        succeeds(Command::new("mount").args(["-o", &size]).arg(&self.0));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

async fn submit(gateway: &Gateway, input: &str, conversation: &str) -> (u16, Value) {
    let answer = gateway.post("/api/v1/stream-execute", &run(input, conversation)).await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, to mount a small disk"]
async fn full_disk() {
    let scenario = Scenario::begin("full_disk").await;
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(directory.path().join("disk"), 3 * 1024);
    let options = Options::default()
        .set("storage.path", disk.0.join("store").display())
        .set("conductor.timeout", 60)
        .set("conductor.max_output_bytes", 64 << 20);
    let gateway = Gateway::mean(options);
    let before = gateway.submit(&run("flood 1", "before")).await;
    let before_events = gateway.events(&before).await;
    // More than there is room for: its reader has what was stored, and waits for the rest.
    let flood = gateway.submit(&run("flood 8", "flood")).await;
    let mut reader = gateway.sse(&flood, 0).await;
    let mut seen = Vec::new();
    eventually(Duration::from_secs(20), "the disk is full", async || {
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(20), reader.next()).await {
            seen.push(event);
        }
        submit(&gateway, "ok", "refused").await.0 == 503
    })
    .await;
    let (status, refused) = submit(&gateway, "ok", "refused").await;
    assert_eq!((status, &refused["reason"]), (503, &json!("STORE_UNAVAILABLE")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("disk is full"), "{refused}");
    let request = pb::SubmitJobRequest {
        task: Some(pb::Task { task: Some(pb::task::Task::Command("list the agents".into())) }),
        options: None,
    };
    let status = gateway.grpc().await.submit_job(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(gateway.get("/health/live").await.status, 200);
    assert_eq!(gateway.events(&before).await, before_events, "what was stored can be read");
    // Whoever is in need of room can make some.
    let deleted =
        crate::support::send(&gateway.address, "DELETE", &format!("/api/v1/jobs/{before}"), &[], None).await;
    assert!((200..300).contains(&deleted.status), "{}", deleted.text());
    disk.grow(64 * 1024);
    while let Some(event) = reader.next().await {
        seen.push(event);
    }
    check_job(&gateway, &flood, &seen).await;
    assert_eq!(seen.last().unwrap()["data"]["state"], "SUCCEEDED");
    let (status, accepted) = submit(&gateway, "ok", "after").await;
    assert_eq!(status, 200, "{accepted}");
    check_job(&gateway, accepted["job_id"].as_str().unwrap(), &[]).await;
    assert_eq!(gateway.job(&before).await["reason"], "JOB_NOT_FOUND");
    // And a restart finds nothing wrong.
    let gateway = gateway.crash_and_restart();
    check_job(&gateway, &flood, &seen).await;
    assert!(!gateway.log.lock().unwrap().contains("damaged"), "{}", gateway.log.lock().unwrap());
    scenario.report(format_args!(
        "3 MiB of disk: submits refused with STORE_UNAVAILABLE, deletes taken, {} events of the job that hit it whole",
        seen.len()
    ));
}

/// Waits until the disk is full for new jobs.
async fn until_full(gateway: &Gateway) {
    eventually(Duration::from_secs(20), "the disk is full", async || {
        submit(gateway, "ok", "refused").await.0 == 503
    })
    .await;
}

async fn running(gateway: &Gateway) -> Value {
    gateway.get("/api/v1/info").await.json()["running_jobs"].clone()
}

/// A full disk holds nobody's work: jobs are cancelled and time out, a gateway starts, reads and deletes; what has to be written is
/// written when there is room.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, to mount a small disk"]
async fn full_disk_holds_nothing_up() {
    let scenario = Scenario::begin("full_disk_holds_nothing_up").await;
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(directory.path().join("disk"), 3 * 1024);
    let options = Options::default()
        .set("storage.path", disk.0.join("store").display())
        .set("conductor.kill_grace_seconds", 1)
        .set("conductor.max_output_bytes", 64 << 20);
    let gateway = Gateway::mean(options);
    let kept = gateway.submit(&run("ok", "kept")).await;
    let kept_events = gateway.events(&kept).await;
    let cancelled = gateway.submit(&run("flood 32", "cancelled")).await;
    let mut watcher =
        crate::support::SseReader::try_open_at(&gateway.address, "/api/v1/watch", "", &[]).await.unwrap();
    let mut body = run("flood 32", "late");
    body["timeout_seconds"] = json!(4);
    let late = gateway.submit(&body).await;
    until_full(&gateway).await;
    let started = std::time::Instant::now();
    let path = format!("/api/v1/jobs/{cancelled}/cancel");
    gateway.post(&path, &json!({})).await;
    // Both engines are gone and both permits given back, although the store has not heard of it.
    eventually(Duration::from_secs(15), "nothing runs", async || running(&gateway).await == json!(0)).await;
    let ended_within = started.elapsed();
    assert!(
        crate::support::alive_with(&cancelled).is_empty() && crate::support::alive_with(&late).is_empty()
    );
    disk.grow(64 * 1024);
    for (job_id, state, reason) in [(&cancelled, "CANCELLED", "CANCELLED"), (&late, "FAILED", "TIMED_OUT")] {
        let events = gateway.events(job_id).await;
        check_job(&gateway, job_id, &events).await;
        let job = gateway.job(job_id).await;
        assert_eq!((&job["state"], &job["error"]["reason"]), (&json!(state), &json!(reason)), "{job}");
    }

    // Whoever watches all jobs is told of both ends, which were stored long after they came.
    let mut told = std::collections::BTreeMap::new();
    while told.get(&cancelled) != Some(&json!("CANCELLED")) || told.get(&late) != Some(&json!("FAILED")) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), watcher.next_raw()).await;
        let event = next.expect("both ends are told").expect("the stream goes on");
        if let Ok(document) = serde_json::from_str::<Value>(&event.data) {
            let job = &document["data"];
            told.insert(job["job_id"].as_str().unwrap().to_owned(), job["state"].clone());
        }
    }
    drop(watcher);

    // And a start, with a job that was cut down in the middle.
    let never = disk.0.join("never").display().to_string();
    let interrupted = gateway.submit(&run(&format!("drip-until {never}"), "interrupted")).await;
    gateway.sse(&interrupted, 0).await.until("on_tool_output").await;
    let mut gateway = gateway;
    gateway.crash();
    let filler = disk.0.join("filler");
    std::fs::write(&filler, vec![0; 256 << 20]).unwrap_err();
    let begun = std::time::Instant::now();
    let gateway = gateway.restart();
    let started_within = begun.elapsed();
    assert_eq!(gateway.get("/health/live").await.status, 200);
    assert_eq!(gateway.events(&kept).await, kept_events, "what was stored can be read");
    assert_eq!(submit(&gateway, "ok", "refused").await.0, 503);
    // The last block of its file may have room for the end.
    let state = gateway.job(&interrupted).await["state"].clone();
    assert!(state == "RUNNING" || state == "INTERRUPTED", "{state}");
    let deleted =
        crate::support::send(&gateway.address, "DELETE", &format!("/api/v1/jobs/{late}"), &[], None).await;
    assert!((200..300).contains(&deleted.status), "{}", deleted.text());
    std::fs::remove_file(&filler).unwrap();
    let events = gateway.events(&interrupted).await;
    assert_eq!(events.last().unwrap()["data"]["state"], "INTERRUPTED");
    check_job(&gateway, &interrupted, &events).await;
    let (status, accepted) = submit(&gateway, "ok", "after").await;
    assert_eq!(status, 200, "{accepted}");
    scenario.report(format_args!(
        "a cancel and a timeout end their runs within {ended_within:.1?}, a start takes {started_within:.1?}; the ends are stored when there is room"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors() {
    const LIMIT: usize = 128;
    let scenario = Scenario::begin("descriptors").await;
    let gateway = Gateway::mean(Options::default().after(&format!("ulimit -n {LIMIT}")));
    let job_id = gateway.submit(&run("flood 4", "big")).await;
    gateway.events(&job_id).await;
    // More connections than there are descriptors: the longest idle ones are let go, and those that are served find everything there.
    // One connection with room for many readers that take nothing.
    let channel = Endpoint::from_shared(gateway.url()).unwrap().initial_connection_window_size(1 << 30);
    let mut client = GatewayServiceClient::new(channel.connect().await.unwrap());
    let mut idle = Vec::new();
    for _ in 0..2 * LIMIT {
        idle.push(tokio::net::TcpStream::connect(&gateway.address).await.unwrap());
    }
    let submit = async |client: &mut GatewayServiceClient<Channel>, conversation: String| {
        let body = run("ok", &conversation);
        let call = pb::ToolCall {
            tool: "execute_agent_contextual".to_owned(),
            arguments: Some(pb::Json::from_value(&body["arguments"])),
        };
        let options = pb::TaskOptions { conversation_id: conversation, ..pb::TaskOptions::default() };
        let request = pb::SubmitJobRequest {
            task: Some(pb::Task { task: Some(pb::task::Task::ToolCall(call)) }),
            options: Some(options),
        };
        client.submit_job(request).await.map(|answer| answer.into_inner().job.unwrap().job_id)
    };
    let ended = async |client: &mut GatewayServiceClient<Channel>, job_id: String| loop {
        let request = pb::GetJobRequest { job_id: job_id.clone() };
        let job = client.get_job(request).await.unwrap().into_inner().job.unwrap();
        if job.state().is_terminal() {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let among_many = submit(&mut client, "many".to_owned()).await.unwrap();
    assert_eq!(ended(&mut client, among_many).await.state(), pb::JobState::Succeeded);
    // Readers that would hold a file each, as many as there are descriptors, on one connection.
    let mut readers = Vec::new();
    for _ in 0..LIMIT {
        let request = pb::WatchJobRequest { job_id: job_id.clone(), after_sequence: 0 };
        let mut frames = client.watch_job(request).await.unwrap().into_inner();
        frames.message().await.unwrap();
        readers.push(frames);
    }
    let among_readers = submit(&mut client, "readers".to_owned()).await.unwrap();
    assert_eq!(ended(&mut client, among_readers).await.state(), pb::JobState::Succeeded);
    drop((readers, idle));
    // Not one left, whoever took them: refused, and all goes on in the same process when there are some again.
    let allow = |descriptors: u64| {
        let limit = Rlimit { current: Some(descriptors), maximum: Some(LIMIT as u64) };
        prlimit(Pid::from_raw(gateway.pid()), Resource::Nofile, limit).unwrap();
    };
    allow(3);
    let refused = submit(&mut client, "refused".to_owned()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(refused.message().contains("nothing was accepted"), "{refused}");
    allow(LIMIT as u64);
    let after = submit(&mut client, "after".to_owned()).await.unwrap();
    assert_eq!(ended(&mut client, after).await.state(), pb::JobState::Succeeded);
    // Jobs that wait, more than there are descriptors, found again by a start with as few.
    let mut waiting = Vec::new();
    for number in 0..2 * LIMIT {
        // As many as one caller may run, so that none of them is begun by the start.
        let input = if number < 12 { "hang" } else { "ok" };
        waiting.push(gateway.submit(&run(input, &format!("w{number}"))).await);
    }
    let gateway = gateway.crash_and_restart();
    for waited in &waiting {
        check_job(&gateway, waited, &[]).await;
    }
    check_job(&gateway, &job_id, &[]).await;
    let log = gateway.log.lock().unwrap().clone();
    assert!(!log.contains("panicked") && !log.contains("\"ERROR\""), "{log}");
    scenario.report(format_args!(
        "{LIMIT} descriptors, {} idle connections, {LIMIT} readers of files, {} jobs that wait, a crash: \
         nobody notices; none at all: UNAVAILABLE, and all goes on",
        2 * LIMIT,
        waiting.len()
    ));
}

/// Makes a directory another user's.
fn give(directory: &Path, user: &str) {
    succeeds(Command::new("chown").args(["-R", user]).arg(directory));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, to run the gateway as a user that may have few processes"]
async fn processes() {
    // Nobody else's processes count for this user.
    const USER: &str = "54321";
    let scenario = Scenario::begin("processes").await;
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let root = directory.path().join("engine");
    write_workspace(&root);
    give(directory.path(), USER);
    let options = Options::default()
        .set("conductor.project_path", root.display())
        .set("conductor.command", format!("[{}]", mean_engine().display()))
        .set("conductor.kill_grace_seconds", 1)
        .set("jobs.max_running", 40)
        .after(&format!(
            "exec prlimit --nproc=30:30 setpriv --reuid={USER} --regid={USER} --clear-groups \"$0\" \"$@\""
        ));
    let gateway = Gateway::start_in(directory, options);
    let mut running = Vec::new();
    let mut refused = None;
    for number in 0..40 {
        let (status, accepted) = submit(&gateway, "hang", &format!("c{number}")).await;
        assert_eq!(status, 200, "{accepted}");
        let job_id = accepted["job_id"].as_str().unwrap().to_owned();
        let mut reader = gateway.sse(&job_id, 0).await;
        loop {
            let event = reader.next().await.unwrap();
            if event["event"] == "on_tool_output" {
                running.push(job_id);
                break;
            }
            if event["event"] == "error" {
                refused = Some(event);
                break;
            }
        }
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.unwrap_or_else(|| panic!("{} engines were started", running.len()));
    assert_eq!(refused["data"]["reason"], "ENGINE_NOT_STARTED", "{refused}");
    assert_eq!(gateway.get("/health/live").await.status, 200, "the gateway itself is well");
    for job_id in &running {
        gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
        check_job(&gateway, job_id, &[]).await;
    }
    let (_, accepted) = submit(&gateway, "ok", "after").await;
    let after = accepted["job_id"].as_str().unwrap();
    check_job(&gateway, after, &[]).await;
    assert_eq!(gateway.job(after).await["state"], "SUCCEEDED");
    assert!(!gateway.log.lock().unwrap().contains("panicked"), "{}", gateway.log.lock().unwrap());
    scenario.report(format_args!(
        "30 processes for the user: {} engines ran, the next was ENGINE_NOT_STARTED, all goes on by itself",
        running.len()
    ));
}
