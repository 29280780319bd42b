//! Starting: the gateway, a job's first event, short jobs.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{self, Command, Stdio},
    time::{Duration, Instant},
};

use conductor_gateway::pb::{
    ExecuteRequest, JobState, StreamExecuteRequest, Task, ToolCall,
    gateway_service_client::GatewayServiceClient, task,
};
use futures_util::StreamExt;
use tonic::transport::Channel;

use super::{Figure, client, median};

pub const BINARY: &str = env!("CARGO_BIN_EXE_conductor-gateway");

/// The real binary in a directory of its own.
pub struct Process {
    pub child: process::Child,
    pub address: SocketAddr,
    /// The URL of its MCP server.
    pub mcp: String,
    pub directory: tempfile::TempDir,
    /// From the start to the first 200 on /health.
    pub start_time: Duration,
}

impl Process {
    pub async fn start(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self::start_in(directory, settings).await
    }

    pub async fn start_in(directory: tempfile::TempDir, settings: &[&str]) -> Self {
        let started = Instant::now();
        // What is there already is the data root.
        std::fs::create_dir_all(directory.path().join("conductor-data")).unwrap();
        let mut command = Command::new(BINARY);
        command.current_dir(directory.path()).args(["serve", "--port", "0", "--mcp-port", "0"]);
        command.env("AGENT_AUTODETECT", "off");
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (address, mcp) = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the gateway ended");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "the gateway is ready" {
                let mcp = entry["mcp"].as_str().unwrap().to_owned();
                break (entry["address"].as_str().unwrap().parse().unwrap(), mcp);
            }
        };
        client::read_http(address, "/health").await;
        let start_time = started.elapsed();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address, mcp, directory, start_time }
    }

    pub async fn client(&self) -> GatewayServiceClient<Channel> {
        let channel =
            Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap();
        GatewayServiceClient::new(channel)
    }
}

/// This program in another part, in a process of its own, which prints its address.
pub struct Child {
    child: process::Child,
    pub address: SocketAddr,
}

impl Child {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn start(arguments: &[&str]) -> Self {
        Self::start_program(&std::env::current_exe().unwrap(), arguments)
    }

    /// A program that prints its address.
    pub fn start_program(program: &std::path::Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub fn call(tool: &str) -> Option<Task> {
    Some(Task { task: Some(task::Task::ToolCall(ToolCall { tool: tool.into(), arguments: None })) })
}

pub async fn figures() -> Vec<Figure> {
    // The first start fills the bundled engine's workspace; later ones find it.
    let mut first = Process::start(&[]).await;
    let fresh = first.start_time;
    let mut starts = Vec::new();
    for _ in 0..9 {
        let directory = std::mem::replace(&mut first.directory, tempfile::tempdir().unwrap());
        drop(first);
        first = Process::start_in(directory, &[]).await;
        starts.push(first.start_time.as_secs_f64() * 1e3);
    }
    let mut client = first.client().await;
    let mut firsts = Vec::new();
    for _ in 0..301 {
        let request = StreamExecuteRequest { task: call("list_available_agents"), options: None };
        let started = Instant::now();
        let mut frames = client.stream_execute(request).await.unwrap().into_inner();
        frames.message().await.unwrap().unwrap();
        firsts.push(started.elapsed().as_secs_f64() * 1e3);
        while frames.message().await.unwrap().is_some() {}
    }
    let note = format!("the very first start, with templates: {:.0} ms", fresh.as_secs_f64() * 1e3);
    vec![
        Figure {
            what: "start to first 200 on /health, ms".into(),
            value: median(starts),
            floor: 50.0,
            is_ratio: false,
            note,
        },
        Figure {
            what: "submit to first event, ms".into(),
            value: median(firsts),
            floor: 2.0,
            is_ratio: false,
            note: String::new(),
        },
        Figure {
            what: "the program as it is shipped, MiB".into(),
            value: stripped_mib(),
            floor: 32.0,
            is_ratio: false,
            note: "stripped".into(),
        },
    ]
}

/// The size of the program without the symbols that a profiler needs.
fn stripped_mib() -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let stripped = directory.path().join("stripped");
    let strip = std::process::Command::new("strip").arg("-o").arg(&stripped).arg(BINARY).status();
    assert!(strip.is_ok_and(|status| status.success()), "`strip` of binutils comes with every C compiler");
    std::fs::metadata(stripped).unwrap().len() as f64 / f64::from(1 << 20)
}

const JOBS: usize = 400;
const AT_ONCE: usize = 20;

/// Short jobs, each one run of the bundled engine, against bare runs of the same child.
pub async fn short_jobs() -> Vec<Figure> {
    let gateway =
        Process::start(&["jobs.max_running=20", "telemetry.log=warn,conductor_gateway::cli=info"]).await;
    let client = gateway.client().await;
    let root = gateway.directory.path().join("conductor-data/engine");
    let bare = async || {
        let started = Instant::now();
        futures_util::stream::iter(0..JOBS)
            .for_each_concurrent(AT_ONCE, |_| async {
                let mut command = tokio::process::Command::new(BINARY);
                command.args(["engine", "--validate"]).current_dir(&root).stdin(Stdio::null());
                assert!(command.output().await.unwrap().status.success());
            })
            .await;
        JOBS as f64 / started.elapsed().as_secs_f64()
    };
    let ours = async || {
        let started = Instant::now();
        futures_util::stream::iter(0..JOBS)
            .for_each_concurrent(AT_ONCE, |_| {
                let mut client = client.clone();
                async move {
                    let request = ExecuteRequest { task: call("validate_conductor_system"), options: None };
                    let job = client.execute(request).await.unwrap().into_inner().job.unwrap();
                    assert_eq!(job.state(), JobState::Succeeded);
                }
            })
            .await;
        JOBS as f64 / started.elapsed().as_secs_f64()
    };
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let theirs = bare().await;
        let mine = ours().await;
        ratios.push(mine / theirs);
        rates.push(mine);
    }
    let note = format!("{:.0} jobs/s", median(rates));
    vec![Figure {
        what: "short jobs, 20 at a time, against bare runs".into(),
        value: median(ratios),
        floor: 0.5,
        is_ratio: true,
        note,
    }]
}
