//! A model that answers at once: its tokens through the gateway against a bare program with the same library, and what
//! a command costs.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use conductor_gateway::pb::{ExecuteRequest, JobState, Task, task};
use futures_util::StreamExt;
use http_body_util::BodyExt;

use super::{
    Figure, bare, client, median,
    start::{Child, Process},
};

const TOKENS: usize = 100_000;
const PAIRS: usize = 5;

pub fn data(delta: &str, finish: &str) -> Bytes {
    Bytes::from(format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1763836800,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    ))
}

/// A server that answers every request with `tokens` tokens, as fast as they are taken.
async fn model_server(tokens: usize) -> SocketAddr {
    let token = data("{\"content\":\"token  123456 \"}", "null");
    bare::sse_server(Arc::new(move |sender| {
        let token = token.clone();
        tokio::spawn(async move {
            for _ in 0..tokens {
                if sender.send(token.clone()).await.is_err() {
                    return;
                }
            }
            let _left = sender.send(data("{}", "\"stop\"")).await;
            let _left = sender.send(Bytes::from_static(b"data: [DONE]\n\n")).await;
        });
    }))
    .await
}

/// The baseline, built from its own package: the library that it uses is no dependency of the gateway.
fn build_relay() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/models");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--target-dir"])
        .arg(&target)
        .current_dir(package);
    assert!(cargo.status().unwrap().success(), "the baseline can be built");
    target.join("release/model-relay")
}

/// Plays a relay in a process of its own: each request asks the model and hands its bytes on as they come, unread.
pub fn bare_relay(model: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let model: SocketAddr = model.parse().unwrap();
        let address = bare::sse_server(Arc::new(move |sender| {
            tokio::spawn(async move {
                let mut body = client::open_http(model, "/").await;
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(bytes) = frame.into_data() else { continue };
                    if sender.send(bytes).await.is_err() {
                        return;
                    }
                }
            });
        }))
        .await;
        println!("{address}");
        std::future::pending::<()>().await;
    });
}

/// A gateway whose agent thinks with this model.
pub async fn thinking(model: SocketAddr, settings: &[&str]) -> Process {
    let base_url = format!("agent.base_url=http://{model}/v1");
    let mut all = vec![
        "agent.provider=openai",
        "agent.model=m",
        &base_url,
        "telemetry.log=warn,conductor_gateway::cli=info",
    ];
    all.extend(settings);
    Process::start(&all).await
}

pub async fn tokens() -> Vec<Figure> {
    let model = model_server(TOKENS).await;
    let gateway = thinking(model, &[]).await;
    let bare = Child::start_program(&build_relay(), &[&model.to_string()]);
    let costs = std::cell::RefCell::new(Vec::new());
    let ours = async || {
        let (started, before) = (Instant::now(), processor_time(gateway.child.id()));
        let body =
            client::post(gateway.address, "/api/v1/stream-execute", "{\"command\":\"tell me everything\"}")
                .await;
        let job: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let path = format!("/api/v1/stream/{}", job["job_id"].as_str().unwrap());
        let bytes = client::read_http(gateway.address, &path).await;
        assert!(bytes > 100 * TOKENS as u64, "{bytes} bytes of events");
        let cost = processor_time(gateway.child.id()) - before;
        costs.borrow_mut().push(cost.as_secs_f64() * 1e6 / TOKENS as f64);
        TOKENS as f64 / started.elapsed().as_secs_f64()
    };
    let theirs = async || {
        let started = Instant::now();
        let bytes = client::read_http(bare.address, "/").await;
        assert!(bytes > 100 * TOKENS as u64, "{bytes} bytes of events");
        TOKENS as f64 / started.elapsed().as_secs_f64()
    };
    let (value, note) = super::streams::paired(PAIRS, ours, theirs).await;
    let tokens = Figure {
        what: "100,000 tokens of a model to one SSE reader".into(),
        value,
        floor: 3.0,
        is_ratio: true,
        note,
    };
    let cost = Figure {
        what: "processor time of a token that comes in a burst, us".into(),
        value: median(costs.into_inner()),
        floor: 8.0,
        is_ratio: false,
        note: "from the model to one SSE reader, with the store".into(),
    };
    vec![tokens, cost]
}

/// Processor time of a process so far.
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // USER_HZ is 100 on every Linux (proc(5), times(2)).
    Duration::from_millis(ticks * 10)
}

pub async fn cost() -> Vec<Figure> {
    const JOBS: usize = 1000;
    let model = model_server(3).await;
    let gateway = thinking(model, &[]).await;
    let client = gateway.client().await;
    let run = async |jobs: usize| {
        futures_util::stream::iter(0..jobs)
            .for_each_concurrent(4, |_| {
                let mut client = client.clone();
                async move {
                    let task = Some(Task { task: Some(task::Task::Command("say something, please".into())) });
                    let answer = client.execute(ExecuteRequest { task, options: None }).await.unwrap();
                    assert_eq!(answer.into_inner().job.unwrap().state(), JobState::Succeeded);
                }
            })
            .await;
    };
    run(100).await;
    let mut costs = Vec::new();
    for _ in 0..PAIRS {
        let before = processor_time(gateway.child.id());
        run(JOBS).await;
        costs.push((processor_time(gateway.child.id()) - before).as_secs_f64() * 1e3 / JOBS as f64);
    }
    vec![Figure {
        what: "processor time of a command, instant model, no tool, ms".into(),
        value: median(costs),
        floor: 2.0,
        is_ratio: false,
        note: String::new(),
    }]
}
