//! What other users of the machine, and other callers, find: nothing. And what a start makes of the data of earlier builds.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;

use crate::support::{BINARY, Gateway, Options, eventually};

fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            walk(&entry.path(), found);
        }
    }
}

/// What in a data root others may do anything with.
fn wide(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root, &mut found);
    found.retain(|path| {
        !path.is_symlink()
            && std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    });
    found
}

/// Everything that leaves something in the data root.
async fn use_it(gateway: &Gateway) {
    for body in [
        json!({"agent_id": "SqlExpert_Agent", "input_text": "remember canary-words", "conversation_id": "talk"}),
        json!({"tool": "set_environment", "arguments": {"environment": "staging"}}),
        json!({"tool": "backup_agents"}),
        json!({"tool": "restore_agents"}),
        json!({"command": "conductor --list"}),
    ] {
        assert_eq!(gateway.post("/execute", &body).await.status, 200, "{body}");
    }
}

#[tokio::test]
async fn everything_in_the_data_root_is_private_whatever_the_umask() {
    let gateway = Gateway::start_with(Options::default().after("umask 000"));
    use_it(&gateway).await;
    let wide = wide(&gateway.path("conductor-data"));
    assert!(wide.is_empty(), "{wide:?}");
    // Names tell nobody whose they are.
    let mut found = Vec::new();
    walk(&gateway.path("conductor-data"), &mut found);
    assert!(
        !found.iter().any(|path| path.ends_with("25bf8e1a2393f1108d37029b3df55932.json")),
        "a name anybody can compute"
    );
}

#[tokio::test]
async fn an_agents_input_is_not_in_the_process_table() {
    let gateway = Gateway::start_with(
        Options { environment: vec![("CONDUCTOR_SIMULATE_PACE_MS", "50".into())], ..Options::default() }
            .set("conductor.pass_environment", "[CONDUCTOR_SIMULATE_PACE_MS]"),
    );
    let job = gateway.submit(&json!({"agent_id": "SqlExpert_Agent", "input_text": "canary-prompt"})).await;
    gateway.sse(&job, 0).await.until("on_tool_output").await;
    let mut engines = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let is_ours = std::fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|cwd| cwd.starts_with(gateway.directory.path()));
        engines += usize::from(is_ours && line.contains("--agent="));
        assert!(!is_ours || !line.contains("canary-prompt"), "{line}");
    }
    assert_eq!(engines, 1);
    gateway.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({"wait_seconds": 10})).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.symlink_metadata().unwrap() {
            metadata if metadata.is_symlink() => {
                std::os::unix::fs::symlink(std::fs::read_link(&path).unwrap(), target).unwrap();
            }
            metadata if metadata.is_dir() => copy(&path, &target),
            _ => {
                std::fs::copy(path, target).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn data_of_the_first_format_is_taken_over_once() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let data = directory.path().join("conductor-data");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1"), &data);
    Command::new("chmod").args(["-R", "a+rX"]).arg(&data).status().unwrap();
    // Its jobs are of the year that they were made in, and kept.
    let options = Options::default().set("jobs.retention_seconds", u32::MAX);
    let gateway = Gateway::start_in(directory, options);
    assert!(gateway.log.lock().unwrap().contains("are private now"));
    assert!(wide(&data).is_empty(), "{:?}", wide(&data));
    let jobs = gateway.listed("").await;
    assert_eq!(jobs.len(), 4);
    for job in &jobs {
        assert_eq!(gateway.events(job).await.last().unwrap()["data"]["state"], "SUCCEEDED");
    }
    // The same request under its key is the same job.
    let again = json!({"agent_id": "SqlExpert_Agent", "input_text": "remember the number 42", "conversation_id": "kept", "idempotency_key": "kept-key"});
    assert!(jobs.contains(&gateway.submit(&again).await));
    assert_eq!(gateway.listed("").await.len(), 4);
    let listed = gateway.get("/api/v1/conversations").await.json();
    let kept = &listed["conversations"][0];
    assert_eq!(
        (kept["conversation_id"].as_str(), kept["agents"].as_array().unwrap().len()),
        (Some("kept"), 2),
        "{listed}"
    );
    let more = json!({"agent_id": "SqlExpert_Agent", "input_text": "more", "conversation_id": "kept"});
    let answer = gateway.post("/execute", &more).await.json();
    assert!(answer["result"].as_str().unwrap().contains("remembers 1 earlier interaction"), "{answer}");
    let config = gateway.post("/execute", &json!({"tool": "get_system_config"})).await.json();
    assert_eq!(
        (&config["structured"]["environment"], &config["structured"]["project"]),
        (&json!("staging"), &json!("apollo"))
    );
    let gateway = gateway.crash_and_restart();
    assert_eq!(
        gateway.get("/api/v1/conversations").await.json()["conversations"].as_array().unwrap().len(),
        1
    );
    assert!(!gateway.log.lock().unwrap().contains("are private now"));
    // Data of a newer build is left alone.
    let data = gateway.path("conductor-data");
    let mut gateway = gateway;
    gateway.crash();
    std::fs::write(data.join("format"), "99\n").unwrap();
    let refused = Command::new(BINARY)
        .args(["serve", "--port", "0", "--mcp-port", "0"])
        .current_dir(gateway.directory.path())
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("newer build"));
}

