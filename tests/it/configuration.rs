//! Where values come from, as people write them; files and variables that are somebody else's.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    cli::Printed,
    support::{BINARY, Gateway, Options, eventually},
};

fn run_with(arguments: &[&str], directory: &Path, environment: &[(&str, &str)]) -> Printed {
    let output = Command::new(BINARY)
        .args(arguments)
        .current_dir(directory)
        .env("XDG_DATA_HOME", directory)
        .env_remove("HOST")
        .env("AGENT_PROVIDER", "none")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Printed::of(&output)
}

const LIST: &[&str] = &["run", "conductor --list"];

#[test]
fn another_programs_file_is_passed_over_with_a_line() {
    for foreign in ["site_name: docs\nnav:\n  - a\n", "a: !tag [\n b: {{ x }}\n", "- 1\n- 2\n"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.yaml"), foreign).unwrap();
        let printed = run_with(LIST, directory.path(), &[]);
        assert_eq!(printed.status, 0, "{}", printed.stderr);
        assert!(printed.stderr.contains("./config.yaml is passed over: it has none"), "{}", printed.stderr);
        // Named, it has to be right.
        let named = run_with(&["--config", "config.yaml", "config", "check"], directory.path(), &[]);
        assert_eq!(named.status, 64, "{}", named.stdout);
    }
    // One of ours with a mistake is not passed over.
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.yaml"), "server:\n  prot: 1\nother: 1\n").unwrap();
    assert_eq!(run_with(LIST, directory.path(), &[]).status, 64);
}

#[test]
fn a_strange_directory_is_not_obeyed() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let file = format!(
        "conductor:\n  command: [sh, -c, \"touch {0}\"]\nagent:\n  base_url: http://127.0.0.1:1/v1\n  mcp_servers: {{x: {{command: [touch, {0}]}}}}\njobs:\n  max_running: 3\n",
        seen.display()
    );
    fs::write(directory.path().join("config.yaml"), file).unwrap();
    let printed = run_with(LIST, directory.path(), &[]);
    assert_eq!(printed.status, 0, "{}", printed.stderr);
    assert!(!seen.exists(), "nothing of it was started");
    for key in ["conductor.command", "agent.base_url", "agent.mcp_servers"] {
        assert!(
            printed.stderr.contains(&format!("note: {key} of ./config.yaml is not taken")),
            "{}",
            printed.stderr
        );
    }
    assert!(!printed.stderr.contains("jobs.max_running"), "what is harmless is taken");
    // Named, it is obeyed.
    run_with(&["--config", "config.yaml", "run", "conductor --list"], directory.path(), &[]);
    assert!(seen.exists());
    // What others can write is not even read.
    fs::remove_file(&seen).unwrap();
    let path = directory.path().join("config.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let shown = run_with(&["config", "show"], directory.path(), &[]);
    assert!(
        shown.stdout.contains("jobs.max_running: 8  # default") || !shown.stdout.contains("max_running: 3")
    );
    assert!(shown.stderr.contains("others can write it"), "{}", shown.stderr);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let shown = run_with(&["config", "show"], directory.path(), &[]);
    assert!(shown.stderr.contains("others can write it"), "{}", shown.stderr);
}

