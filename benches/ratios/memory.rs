//! Memory, read from the operating system.

use std::{sync::Arc, time::Duration};

use conductor_gateway::pb::{ExecuteRequest, SubmitJobRequest, Task, ToolCall, task};

use super::{
    Figure, bare, client,
    start::{Child, Process},
};

const READERS: usize = 1000;

fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Plays the bare server in a process of its own.
pub fn bare_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = bare::sse_server(Arc::new(|sender| {
            tokio::spawn(async move {
                let _first = sender.send(bytes::Bytes::from_static(b": open\n\n")).await;
                std::future::pending::<()>().await;
            });
        }))
        .await;
        println!("{address}");
        std::future::pending::<()>().await;
    });
}

/// The memory of each of many idle readers, in KiB.
async fn idle_readers(address: std::net::SocketAddr, path: &str, pid: u32) -> f64 {
    use http_body_util::BodyExt;
    // The first ones pay for what all of them share.
    let mut warm = Vec::new();
    for _ in 0..50 {
        warm.push(client::open_http(address, path).await);
    }
    let before = resident_kib(pid);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut body = client::open_http(address, path).await;
        body.frame().await.unwrap().unwrap();
        readers.push(body);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    (resident_kib(pid) - before) / READERS as f64
}

pub async fn figures() -> Vec<Figure> {
    let gateway = Process::start(&[
        "jobs.retention_seconds=1",
        "telemetry.log=warn,conductor_gateway::cli=info",
        "server.heartbeat_seconds=3600",
    ])
    .await;
    let pid = gateway.child.id();
    let idle = resident_kib(pid);
    let mut client = gateway.client().await;
    let run = |tool: &str, arguments: Option<&str>| {
        let arguments = arguments.map(|text| conductor_gateway::pb::Json { text: text.into() });
        Some(Task { task: Some(task::Task::ToolCall(ToolCall { tool: tool.into(), arguments })) })
    };

    // A thousand jobs, twice: what the first thousand leaves behind is what the allocator keeps for the next.
    let mut after = Vec::new();
    for _ in 0..3 {
        for _ in 0..1000 {
            let request = ExecuteRequest { task: run("list_available_agents", None), options: None };
            client.execute(request).await.unwrap();
        }
        let jobs = gateway.directory.path().join("conductor-data/jobs");
        while std::fs::read_dir(&jobs).unwrap().count() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        after.push(resident_kib(pid));
    }

    // Idle readers of a job that says nothing for a long time.
    let arguments = "{\"agent_id\": \"SqlExpert_Agent\", \"input_text\": \"x\"}";
    let gateway2 = {
        let mut settings = vec![
            "conductor.pass_environment=[CONDUCTOR_SIMULATE_PACE_MS]",
            "telemetry.log=warn,conductor_gateway::cli=info",
        ];
        settings.push("server.heartbeat_seconds=3600");
        // A job that prints one word and then is silent.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::write(directory.path().join("silent"), "#!/bin/sh\necho begun\nsleep 600\n").unwrap();
        let mut permissions = std::fs::metadata(directory.path().join("silent")).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(directory.path().join("silent"), permissions).unwrap();
        let agent = directory.path().join(".conductor_workspace/agents/SqlExpert_Agent");
        std::fs::create_dir_all(&agent).unwrap();
        std::fs::write(agent.join("definition.yaml"), "name: x\nversion: \"1\"\n").unwrap();
        let command = format!("conductor.command=[{}/silent]", directory.path().display());
        settings.push(&command);
        Process::start_in(directory, &settings).await
    };
    let request = SubmitJobRequest { task: run("execute_agent_stateless", Some(arguments)), options: None };
    let job = gateway2.client().await.submit_job(request).await.unwrap().into_inner().job.unwrap();
    let path = format!("/api/v1/stream/{}", job.job_id);
    let ours = idle_readers(gateway2.address, &path, gateway2.child.id()).await;
    let bare = Child::start(&["bare-sse"]);
    let theirs = idle_readers(bare.address, "/", bare.pid()).await;
    let kept = (after[2] - after[0]) / 1024.0;
    vec![
        Figure {
            what: "idle memory of the gateway, MiB".into(),
            value: idle / 1024.0,
            floor: 20.0,
            is_ratio: false,
            note: String::new(),
        },
        Figure {
            what: "memory kept after 2,000 further jobs passed retention, MiB".into(),
            value: kept,
            floor: 2.0,
            is_ratio: false,
            note: format!(
                "{:.1}, {:.1}, {:.1} MiB after each thousand",
                after[0] / 1024.0,
                after[1] / 1024.0,
                after[2] / 1024.0
            ),
        },
        Figure {
            what: "an idle SSE reader against a bare one".into(),
            value: ours / theirs,
            floor: 1.4,
            is_ratio: false,
            note: format!("{ours:.1} KiB against {theirs:.1} KiB"),
        },
    ]
}
