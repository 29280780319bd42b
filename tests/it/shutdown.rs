//! Leaving: in order, in time, with an honest last event for every reader.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{Gateway, Options, alive_with};

#[tokio::test(flavor = "multi_thread")]
async fn term_with_readers_running_jobs_and_half_open_sockets() {
    let options = Options::default()
        .set("server.shutdown_grace_seconds", 3)
        .set("conductor.kill_grace_seconds", 1)
        .set("jobs.max_running", 3);
    let mut gateway = Gateway::mean(options);
    let mut jobs = Vec::new();
    for number in 0..5 {
        let input = ["hang", "ignore-term", "escaped-grandchild", "ok", "ok"][number];
        let body = json!({
            "tool": "execute_agent_contextual", "conversation_id": format!("c{number}"),
            "arguments": {"agent_id": "Mean_Agent", "input_text": input},
        });
        jobs.push(gateway.submit(&body).await);
    }
    let mut readers = Vec::new();
    for number in 0..50 {
        let mut reader = gateway.sse(&jobs[number % 5], 0).await;
        let first = reader.next().await.unwrap();
        readers.push((
            number % 5,
            tokio::spawn(async move {
                let mut events = vec![first];
                events.extend(reader.rest().await);
                events
            }),
        ));
    }
    let mut half_open = Vec::new();
    for bytes in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHos", b"POST /execute HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"] {
        let mut socket = TcpStream::connect(&gateway.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        half_open.push(socket);
    }
    let home = gateway.path("conductor-data").display().to_string();
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    let status = tokio::task::block_in_place(|| gateway.wait(Duration::from_secs(10)));
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", gateway.log.lock().unwrap());
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    for (job, reader) in readers {
        let events = reader.await.unwrap();
        let last = events.last().unwrap();
        if job < 3 {
            assert_eq!(last["event"], "end_of_stream", "job {job}: {last}");
            assert_eq!(last["data"]["state"], "INTERRUPTED");
            assert_eq!(events[events.len() - 2]["data"]["reason"], "SHUTDOWN");
        } else {
            assert_eq!(last["data"]["reason"], "SHUTTING_DOWN", "a queued job's readers are told: {last}");
        }
    }
    assert!(alive_with(&home).is_empty(), "nothing is left");
    // The queued ones run after the restart.
    let gateway = Gateway::start_in(
        gateway.directory.clone(),
        Options::default()
            .set("conductor.project_path", gateway.path("engine").display())
            .set("conductor.command", format!("[{}]", crate::support::mean_engine().display())),
    );
    for job_id in &jobs[3..] {
        assert_eq!(gateway.events(job_id).await.last().unwrap()["data"]["state"], "SUCCEEDED");
    }
}

#[tokio::test]
async fn running_jobs_may_end_and_new_ones_are_refused() {
    let options = Options::default().set("server.shutdown_grace_seconds", 20);
    let mut gateway = Gateway::mean(options);
    let go_on = gateway.path("go-on");
    let job_id = gateway.submit_mean(&format!("two-parts {}", go_on.display())).await;
    let mut reader = gateway.sse(&job_id, 0).await;
    reader.until("on_tool_output").await;
    gateway.signal(Signal::TERM);
    crate::support::eventually(Duration::from_secs(2), "not ready", async || {
        gateway.get("/health/ready").await.status == 503
    })
    .await;
    crate::support::eventually(Duration::from_secs(2), "new jobs are refused", async || {
        gateway.post("/api/v1/stream-execute", &json!({"command": "list the agents"})).await.status == 503
    })
    .await;
    let refused = gateway.post("/execute", &json!({"command": "list the agents"})).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (503, &json!("SHUTTING_DOWN")));
    assert!(refused.headers.contains_key("retry-after"));
    std::fs::write(&go_on, "").unwrap();
    let rest = reader.rest().await;
    assert_eq!(rest.last().unwrap()["data"]["state"], "SUCCEEDED");
    assert_eq!(gateway.wait(Duration::from_secs(5)).and_then(|status| status.code()), Some(0));
}

#[tokio::test]
async fn a_second_term_exits_at_once() {
    let mut gateway = Gateway::mean(Options::default());
    let job_id = gateway.submit_mean("ignore-term").await;
    gateway.sse(&job_id, 0).await.until("on_tool_output").await;
    gateway.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(gateway.child.try_wait().unwrap().is_none(), "the grace period has begun");
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    let status = gateway.wait(Duration::from_secs(5)).expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    crate::support::eventually(Duration::from_secs(3), "the engine is gone", async || {
        alive_with(&job_id).is_empty()
    })
    .await;
}

#[tokio::test]
async fn queued_jobs_do_not_hold_the_end_up() {
    let options = Options::default()
        .set("jobs.max_running", 1)
        .set("server.shutdown_grace_seconds", 2)
        .set("conductor.kill_grace_seconds", 1);
    let mut gateway = Gateway::mean(options);
    let running = gateway.submit_mean("hang").await;
    gateway.sse(&running, 0).await.until("on_tool_output").await;
    for _ in 0..3 {
        gateway.submit_mean("ok").await;
    }
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
