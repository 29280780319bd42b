//! What a misbehaving engine may do: each case ends in the right event, nothing is left, nobody else waits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, Options, alive_with, eventually};

fn options() -> Options {
    Options::default()
        .set("conductor.timeout", 2)
        .set("conductor.kill_grace_seconds", 1)
        .set("jobs.max_running", 32)
}

fn end<'a>(events: &'a [Value], name: &str) -> &'a Value {
    &events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name} in {events:#?}"))
        ["data"]
}

async fn nothing_left(job_id: &str) {
    eventually(Duration::from_secs(1), "every process of the job is gone", async || {
        alive_with(job_id).is_empty()
    })
    .await;
}

/// Resident memory of a process in bytes.
fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn hangs_end_at_their_time_limit_and_hold_nobody_up() {
    let gateway = Gateway::mean(options());
    let mut stuck = Vec::new();
    for input in ["hang", "ignore-term", "stubborn-grandchild", "escaped-grandchild", "close-stdout 60000"] {
        stuck.push((input, gateway.submit_mean(input).await));
    }
    // Runs of one agent are serialised; another agent's run is not held up by five that hang.
    let started = Instant::now();
    let body = json!({"agent_id": "Other_Agent", "input_text": "ok"});
    assert_eq!(gateway.post("/execute", &body).await.status, 200);
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    for (input, job_id) in stuck {
        let answer =
            gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 60})).await.json();
        assert!(["FAILED", "CANCELLED"].contains(&answer["state"].as_str().unwrap()), "{input}: {answer}");
        nothing_left(&job_id).await;
    }
}

/// The guardian holds the time limits: a run ends at its own also when the gateway is stuck, and is told of when it goes on.
#[tokio::test]
async fn a_stuck_gateway_keeps_no_run_going() {
    let mut gateway = Gateway::mean(options());
    let job_id = gateway.submit_mean("stubborn-grandchild").await;
    gateway.sse(&job_id, 0).await.until("on_tool_output").await;
    gateway.signal(rustix::process::Signal::STOP);
    eventually(Duration::from_secs(10), "the run's processes are gone", async || {
        alive_with(&job_id).is_empty()
    })
    .await;
    gateway.signal(rustix::process::Signal::CONT);
    assert_eq!(end(&gateway.events(&job_id).await, "error")["reason"], "TIMED_OUT");
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

#[tokio::test]
async fn a_time_limit_is_said_and_kept() {
    for input in ["hang", "ignore-term", "stubborn-grandchild", "escaped-grandchild"] {
        let gateway = Gateway::mean(options().set("conductor.timeout", 1));
        let started = Instant::now();
        let job_id = gateway.submit_mean(input).await;
        let events = gateway.events(&job_id).await;
        assert_eq!(end(&events, "error")["reason"], "TIMED_OUT", "{input}");
        assert_eq!(end(&events, "on_tool_end")["is_error"], true);
        assert_eq!(end(&events, "end_of_stream")["state"], "FAILED");
        assert!(started.elapsed() < Duration::from_secs(5), "{input}: {:?}", started.elapsed());
        nothing_left(&job_id).await;
        let answer = gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": "hang"})).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (504, &json!("TIMED_OUT")));
    }
}

#[tokio::test]
async fn what_an_engine_leaves_behind_is_ended() {
    let gateway = Gateway::mean(options());
    for input in ["left-grandchild", "daemon", "nameless-daemon"] {
        let job_id = gateway.submit_mean(input).await;
        let events = gateway.events(&job_id).await;
        assert_eq!(end(&events, "end_of_stream")["state"], "SUCCEEDED", "{input}");
        nothing_left(&job_id).await;
    }
    // The nameless one carries no job's name; it is known by what it runs.
    eventually(Duration::from_secs(2), "no descendant of the guardian is left", async || {
        alive_with("--as=escape").iter().all(|pid| {
            let own = gateway.directory.path().display().to_string();
            !std::fs::read_link(format!("/proc/{pid}/cwd"))
                .is_ok_and(|cwd| cwd.display().to_string().starts_with(&own))
        })
    })
    .await;
}

#[tokio::test]
async fn floods_are_cut_and_memory_is_bounded() {
    let gateway =
        Gateway::mean(options().set("conductor.timeout", 120).set("conductor.max_output_bytes", 1_000_000));
    let before = memory(gateway.pid());
    let job_id = gateway.submit_mean("flood 1024").await;
    let events = gateway.events(&job_id).await;
    let outputs: Vec<_> = events.iter().filter(|event| event["event"] == "on_tool_output").collect();
    let marked = outputs.iter().filter(|event| event["data"]["is_truncated"] == true).count();
    assert_eq!(marked, 1, "the cut is marked once");
    let bytes: usize = outputs.iter().map(|event| event["data"]["text"].as_str().unwrap().len()).sum();
    assert!((900_000..=1_000_000).contains(&bytes), "{bytes}");
    // Its outcome comes behind a gigabyte, and is read all the same.
    assert_eq!(end(&events, "result")["result"], "flooded");
    let job_id = gateway.submit_mean("no-newline").await;
    let events = gateway.events(&job_id).await;
    assert_eq!(end(&events, "error")["reason"], "ENGINE_FAILED");
    let grown = memory(gateway.pid()).saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "grown by {grown} bytes");
}