#[tokio::test]
async fn two_changes_of_the_settings_at_once_lose_neither() {
    let gateway = Gateway::start();
    let set = async |arguments: serde_json::Value| {
        gateway.post("/execute", &json!({"tool": "set_environment", "arguments": arguments})).await.status
    };
    for round in 0..10 {
        let (environment, project) = (format!("e{round}"), format!("p{round}"));
        let both = tokio::join!(
            set(json!({"environment": environment})),
            set(json!({"environment": environment, "project": project})),
        );
        assert_eq!(both, (200, 200));
        let config = gateway.post("/execute", &json!({"tool": "get_system_config"})).await.json();
        assert_eq!(config["structured"]["project"], json!(project));
    }
}

/// Everything that another user of this machine can open below the data, the workspace and the backups, and of the processes.
#[tokio::test]
#[ignore = "needs root and setpriv"]
async fn another_user_finds_nothing() {
    // Where others may come by.
    let directory = Arc::new(
        tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap(),
    );
    let gateway = Gateway::start_in(directory, Options::default().after("umask 000"));
    use_it(&gateway).await;
    let running = gateway.submit(&json!({"agent_id": "SqlExpert_Agent", "input_text": "canary-words again", "conversation_id": "talk"})).await;
    let search = format!(
        "grep -ras canary-words {} ; for p in /proc/[0-9]*; do cat $p/cmdline $p/environ 2>/dev/null; done | grep -a canary-words",
        gateway.directory.path().display()
    );
    let found = Command::new("setpriv")
        .args(["--reuid=54321", "--regid=54321", "--clear-groups", "sh", "-c", &search])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    // The searching shell's own line is its own.
    let found: Vec<&str> = found.lines().filter(|line| !line.contains("grep -ras")).collect();
    assert!(found.is_empty(), "{found:?}");
    gateway.events(&running).await;
}

#[tokio::test]
async fn a_closed_terminal_ends_a_run_and_is_a_line_for_a_service() {
    let mut gateway = Gateway::start();
    gateway.signal(rustix::process::Signal::HUP);
    eventually(Duration::from_secs(5), "it is said", async || {
        gateway.log.lock().unwrap().contains("no setting was changed")
    })
    .await;
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(Duration::from_secs(10)).is_some());
    // Ignored from the start, it stays ignored: no line either.
    let mut gateway = Gateway::start_with(Options::default().after("trap '' HUP"));
    gateway.signal(rustix::process::Signal::HUP);
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    assert!(!gateway.log.lock().unwrap().contains("SIGHUP"));
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(Duration::from_secs(10)).is_some());
    // A run ends as at TERM: its job is cancelled, and nothing of it is left.
    let directory = tempfile::tempdir().unwrap();
    let mut run = Command::new(BINARY)
        .args([
            "run",
            "--agent",
            "SqlExpert_Agent",
            "words",
            "--set",
            "conductor.pass_environment=[CONDUCTOR_SIMULATE_PACE_MS]",
        ])
        .current_dir(directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .env("CONDUCTOR_SIMULATE_PACE_MS", "200")
        .env("AGENT_AUTODETECT", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What comes first on standard error is that the job has started.
    let mut first = [0; 1];
    std::io::Read::read_exact(run.stderr.as_mut().unwrap(), &mut first).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
}