#[test]
fn places_and_variables_have_an_order() {
    let directory = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("conductor-gateway");
    fs::create_dir(&place).unwrap();
    fs::write(
        place.join("config.yaml"),
        "jobs:\n  max_running: 5\n  timeout_seconds: 2h\nserver:\n  port: 1111\n",
    )
    .unwrap();
    fs::write(directory.path().join("config.yaml"), "server.port: 2222\n").unwrap();
    let user = home.path().to_str().unwrap();
    let show = |further: &[(&str, &str)]| {
        let environment: Vec<_> =
            [("XDG_CONFIG_HOME", user)].into_iter().chain(further.iter().copied()).collect();
        run_with(&["config", "show"], directory.path(), &environment).stdout
    };
    let shown = show(&[]);
    let origin = place.join("config.yaml");
    assert!(shown.contains(&format!("jobs.max_running: 5  # {}", origin.display())), "{shown}");
    assert!(
        shown.contains("jobs.timeout_seconds: 7200  # ")
            && shown.contains("server.port: 2222  # config.yaml")
    );
    let shown = show(&[
        ("PORT", "3333"),
        ("CONDUCTOR_GATEWAY_PORT", "4444"),
        ("JOBS_MAX_RUNNING", ""),
        ("CORS_ORIGINS", "https://a.example, https://b.example"),
        ("MAX_BODY_BYTES", "2MiB"),
    ]);
    assert!(shown.contains("server.port: 4444  # environment CONDUCTOR_GATEWAY_PORT"), "{shown}");
    assert!(shown.contains("jobs.max_running: 5  # "), "an empty variable is none: {shown}");
    assert!(
        shown.contains(r#"server.cors_origins: ["https://a.example","https://b.example"]  # "#),
        "{shown}"
    );
    assert!(shown.contains("server.max_body_bytes: 2097152  # environment MAX_BODY_BYTES"), "{shown}");
    // Where something is wrong, the rest is shown, and the mistake is said in words of people, with its place.
    let wrong =
        run_with(&["config", "show"], directory.path(), &[("PORT", "many"), ("JOBS_MAX_RUNNING", "4")]);
    assert_eq!(wrong.status, 64);
    assert!(wrong.stdout.contains("jobs.max_running: 4  # environment JOBS_MAX_RUNNING"), "{}", wrong.stdout);
    assert!(
        wrong.stderr.contains("server.port (environment PORT): ")
            && wrong.stderr.contains("expected a number")
    );
    assert!(!wrong.stderr.contains("u16"), "{}", wrong.stderr);
    // What it prints, it takes.
    let shown = run_with(&["config", "show"], directory.path(), &[]).stdout;
    fs::write(directory.path().join("printed.yaml"), &shown).unwrap();
    let taken = run_with(&["--config", "printed.yaml", "config", "check"], directory.path(), &[]);
    assert_eq!(taken.status, 0, "{}", taken.stderr);
}

#[test]
fn one_data_root_holds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let origin = |key: &str, environment: &[(&str, &str)]| {
        let shown = run_with(&["config", "show"], directory.path(), environment).stdout;
        shown.lines().find_map(|line| line.strip_prefix(&format!("{key}: "))).unwrap().to_owned()
    };
    let home = directory.path().to_str().unwrap();
    let data = [("XDG_DATA_HOME", "/x/data")];
    assert_eq!(origin("storage.path", &data), "\"/x/data/conductor-gateway\"  # XDG_DATA_HOME");
    let no_data = [("XDG_DATA_HOME", ""), ("HOME", home)];
    assert!(origin("storage.path", &no_data).contains(".local/share/conductor-gateway\"  # HOME"));
    // What is moved is moved together.
    let moved = [("STORAGE_PATH", "/y")];
    assert_eq!(origin("storage.path", &moved), "\"/y\"  # environment STORAGE_PATH");
    assert_eq!(origin("conductor.workspace", &moved), "\"/y/engine\"  # below storage.path");
    assert_eq!(origin("conductor.backup_roots", &moved), "[\"/y/backups\"]  # below storage.path");
    // What an earlier build made in the working directory is used where it is.
    fs::create_dir_all(directory.path().join("conductor-data/engine")).unwrap();
    assert!(origin("storage.path", &data).starts_with("\"conductor-data\"  # the working directory"));
    assert!(origin("conductor.workspace", &moved).starts_with("\"conductor-data/engine\""));
    // `run` and `serve` use the same agents.
    let user = tempfile::tempdir().unwrap();
    let place = [("XDG_DATA_HOME", user.path().to_str().unwrap())];
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(run_with(LIST, elsewhere.path(), &place).status, 0);
    assert!(user.path().join("conductor-gateway/engine/.conductor_workspace").is_dir());
    assert_eq!(
        fs::read_dir(elsewhere.path()).unwrap().count(),
        0,
        "nothing is left in the working directory"
    );
}