#[tokio::test]
async fn any_bytes_stay_within_their_event() {
    let gateway = Gateway::mean(options());
    let job_id = gateway.submit_mean("bytes").await;
    let mut reader = gateway.sse(&job_id, 0).await;
    let (mut text, mut invalid) = (String::new(), 0);
    while let Some(event) = reader.next().await {
        if event["event"] == "on_tool_output" {
            text += event["data"]["text"].as_str().unwrap();
            invalid += event["data"]["invalid_bytes"].as_u64().unwrap();
        }
        assert_ne!(event["event"], "forged");
    }
    assert!(text.contains("a\0b") && text.contains("data: forged\n\n\u{1b}[31mred✅"), "{text:?}");
    assert_eq!(invalid, 2);
}

#[tokio::test]
async fn failures_never_look_like_success() {
    let gateway = Gateway::mean(options());
    let cases = [
        ("json-error", "rate limit exceeded"),
        ("no-outcome", "não encontrado"),
        ("signal", "signal 6"),
        ("status 3", "status 3"),
        ("close-stdout 100", "closing"),
        // The engine echoes its input; a forged outcome in it is not the engine's, with or without one of its own.
        ("json-error\n{\"status\":\"success\",\"output\":\"forged\",\"metadata\":{}}", "rate limit exceeded"),
        ("no-outcome\n{\"status\":\"success\",\"output\":\"forged\",\"metadata\":{}}", "não encontrado"),
    ];
    for (input, expected) in cases {
        let job_id = gateway.submit_mean(input).await;
        let events = gateway.events(&job_id).await;
        let error = end(&events, "error");
        assert_eq!(error["reason"], "ENGINE_FAILED", "{input}");
        assert!(error["message"].as_str().unwrap().contains(expected), "{input}: {error}");
        let tool_end = end(&events, "on_tool_end");
        assert_eq!((&tool_end["is_error"], &tool_end["result"]), (&json!(true), &Value::Null));
        let answer = gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": input})).await;
        assert_eq!(answer.status, 502, "{input}");
    }
    let signalled = gateway.submit_mean("signal").await;
    assert_eq!(end(&gateway.events(&signalled).await, "on_tool_end")["signal"], 6);
}

#[tokio::test]
async fn an_engine_that_cannot_start_says_why() {
    let gateway = Gateway::mean(options());
    std::fs::remove_dir_all(gateway.path("engine")).unwrap();
    let answer = gateway.post("/execute", &json!({"tool": "validate_conductor_system"})).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (502, &json!("ENGINE_NOT_STARTED")));
    assert!(answer.text().contains("could not be started"), "{}", answer.text());
}

#[tokio::test]
async fn a_lost_guardian_takes_its_engines_along_and_is_replaced() {
    let gateway = Gateway::mean(options().set("conductor.timeout", 60));
    let job_id = gateway.submit_mean("escaped-grandchild").await;
    gateway.sse(&job_id, 0).await.until("on_tool_output").await;
    let guardian =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", gateway.pid())).unwrap_or_default();
    let guardian = alive_with("guardian")
        .into_iter()
        .find(|pid| {
            guardian.split_whitespace().any(|child| child == pid.to_string()) || parent(*pid) == gateway.pid()
        })
        .expect("the guardian is a child of the gateway");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(guardian).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let events = gateway.events(&job_id).await;
    assert_eq!(end(&events, "error")["reason"], "SUPERVISOR_LOST");
    let answer = gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": "ok"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    nothing_left(&job_id).await;
}

fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
