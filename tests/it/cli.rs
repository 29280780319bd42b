//! The command line, as a person or a script uses it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Gateway, Options};

pub struct Printed {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Printed {
    pub fn of(output: &std::process::Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs the binary in `directory`, or in a new one.
pub fn run(arguments: &[&str], directory: Option<&Path>) -> Printed {
    let own = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_conductor-gateway"))
        .args(arguments)
        .current_dir(directory.unwrap_or(own.path()))
        .env("XDG_DATA_HOME", directory.unwrap_or(own.path()))
        .env("AGENT_PROVIDER", "none")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Printed::of(&output)
}

#[test]
fn run_prints_events_and_the_agents() {
    let printed = run(&["run", "list all available agents"], None);
    assert_eq!(printed.status, 0, "{}", printed.stderr);
    assert!(printed.stdout.contains("CodeReviewer_Agent"), "{}", printed.stdout);
    for part in ["started", "list_available_agents", "succeeded"] {
        assert!(printed.stderr.contains(part), "{}", printed.stderr);
    }
    let printed = run(&["run", "list the agents", "--json"], None);
    let events: Vec<Value> = printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&events[0]["event"], &events.last().unwrap()["event"]),
        (&json!("job_started"), &json!("end_of_stream"))
    );
    let printed = run(&["run", "--agent", "SqlExpert_Agent", "hello there"], None);
    assert!(printed.stdout.contains("It was told: hello there"), "{}", printed.stdout);
    let printed = run(&["run", "--tool", "get_agent_info", "{\"agent_id\": \"SqlExpert_Agent\"}"], None);
    assert!(printed.stdout.contains("SqlExpert_Agent"), "{}", printed.stdout);
}

#[test]
fn exit_statuses_tell_the_outcome() {
    let cases: &[(&[&str], i32, &str)] = &[
        (&["run", "what is the weather"], 65, "COMMAND_NOT_UNDERSTOOD"),
        (&["run", ""], 64, "say what is to be done"),
        (&["run", "--agent", "Nope_Agent", "x"], 66, "AGENT_NOT_FOUND"),
        (&["run", "--agent", "../x", "x"], 64, "agent_id"),
        (&["run", "--tool", "nope"], 64, "no tool"),
        (&["run", "--tool", "get_agent_info", "{"], 64, "JSON"),
        (&["run", "x", "--server", "http://127.0.0.1:1"], 69, "no gateway answers"),
        (&["jobs", "list", "--server", "127.0.0.1:1"], 69, "no gateway answers"),
        (&["--set", "server.prot=1", "config", "check"], 64, "server.port"),
        (&["--config", "/nope.yaml", "config", "check"], 64, "/nope.yaml"),
        (&["serve", "--host", "0.0.0.0"], 64, "allow_anonymous_remote"),
        // What will not be better when it is tried again is not 75.
        (
            &["--set", "storage.path=/proc/x", "serve", "--port", "0", "--mcp-port", "0"],
            78,
            "storage.path: /proc/x",
        ),
        (&["--set", "storage.path=/etc/passwd", "run", "conductor --list"], 78, "storage.path: /etc/passwd"),
        (&["frobnicate"], 64, "frobnicate"),
    ];
    for (arguments, status, text) in cases {
        let printed = run(arguments, None);
        assert_eq!(printed.status, *status, "{arguments:?}: {}", printed.stderr);
        assert!(printed.stderr.contains(text), "{arguments:?}: {}", printed.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_running_gateway() {
    let gateway = Gateway::mean(Options::default());
    let url = gateway.url();
    let printed = run(&["run", "--agent", "Mean_Agent", "ok", "--server", &url], None);
    assert_eq!((printed.status, printed.stdout.contains("fine")), (0, true), "{}", printed.stderr);
    let hanging = gateway.submit_mean("hang").await;
    let listed = run(&["jobs", "list", "--server", &url], None).stdout;
    assert_eq!(listed.lines().count(), 3, "a heading and two jobs");
    assert!(listed.lines().nth(1).unwrap().starts_with(&hanging[32..]), "newest first: {listed}");
    let cancelled = run(&["jobs", "cancel", &hanging, "--server", &url], None);
    assert!(cancelled.stdout.contains("CANCELLED"), "{}", cancelled.stdout);
    let shown: Value =
        serde_json::from_str(&run(&["jobs", "show", &hanging, "--json", "--server", &url], None).stdout)
            .unwrap();
    assert_eq!(shown["state"], "CANCELLED");
    let watched = run(&["jobs", "watch", &hanging, "--server", &url], None);
    assert_eq!(watched.status, 130, "{}", watched.stderr);
    let last = gateway.job(&hanging).await["last_sequence"].to_string();
    let behind = run(&["jobs", "watch", &hanging, "--after", &last, "--server", &url], None);
    assert_eq!(
        (behind.status, behind.stderr.contains("no further events")),
        (130, true),
        "{}",
        behind.stderr
    );
    let talk = json!({"tool": "execute_agent_contextual", "arguments": {"agent_id": "Mean_Agent", "input_text": "ok"}, "conversation_id": "c1"});
    assert_eq!(gateway.post("/execute", &talk).await.status, 200);
    let said = run(&["conversations", "list", "--server", &url], None);
    assert!(said.stdout.starts_with("c1  "), "{}", said.stdout);
    assert_eq!(run(&["conversations", "delete", "c1", "--server", &url], None).status, 0);
    assert_eq!(run(&["conversations", "list", "--server", &url], None).stdout, "");
    assert_eq!(run(&["jobs", "delete", &hanging, "--server", &url], None).status, 0);
    assert_eq!(run(&["jobs", "show", &hanging, "--server", &url], None).status, 66);
}

#[test]
fn the_bundled_engine_tells_the_truth() {
    let directory = tempfile::tempdir().unwrap();
    let engine = |arguments: &[&str]| {
        let all: Vec<&str> = std::iter::once("engine").chain(arguments.iter().copied()).collect();
        run(&all, Some(directory.path()))
    };
    assert!(engine(&["--list"]).stdout.contains("No agents"));
    assert_eq!(engine(&["--install", "all"]).status, 0);
    assert!(engine(&["--install=core"]).stdout.contains("is there already"));
    let listed: Value = serde_json::from_str(&engine(&["--list", "--output", "json"]).stdout).unwrap();
    assert_eq!(listed["agents"].as_array().unwrap().len(), 8);
    assert_eq!(engine(&["--validate"]).status, 0);
    let answer = engine(&["--agent", "SqlExpert_Agent", "--input=-x", "--output=json"]);
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(
        (&document["status"], &document["metadata"]["is_simulated"]),
        (&json!("success"), &json!(true))
    );
    let failures: &[(&[&str], i32, &str)] = &[
        (&["--agent", "Nope_Agent", "--input", "x"], 1, "no agent"),
        (&["--info", "../../x"], 2, "cannot be an agent's id"),
        (&["--install", "../config"], 2, "cannot be an agent's id"),
        (&["--install", "nope"], 1, "no template"),
        (&["--agent", "SqlExpert_Agent"], 2, "--input"),
        (&["--backup"], 2, "backup_agents"),
        (&["--restore"], 2, "restore_agents"),
        (&["--interactive", "--agent", "SqlExpert_Agent"], 2, "--interactive needs --chat"),
        (&["--frobnicate"], 2, "--frobnicate"),
        (&[], 2, "nothing to do"),
    ];
    for (arguments, status, text) in failures {
        let printed = engine(arguments);
        assert_eq!(printed.status, *status, "{arguments:?}: {}", printed.stderr);
        assert!(printed.stderr.contains(text), "{arguments:?}: {}", printed.stderr);
    }
    let failed: Value =
        serde_json::from_str(&engine(&["--agent", "Nope_Agent", "--input", "x", "--output", "json"]).stdout)
            .unwrap();
    assert_eq!(failed["status"], "error");
    // Eight conversations with one agent at once: none is lost.
    let path = directory.path().to_owned();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let path = path.clone();
            std::thread::spawn(move || {
                let input = format!("--input=turn {number}");
                run(
                    &["engine", "--agent", "SqlExpert_Agent", "--chat", &input, "--output", "json"],
                    Some(&path),
                )
                .status
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 0));
    let log = std::fs::read_to_string(path.join(".conductor_workspace/agents/SqlExpert_Agent/history.log"))
        .unwrap();
    assert_eq!(log.lines().count(), 8);
}

#[test]
fn the_configuration_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.yaml"), "server:\n  port: 7001\n").unwrap();
    let shown = run(&["config", "show", "--set", "jobs.max_running=3"], Some(directory.path())).stdout;
    assert!(shown.contains("server.port: 7001  # config.yaml"), "{shown}");
    assert!(shown.contains("jobs.max_running: 3  # command line"), "{shown}");
    assert!(shown.contains("storage.kind: \"embedded\"  # default"), "{shown}");
    // What stays as wide as its owner made it is said.
    let (wide, narrow) = (directory.path().join("wide"), directory.path().join("narrow"));
    for (path, mode) in [(&wide, 0o755), (&narrow, 0o700)] {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let roots = format!("conductor.backup_roots=[{},{}]", wide.display(), narrow.display());
    let checked = run(&["config", "check", "--set", &roots], Some(directory.path())).stdout;
    assert!(checked.contains("the configuration is valid\nnote: other users may look into"), "{checked}");
    assert!(checked.contains("wide (mode 755)") && !checked.contains("narrow"), "{checked}");
    std::fs::write(directory.path().join("config.yaml"), "server: {prot: 1}\njobs: {max_running: x}\n")
        .unwrap();
    let checked = run(&["config", "check"], Some(directory.path()));
    assert!(
        checked.stderr.contains("server.port") && checked.stderr.contains("jobs.max_running"),
        "{}",
        checked.stderr
    );
}

/// Questions are answered by lines of standard input; at its end the default is taken, and nothing hangs.
#[test]
fn run_answers_from_standard_input() {
    use std::io::Write;
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_conductor-gateway"))
        .args(["run", "--tool", "start_interactive_session", r#"{"agent_id": "SqlExpert_Agent"}"#])
        .current_dir(directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .env("AGENT_PROVIDER", "none")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"select 1\nselect 2\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let (printed, remarks) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{remarks}");
    for said in ["It was told: select 1", "It was told: select 2"] {
        assert!(printed.contains(said), "{printed}");
    }
    assert_eq!(remarks.matches("answered by local").count(), 3, "{remarks}");
    assert!(!remarks.contains("WARN"), "{remarks}");
}

#[test]
fn a_full_disk_is_no_success() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "\"$GATEWAY\" run 'list all available agents' > /dev/full"])
        .current_dir(directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .env("GATEWAY", env!("CARGO_BIN_EXE_conductor-gateway"))
        .env("AGENT_PROVIDER", "none")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", String::from_utf8_lossy(&output.stderr));
}
