//! kill -9 amid running and queued jobs: nothing seen is lost, nothing is started twice, nothing is left.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::support::{Gateway, Options, alive_with, eventually, starts};

#[tokio::test]
async fn kill_9_amid_running_and_queued_jobs() {
    // Of 26 the last quarter is for others: 20 run.
    let options = Options::default().set("jobs.max_running", 26).set("conductor.kill_grace_seconds", 1);
    let gateway = Gateway::mean(options);
    // Every job its own conversation, so that runs of the one agent do not wait for each other.
    let submit = async |input: &str, number: usize| {
        let body = json!({
            "tool": "execute_agent_contextual",
            "arguments": {"agent_id": "Mean_Agent", "input_text": input},
            "conversation_id": format!("c{number}"),
        });
        gateway.submit(&body).await
    };
    let (mut running, mut queued) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let input = if number % 2 == 0 { "escaped-grandchild" } else { "stubborn-grandchild" };
        running.push(submit(input, number).await);
    }
    for number in 20..40 {
        queued.push(submit("ok", number).await);
    }
    let mut seen: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for job_id in &running {
        let mut reader = gateway.sse(job_id, 0).await;
        let mut events = Vec::new();
        while let Some(event) = reader.next().await {
            let is_output = event["event"] == "on_tool_output"
                && event["data"]["text"].as_str().unwrap().contains("spawned");
            events.push(event);
            if is_output {
                break;
            }
        }
        seen.insert(job_id.clone(), events);
    }
    for job_id in &queued {
        let first = gateway.sse(job_id, 0).await.next().await.unwrap();
        assert_eq!((&first["event"], &first["data"]["reason"]), (&json!("status_update"), &json!("QUEUED")));
        seen.insert(job_id.clone(), vec![first]);
    }
    let home = gateway.path("conductor-data").display().to_string();
    assert!(alive_with(&home).len() >= 40, "each running engine has a grandchild");

    let gateway = gateway.crash_and_restart();
    assert!(
        alive_with("--as=escape").iter().all(|pid| !in_directory(*pid, &gateway)),
        "no grandchild outlives the crash"
    );
    for (job_id, before) in &seen {
        let events = gateway.events(job_id).await;
        assert_eq!(events[..before.len()], before[..], "what was seen is there");
        for (event, sequence) in events.iter().zip(1..) {
            assert_eq!(event["sequence"], sequence, "no sequence repeats or jumps");
        }
        let end = &events.last().unwrap()["data"]["state"];
        let expected = if running.contains(job_id) { "INTERRUPTED" } else { "SUCCEEDED" };
        assert_eq!(end, expected, "{job_id}");
        let ends = events.iter().filter(|event| event["event"] == "end_of_stream").count();
        assert_eq!(ends, 1);
        assert_eq!(gateway.job(job_id).await["state"], expected);
    }
    // Starts are counted by the engine itself.
    let starts = starts(gateway.directory.path());
    assert_eq!(starts.len(), 40, "every job was started");
    assert!(starts.values().all(|count| *count == 1), "{starts:?}");
    eventually(Duration::from_secs(2), "no engine is left", async || {
        alive_with(&home).iter().all(|pid| *pid == gateway.pid())
    })
    .await;
}

fn in_directory(pid: i32, gateway: &Gateway) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(gateway.directory.path()))
}

#[tokio::test]
async fn ended_jobs_are_there_after_a_crash() {
    let gateway = Gateway::start();
    let body = json!({"command": "list the agents", "idempotency_key": "once", "labels": {"kind": "test"}});
    let job_id = gateway.submit(&body).await;
    let before = gateway.events(&job_id).await;
    let job_before = gateway.job(&job_id).await;
    let gateway = gateway.crash_and_restart();
    assert_eq!(gateway.events(&job_id).await, before);
    let job = gateway.job(&job_id).await;
    assert_eq!(
        (&job["state"], &job["result"], &job["task"]),
        (&json!("SUCCEEDED"), &job_before["result"], &job_before["task"])
    );
    assert_eq!(gateway.submit(&body).await, job_id, "the key still means the same job");
    let listed = gateway.get("/api/v1/jobs?label=kind:test&state=SUCCEEDED").await.json();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_store_starts_and_says_what_is_lost() {
    let gateway = Gateway::start();
    let kept = gateway.submit(&json!({"command": "list the agents"})).await;
    let damaged = gateway.submit(&json!({"command": "list the agents"})).await;
    gateway.events(&kept).await;
    gateway.events(&damaged).await;
    eventually(Duration::from_secs(5), "both are marked as ended", async || {
        gateway.job(&damaged).await["expire_time"].is_string()
            && gateway.job(&kept).await["expire_time"].is_string()
    })
    .await;
    let check = || crate::cli::run(&["storage", "check", "--json"], Some(gateway.directory.path()));
    let printed = check();
    let whole: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(
        (printed.status, &whole["is_whole"], &whole["ended"], &whole["unfinished"]),
        (0, &json!(true), &json!(2), &json!(0))
    );
    let path = gateway.path("conductor-data/jobs").join(&damaged);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(13).position(|window| window == b"on_tool_start").unwrap_or(bytes.len() / 2);
    bytes[at] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let catalogue = gateway.path("conductor-data/catalogue");
    let bytes = std::fs::read(&catalogue).unwrap();
    std::fs::write(&catalogue, &bytes[..bytes.len() - 3]).unwrap();
    // A check beside the running gateway finds it, names the job and the events, and writes nothing.
    let printed = check();
    let found: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!((printed.status, &found["is_whole"]), (74, &json!(false)), "{found}");
    let damage = found["damage"].as_array().unwrap();
    assert_eq!(damage.len(), 1, "{found}");
    assert!(damage[0]["job_id"] == json!(damaged) && damage[0]["first_lost_sequence"].is_u64(), "{found}");
    assert_eq!(found["notes"].as_array().unwrap().len(), 1, "the catalogue's torn end is none: {found}");
    assert!(!gateway.path("conductor-data/damaged").exists());
    let (file, away) = (gateway.path("conductor-data/jobs").join(&kept), gateway.path("away"));
    std::fs::rename(&file, &away).unwrap();
    assert!(check().stdout.contains("its file is missing"));
    std::fs::rename(&away, &file).unwrap();
    let gateway = gateway.crash_and_restart();
    assert!(gateway.log.lock().unwrap().contains("damaged"), "the log says it");
    assert_eq!(gateway.events(&kept).await.last().unwrap()["event"], "end_of_stream");
    let raw = gateway.get(&format!("/api/v1/stream/{damaged}")).await.text();
    assert!(raw.contains("DATA_LOSS"), "{raw}");
    assert!(gateway.path("conductor-data/damaged").is_dir(), "the original is kept");
}
