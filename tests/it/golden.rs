//! What everybody sees of the gateway, byte for byte: JSON answers, the command line's output, the events of jobs. Ids, times, durations,
//! ports and directories are replaced by counters and names.
//!
//! A change of these files is a change that users see. `GOLDEN=write cargo test --test it golden` writes them anew; the difference
//! belongs into the change that makes it.

use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf};

use regex::{Captures, Regex};
use serde_json::{Value, json};

use crate::{
    cli,
    support::{
        Gateway, ModelServer, Options,
        model::{openai, status, stream},
    },
};

/// Replaces what differs from one run to the next.
struct Normal {
    ids: Regex,
    seen: BTreeMap<String, usize>,
    others: Vec<(Regex, &'static str)>,
    directories: Vec<(String, &'static str)>,
}

impl Normal {
    fn new() -> Self {
        let others = [
            (r#""(timestamp|[a-z_]*_seconds_ago|uptime_seconds)":\d+(\.\d+)?"#, r#""$1":TIME"#),
            (r#""([a-z_]*duration_ms|[a-z_]*wait_ms)":\d+"#, r#""$1":DURATION"#),
            (r#"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"#, "TIME"),
            (r"(?m)^retry: \d+", "retry: DURATION"),
            // How many events an engine's output makes is the operating system's choice.
            (r#""(sequence|last_sequence)":\d+"#, r#""$1":N"#),
            (r"(?m)^\[\d+\]", "[N]"),
            (r"events: \d+", "events: N"),
            (r"127\.0\.0\.1:\d+", "ADDRESS"),
            (r"backup_\d+[-_\d]*", "backup_TIME"),
            (r" *\b\d+(\.\d+)? (ms|seconds|s)\b", " DURATION"),
            // Ids in their short form, in tables and remarks.
            (r"(?m)^[0-9a-z]{8}  ([A-Z_]+) +", "SHORT  $1  "),
            (r"\bjob [0-9a-z]{8}\b", "job SHORT"),
            (r"\(\d+(\.\d+)?m?s\)", "(DURATION)"),
            (r#""(live_tasks|resident_bytes|open_files|pid|log_bytes|memory_bytes)":\d+"#, r#""$1":NUMBER"#),
            (r#""[0-9a-f]{16,64}""#, "\"HASH\""),
        ];
        Self {
            ids: Regex::new(r"job_[0-9a-z]{36}").unwrap(),
            seen: BTreeMap::new(),
            others: others.map(|(pattern, with)| (Regex::new(pattern).unwrap(), with)).into(),
            directories: Vec::new(),
        }
    }

    /// Shows a directory under a name.
    fn directory(&mut self, path: PathBuf, name: &'static str) {
        self.directories.push((path.display().to_string(), name));
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, name) in &self.directories {
            text = text.replace(path.as_str(), name);
        }
        let seen = &mut self.seen;
        text = self
            .ids
            .replace_all(&text, |found: &Captures<'_>| {
                let next = seen.len() + 1;
                format!("job_{}", seen.entry(found[0].to_owned()).or_insert(next))
            })
            .into_owned();
        for (pattern, with) in &self.others {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        text
    }
}

/// Compares with the file, or writes it.
fn check(name: &str, seen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, seen).unwrap();
        return;
    }
    let right = fs::read_to_string(&path).unwrap_or_default();
    for (number, (seen, right)) in seen.lines().zip(right.lines()).enumerate() {
        assert_eq!(seen, right, "tests/golden/{name}, line {}", number + 1);
    }
    assert_eq!(seen.lines().count(), right.lines().count(), "tests/golden/{name}: lines");
}

/// Events that follow one another and differ in their text only are one: how output is cut is the operating system's choice.
fn joined(sse: &str) -> String {
    let text = Regex::new(r#"^data: (\{"event":"on_(?:tool_output|llm_new_token)","data":\{.*?"text":")((?:[^"\\]|\\.)*)("[,}].*),"sequence":\d+\}$"#)
        .unwrap();
    let sequence = Regex::new(r#""sequence":\d+\}$"#).unwrap();
    let mut lines: Vec<(String, String, String)> = Vec::new();
    for line in sse.lines().filter(|line| line.starts_with("data: ")) {
        match (text.captures(line), lines.last_mut()) {
            (Some(found), Some((head, said, _))) if *head == found[1] => said.push_str(&found[2]),
            (Some(found), _) => lines.push((found[1].to_owned(), found[2].to_owned(), found[3].to_owned())),
            (None, _) => {
                let line = sequence.replace(line, "\"sequence\":N}");
                lines.push((line.trim_start_matches("data: ").to_owned(), String::new(), String::new()));
            }
        }
    }
    lines.iter().fold(String::new(), |mut all, (head, said, tail)| {
        writeln!(all, "{head}{said}{tail}").unwrap();
        all
    })
}

async fn stream_of(gateway: &Gateway, job_id: &str) -> String {
    gateway.get(&format!("/api/v1/stream/{job_id}")).await.text()
}

/// Adds the events of a task under a title.
async fn add_job(
    all: &mut String,
    normal: &mut Normal,
    gateway: &Gateway,
    title: &str,
    body: Value,
) -> String {
    let job_id = gateway.submit(&body).await;
    let events = joined(&stream_of(gateway, &job_id).await);
    write!(all, "== {title}: {body}\n{}\n", normal.text(&events)).unwrap();
    job_id
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_jobs() {
    let mut all = String::new();
    let mut normal = Normal::new();
    let bundled = Gateway::start();
    normal.directory(bundled.directory.path().to_owned(), "DIRECTORY");
    for (title, body) in [
        ("a command", json!({"command": "list all available agents"})),
        ("a command that is declined", json!({"command": "what is the weather"})),
        ("an agent", json!({"agent_id": "SqlExpert_Agent", "input_text": "hello there"})),
        (
            "an agent in a conversation",
            json!({"agent_id": "SqlExpert_Agent", "input_text": "a", "conversation_id": "c1"}),
        ),
        ("a tool", json!({"tool": "get_system_config"})),
        (
            "a tool with arguments",
            json!({"tool": "get_agent_info", "arguments": {"agent_id": "SqlExpert_Agent"}}),
        ),
        ("a mistake", json!({"tool": "get_agent_info", "arguments": {"agent_id": "Nope_Agent"}})),
        ("installing", json!({"tool": "install_agent_templates", "arguments": {"template_name": "all"}})),
        ("validating", json!({"tool": "validate_conductor_system"})),
    ] {
        add_job(&mut all, &mut normal, &bundled, title, body).await;
    }
    let body = json!({"tool": "start_interactive_session", "arguments": {"agent_id": "SqlExpert_Agent", "initial_input": "x"}});
    let job_id = bundled.submit(&body).await;
    let mut reader = bundled.sse(&job_id, 0).await;
    for value in [json!("more"), Value::Null] {
        let asked = reader.until("input_required").await;
        let answer = json!({"input_id": asked["data"]["input_id"], "value": value});
        assert_eq!(bundled.post(&format!("/api/v1/jobs/{job_id}/input"), &answer).await.status, 200);
    }
    reader.until("end_of_stream").await;
    let events = joined(&stream_of(&bundled, &job_id).await);
    write!(all, "== a session: {body}\n{}\n", normal.text(&events)).unwrap();

    let mean = Gateway::mean(Options::default());
    normal.directory(mean.directory.path().to_owned(), "DIRECTORY");
    for (title, input) in [
        ("a real engine", "ok"),
        ("its failure", "status 3"),
        ("a broken outcome", "broken-outcome"),
        ("a title", "title"),
    ] {
        add_job(&mut all, &mut normal, &mean, title, json!({"agent_id": "Mean_Agent", "input_text": input}))
            .await;
    }
    let body = json!({"agent_id": "Mean_Agent", "input_text": "hang", "timeout_seconds": 1});
    add_job(&mut all, &mut normal, &mean, "out of time", body).await;
    let job_id = mean.submit_mean("hang").await;
    let mut reader = mean.sse(&job_id, 0).await;
    // Everything that it says is said.
    while !reader.until("on_tool_output").await["data"]["text"].to_string().contains("log") {}
    mean.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({})).await;
    reader.until("end_of_stream").await;
    let events = joined(&stream_of(&mean, &job_id).await);
    write!(all, "== cancelled\n{}\n", normal.text(&events)).unwrap();
    check("events.txt", &all);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_agent_with_a_model() {
    let mut all = String::new();
    let mut normal = Normal::new();
    let repaired =
        openai::text("<tool_call>{\"name\": \"get_system_config\", \"arguments\": {}}</tool_call>");
    let model = ModelServer::start(vec![
        openai::call_turn(&[
            ("a", "get_agent_info", json!({"agent_id": "SqlExpert_Agent"})),
            ("b", "nope", json!({})),
        ]),
        stream(repaired + &openai::finish("stop") + &openai::usage(30, 8) + openai::DONE),
        stream(
            openai::text("<think>hm</think>It knows ")
                + &openai::text("SQL.")
                + &openai::finish("stop")
                + openai::DONE,
        ),
        status(503, &[("retry-after", "0")], "busy"),
        openai::call_turn(&[("c", "ask_user", json!({"question": "Which?", "choices": ["a", "b"]}))]),
        openai::answer_turn(&["Done."]),
        status(401, &[], "{\"error\": {\"message\": \"bad key\"}}"),
    ])
    .await;
    let gateway = Gateway::thinking(&model, Options::default().set("agent.max_attempts", 2));
    normal.directory(gateway.directory.path().to_owned(), "DIRECTORY");
    add_job(&mut all, &mut normal, &gateway, "tools", json!({"command": "what does it know?"})).await;
    let job_id = gateway.submit(&json!({"command": "ask me"})).await;
    let mut reader = gateway.sse(&job_id, 0).await;
    let asked = reader.until("input_required").await;
    let answer = json!({"input_id": asked["data"]["input_id"], "value": "a"});
    gateway.post(&format!("/api/v1/jobs/{job_id}/input"), &answer).await;
    reader.until("end_of_stream").await;
    let events = joined(&stream_of(&gateway, &job_id).await);
    write!(all, "== a question\n{}\n", normal.text(&events)).unwrap();
    add_job(&mut all, &mut normal, &gateway, "a refusal", json!({"command": "again"})).await;
    check("agent.txt", &all);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_http() {
    let gateway = Gateway::start();
    let mut normal = Normal::new();
    normal.directory(gateway.directory.path().to_owned(), "DIRECTORY");
    let done = gateway
        .submit(&json!({"agent_id": "SqlExpert_Agent", "input_text": "hello", "labels": {"a": "b"}}))
        .await;
    gateway.events(&done).await;
    let failed = gateway.submit(&json!({"command": "what is the weather", "conversation_id": "c1"})).await;
    gateway.events(&failed).await;
    let talk = json!({"agent_id": "SqlExpert_Agent", "input_text": "hello", "conversation_id": "c2"});
    gateway.events(&gateway.submit(&talk).await).await;
    let gone = "job_000000000000000000000000000000000000";
    let mut all = String::new();
    let requests: &[(&str, String, Value)] = &[
        ("GET", "/health".into(), Value::Null),
        ("GET", "/health/live".into(), Value::Null),
        ("GET", "/health/ready".into(), Value::Null),
        ("GET", "/api/v1/info".into(), Value::Null),
        ("GET", "/api/v1/tools".into(), Value::Null),
        ("GET", "/api/v1/agents".into(), Value::Null),
        ("GET", "/api/v1/jobs?page_size=2".into(), Value::Null),
        ("GET", "/api/v1/jobs?state=FAILED&view=full".into(), Value::Null),
        ("GET", "/api/v1/jobs?label=a:b".into(), Value::Null),
        ("GET", "/api/v1/jobs?state=NONE".into(), Value::Null),
        ("GET", "/api/v1/jobs?page_size=x".into(), Value::Null),
        ("GET", format!("/api/v1/jobs/{done}"), Value::Null),
        ("GET", format!("/api/v1/jobs/{failed}"), Value::Null),
        ("GET", format!("/api/v1/jobs/{done}/result"), Value::Null),
        ("GET", format!("/api/v1/jobs/{failed}/result"), Value::Null),
        ("GET", format!("/api/v1/stream/{done}?after_sequence=6"), Value::Null),
        ("GET", format!("/api/v1/jobs/{gone}"), Value::Null),
        ("GET", format!("/api/v1/stream/{gone}"), Value::Null),
        ("POST", format!("/api/v1/jobs/{done}/cancel"), json!({})),
        ("POST", format!("/api/v1/jobs/{done}/input"), json!({"input_id": "input_1", "value": "x"})),
        ("GET", "/api/v1/conversations".into(), Value::Null),
        ("DELETE", "/api/v1/conversations/c2".into(), Value::Null),
        ("DELETE", "/api/v1/conversations/c2".into(), Value::Null),
        ("POST", "/execute".into(), json!({"command": "list all available agents"})),
        ("POST", "/execute".into(), json!({"agent_id": "Nope_Agent", "input_text": "x"})),
        ("POST", "/execute".into(), json!({})),
        ("POST", "/execute".into(), json!({"tool": "nope"})),
        ("POST", "/execute".into(), json!({"command": "x", "timeout_seconds": "soon"})),
        ("POST", "/execute".into(), json!({"command": "x", "labels": {"a b": "c"}})),
        (
            "POST",
            "/api/v1/stream-execute".into(),
            json!({"tool": "get_system_config", "idempotency_key": "k"}),
        ),
        ("DELETE", format!("/api/v1/jobs/{done}"), Value::Null),
        ("GET", "/nowhere".into(), Value::Null),
        ("PUT", "/execute".into(), json!({})),
    ];
    for (method, path, body) in requests {
        let text = (!body.is_null()).then(|| body.to_string().into_bytes());
        let answer = crate::support::send(
            &gateway.address,
            method,
            path,
            &[("content-type", "application/json")],
            text,
        )
        .await;
        writeln!(
            all,
            "== {method} {} {}",
            normal.text(path),
            if body.is_null() { String::new() } else { body.to_string() }
        )
        .unwrap();
        writeln!(all, "{}", answer.status).unwrap();
        for (name, value) in &answer.headers {
            if !matches!(name.as_str(), "date" | "content-length") {
                let line = format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
                writeln!(all, "{}", normal.text(&line)).unwrap();
            }
        }
        let is_stream = answer.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if is_stream { joined(&answer.text()) } else { answer.text() };
        write!(all, "{}\n\n", normal.text(&body)).unwrap();
    }
    check("http.txt", &all);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_commands() {
    let mut all = String::new();
    let mut normal = Normal::new();
    let gateway = Gateway::mean(Options::default());
    let url = gateway.url();
    let done = gateway.submit_mean("ok").await;
    gateway.events(&done).await;
    let failed = gateway.submit_mean("status 3").await;
    gateway.events(&failed).await;
    let own = tempfile::tempdir().unwrap();
    normal.directory(own.path().to_owned(), "DIRECTORY");
    normal.directory(gateway.directory.path().to_owned(), "DIRECTORY");
    let commands: &[&[&str]] = &[
        &["--version"],
        &["--help"],
        &["serve", "--help"],
        &["run", "--help"],
        &["jobs", "--help"],
        &["jobs", "list", "--help"],
        &["jobs", "watch", "--help"],
        &["jobs", "answer", "--help"],
        &["conversations", "--help"],
        &["mcp", "--help"],
        &["mcp", "config", "--help"],
        &["config", "--help"],
        &["engine", "--help"],
        &["config", "show"],
        &["config", "check"],
        &["--set", "server.prot=1", "config", "check"],
        &["run", "list all available agents"],
        &["run", "what is the weather"],
        &["run", ""],
        &["run", "--agent", "SqlExpert_Agent", "hello"],
        &["run", "--agent", "Nope_Agent", "hello"],
        &["run", "--tool", "get_agent_info", "{\"agent_id\": \"SqlExpert_Agent\"}"],
        &["run", "--tool", "get_agent_info", "{"],
        &["run", "--agent", "Mean_Agent", "ok", "--server", &url],
        &["jobs", "list", "--server", &url],
        &["jobs", "show", &done, "--server", &url],
        &["jobs", "show", &failed, "--server", &url],
        &["jobs", "show", &done, "--json", "--server", &url],
        &["jobs", "watch", &failed, "--server", &url],
        &["jobs", "result", &done, "--server", &url],
        &["jobs", "result", &failed, "--server", &url],
        &["jobs", "cancel", &done, "--server", &url],
        &["jobs", "answer", &done, "x", "--server", &url],
        &["jobs", "delete", &done, "--server", &url],
        &["jobs", "show", &done, "--server", &url],
        &["conversations", "list", "--server", &url],
        &["jobs", "list", "--server", "127.0.0.1:1"],
        &["engine", "--list"],
        &["frobnicate"],
    ];
    for arguments in commands {
        let printed = cli::run(arguments, Some(own.path()));
        writeln!(all, "== {}", normal.text(&arguments.join(" "))).unwrap();
        writeln!(all, "status {}", printed.status).unwrap();
        for (name, text) in [("stdout", &printed.stdout), ("stderr", &printed.stderr)] {
            if !text.is_empty() {
                writeln!(all, "-- {name}\n{}", normal.text(text).trim_end()).unwrap();
            }
        }
        all.push('\n');
    }
    check("commands.txt", &all);
}