/// What can change does, as a whole; what cannot is named, each time; a mistake changes nothing.
#[tokio::test]
async fn a_running_gateway_takes_what_can_change() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("jobs:\n  max_running: 1\n  max_queued: 0\n");
    let root = directory.path().join("engine");
    crate::support::write_workspace(&root);
    let options = Options::default()
        .set("conductor.project_path", root.display())
        .set("conductor.command", format!("[{}]", crate::support::mean_engine().display()));
    let mut options = options.with_ledger(&root);
    options.environment.push(("TELEMETRY_LOG", String::new()));
    let gateway = Gateway::start_in(std::sync::Arc::new(directory), options);
    let reload = |arguments: &[&str]| {
        let all: Vec<&str> = ["config", "reload"].iter().chain(arguments).copied().collect();
        run_with(&all, gateway.directory.path(), &[])
    };
    let go_on = gateway.path("go-on");
    let first = gateway.submit_mean(&format!("two-parts {}", go_on.display())).await;
    gateway.sse(&first, 0).await.until("on_tool_output").await;
    let another = json!({"agent_id": "Mean_Agent", "input_text": "ok"});
    assert_eq!(gateway.post("/api/v1/stream-execute", &another).await.status, 429);
    assert_eq!(reload(&[]).stdout, "nothing has changed\n");
    write(
        "jobs:\n  max_running: 1\n  max_queued: 1\nserver:\n  heartbeat_seconds: 7\ntelemetry:\n  log: debug\n",
    );
    let printed = reload(&["--json"]);
    assert_eq!(printed.status, 0, "{}", printed.stderr);
    let report: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(
        report,
        json!({
            "taken": [
                {"key": "jobs.max_queued", "before": 0, "after": 1, "origin": "config.yaml"},
                {"key": "telemetry.log", "before": "info", "after": "debug", "origin": "config.yaml"},
            ],
            "needs_restart": [{"key": "server.heartbeat_seconds", "before": 15, "after": 7, "origin": "config.yaml"}],
            "notes": ["data is kept in ./conductor-data, because it is there already"],
        })
    );
    let second = gateway.submit(&another).await;
    assert_eq!(gateway.job(&second).await["queue_position"], 1);
    let printed = reload(&[]);
    assert_eq!(printed.stdout, "needs a restart: server.heartbeat_seconds: 15 -> 7  # config.yaml\n");
    // A mistake anywhere changes nothing, and all of them are said.
    write("jobs:\n  max_queued: 9\n  max_running: 0\nserver:\n  prot: 1\n");
    let printed = reload(&[]);
    assert_eq!(printed.status, 64, "the command reads the same file");
    let elsewhere = gateway.path("other.yaml");
    fs::write(&elsewhere, format!("storage:\n  path: {}\n", gateway.path("conductor-data").display()))
        .unwrap();
    let named = ["--config", elsewhere.to_str().unwrap(), "config", "reload"];
    let printed = run_with(&named, gateway.directory.path(), &[]);
    assert_eq!(printed.status, 64, "{}", printed.stderr);
    assert!(printed.stderr.contains("max_running") && printed.stderr.contains("prot"), "{}", printed.stderr);
    assert_eq!(gateway.post("/api/v1/stream-execute", &another).await.status, 429, "the queue is as it was");
    // The signal does the same.
    write("jobs:\n  max_running: 1\n  max_queued: 2\n");
    gateway.signal(rustix::process::Signal::HUP);
    eventually(std::time::Duration::from_secs(5), "the third is taken", async || {
        gateway.post("/api/v1/stream-execute", &another).await.status == 200
    })
    .await;
    let socket = gateway.path("conductor-data/operators.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&go_on, "").unwrap();
    gateway.events(&second).await;
    // A socket that a killed gateway left is replaced, and a stopped gateway leaves none.
    let mut gateway = gateway.crash_and_restart();
    assert!(socket.exists());
    assert_eq!(run_with(&named, gateway.directory.path(), &[]).status, 0);
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(std::time::Duration::from_secs(20)).is_some());
    assert!(!socket.exists());
    let printed = run_with(&named, gateway.directory.path(), &[]);
    assert_eq!(printed.status, 69, "{}", printed.stderr);
    assert!(printed.stderr.contains("no gateway answers at"), "{}", printed.stderr);
}
