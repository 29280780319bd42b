//! `run`, `jobs` and their like as a person and a script meet them: what goes to which stream, ids, input, cuts, exit statuses.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    cli::run,
    support::{BINARY, Gateway, ModelServer, Options, eventually, model::openai},
};

fn start(arguments: &[&str], directory: &Path, stdin: Stdio) -> Child {
    Command::new(BINARY)
        .args(arguments)
        .current_dir(directory)
        .env("XDG_DATA_HOME", directory)
        .env("AGENT_PROVIDER", "none")
        .env("AGENT_AUTODETECT", "off")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn given(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start(arguments, directory.path(), Stdio::piped());
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_on_stdout_and_nothing_else() {
    let gateway = Gateway::mean(Options::default());
    let url = gateway.url();
    // A real engine prints banners, log lines and a document; the answer is in the document.
    for quiet in [&[][..], &["--quiet"][..]] {
        let mut arguments = vec!["run", "--agent", "Mean_Agent", "ok", "--server", &url];
        arguments.extend(quiet);
        let printed = run(&arguments, None);
        assert_eq!((printed.status, printed.stdout.as_str()), (0, "fine\n"), "{}", printed.stderr);
        assert_eq!(printed.stderr.is_empty(), !quiet.is_empty(), "{}", printed.stderr);
    }
    // A failure is said also where only the answer is wanted.
    let printed = run(&["run", "-q", "--agent", "Mean_Agent", "json-error", "--server", &url], None);
    assert_eq!((printed.status, printed.stdout.as_str()), (1, ""));
    assert!(printed.stderr.contains("ENGINE_FAILED: "), "{}", printed.stderr);
    assert!(!printed.stderr.contains('\x1b'), "no colour where there is no terminal");
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_and_what_was_said_before_are_no_answer() {
    let thought = openai::chunk(json!({"reasoning_content": "let me think"}), Value::Null);
    let call = openai::text("I look it up.")
        + &openai::call(0, "a", "get_system_config", &json!({}))
        + &openai::finish("tool_calls")
        + openai::DONE;
    let answer = thought + &openai::text("42\u{1b}[0m\r\n") + &openai::finish("stop") + openai::DONE;
    let model =
        ModelServer::start(vec![crate::support::model::stream(call), crate::support::model::stream(answer)])
            .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let printed = run(&["run", "what is it?", "--server", &gateway.url()], None);
    // A program gets the answer unchanged, control characters too; a terminal would not.
    assert_eq!(printed.stdout, "42\u{1b}[0m\r\n");
    assert!(
        printed.stderr.contains("let me think") && !printed.stderr.contains('\x1b'),
        "{}",
        printed.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_named_by_their_last_characters_and_found_by_labels() {
    let gateway = Gateway::mean(Options::default());
    let url = gateway.url();
    let detached = run(
        &[
            "run", "--detach", "--agent", "Mean_Agent", "ok", "--label", "team=a", "--label", "n=1",
            "--server", &url,
        ],
        None,
    );
    let job_id = detached.stdout.trim().to_owned();
    assert_eq!((detached.status, job_id.len()), (0, 40), "{}", detached.stderr);
    let short = &job_id[32..];
    // What is advised works as it stands, also where the gateway is elsewhere.
    assert!(detached.stderr.contains(&format!("jobs watch {short} --server {url}\n")), "{}", detached.stderr);
    let port = format!("server.port={}", url.rsplit(':').next().unwrap());
    let set =
        ["--set", "agent.api_key=canary", "--set", &port, "run", "--detach", "--agent", "Mean_Agent", "ok"];
    let set = run(&set, None);
    assert!(set.stderr.contains(&format!(" --set {port}\n")), "{}", set.stderr);
    assert!(!set.stderr.contains("canary"), "what is advised repeats no secret: {}", set.stderr);
    gateway.events(set.stdout.trim()).await;
    assert_eq!(
        run(&["jobs", "delete", set.stdout.trim(), "-o", "json", "--server", &url], None).stdout,
        format!("{{\"job_id\":\"{}\",\"deleted\":true}}\n", set.stdout.trim())
    );
    let quiet = run(&["run", "--detach", "-q", "--agent", "Mean_Agent", "ok", "--server", &url], None);
    assert!(quiet.stdout.starts_with("job_") && quiet.stderr.is_empty(), "{}", quiet.stderr);
    gateway.events(&job_id).await;
    let shown = run(&["jobs", "show", short, "--server", &url], None);
    assert!(
        shown.stdout.contains(&job_id) && shown.stdout.contains("labels: n=1 team=a"),
        "{}",
        shown.stdout
    );
    assert_eq!(run(&["jobs", "result", short, "--server", &url], None).stdout, "fine\n");
    assert_eq!(run(&["jobs", "watch", short, "--server", &url], None).stdout, "fine\n");
    // How long a job took is told from its events, not from the time that reading them takes.
    let slept = gateway.submit_mean("sleep 2000").await;
    gateway.events(&slept).await;
    let watched = run(&["jobs", "watch", &slept[32..], "--server", &url], None);
    assert!(watched.stderr.contains("succeeded after 2"), "{}", watched.stderr);
    let middle = run(&["jobs", "watch", &slept[32..], "--after", "2", "--server", &url], None);
    assert!(middle.stderr.ends_with("succeeded\n"), "from its middle that is not known: {}", middle.stderr);
    // Submitted again: another job with the same task and labels.
    let again = run(&["jobs", "rerun", short, "--server", &url], None).stdout.trim().to_owned();
    assert_ne!(again, job_id);
    gateway.events(&again).await;
    let listed = run(&["jobs", "list", "--label", "team=a", "-o", "json", "--server", &url], None);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let one = run(&["jobs", "list", "--limit", "1", "--state", "succeeded", "--server", &url], None);
    assert_eq!(one.stdout.lines().count(), 2, "{}", one.stdout);
    assert!(one.stderr.contains("there are more"), "{}", one.stderr);
    let wrong = run(&["jobs", "list", "--state", "done", "--server", &url], None);
    assert!(wrong.stderr.contains("succeeded"), "the names are said: {}", wrong.stderr);
    assert_eq!(run(&["jobs", "show", "zzzzzzzz", "--server", &url], None).status, 66);
    // The same key is the same job.
    let keyed =
        ["run", "--detach", "--agent", "Mean_Agent", "ok", "--idempotency-key", "k", "--server", &url];
    assert_eq!(run(&keyed, None).stdout, run(&keyed, None).stdout);
}

#[test]
fn input_comes_from_files_and_standard_input() {
    let long = format!("start {} end", "word ".repeat(20_000));
    let said = "received an input of 100010 bytes";
    let (status, stdout, stderr) = given(&["run", "--agent", "SqlExpert_Agent"], &long);
    assert_eq!((status, stdout.contains(said)), (Some(0), true), "{stderr}");
    let (status, stdout, _) = given(&["run", "--agent", "SqlExpert_Agent", "-"], &long);
    assert_eq!((status, stdout.contains(said)), (Some(0), true));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &long).unwrap();
    let at = format!("@{}", file.path().display());
    let printed = run(&["run", "--agent", "SqlExpert_Agent", &at], None);
    assert_eq!((printed.status, printed.stdout.contains(said)), (0, true), "{}", printed.stderr);
    let literal = run(&["run", "--agent", "SqlExpert_Agent", "@@someone"], None);
    assert!(literal.stdout.contains("It was told: @someone"), "{}", literal.stdout);
    let missing = run(&["run", "--agent", "SqlExpert_Agent", "@/nope"], None);
    assert_eq!((missing.status, missing.stderr.contains("@/nope cannot be read")), (64, true));
}

/// Enter alone is the default, or asked again; what is none of the answers is asked again; the end of the input is said.
#[test]
fn answers_are_checked_where_they_are_typed() {
    let clear = [
        "run",
        "--tool",
        "start_interactive_session",
        r#"{"agent_id": "SqlExpert_Agent", "initial_input": "a"}"#,
    ];
    let (status, stdout, stderr) = given(&clear, "\nsecond\n");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("that is no answer") && stderr.contains("standard input has ended"), "{stderr}");
    assert!(stdout.contains("It was told: second"), "{stdout}");
}

#[test]
fn a_reader_that_leaves_ends_the_run() {
    let begun = Instant::now();
    let input = "w ".repeat(240);
    let command = format!(
        "\"$GATEWAY\" run --json --set 'conductor.pass_environment=[CONDUCTOR_SIMULATE_PACE_MS]' --agent SqlExpert_Agent '{input}' | head -1; echo \"${{PIPESTATUS[0]}}\""
    );
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .args(["-c", &command])
        .current_dir(directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .env("GATEWAY", BINARY)
        .env("AGENT_PROVIDER", "none")
        .env("CONDUCTOR_SIMULATE_PACE_MS", "200")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().last(), Some("141"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it ended after {:?}", begun.elapsed());
}

/// The gateway dies and comes back five times while a job waits and runs: the run goes on, and prints every event once.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_over_restarts_of_the_gateway() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = Options::default().set("server.port", port).set("jobs.max_running", 1);
    let mut gateway = Gateway::mean(options);
    // Each crash ends the one that runs, so that the next one's turn comes.
    let mut before = Vec::new();
    for _ in 0..5 {
        before.push(gateway.submit_mean("hang").await);
    }
    let directory = tempfile::tempdir().unwrap();
    let url = gateway.url();
    let stdout = File::create(directory.path().join("events")).unwrap();
    let mut child = Command::new(BINARY)
        .args(["run", "--json", "--agent", "Mean_Agent", "drip 20", "--server", &url])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(Duration::from_secs(10), "it waits", async || gateway.listed("state=queued").await.len() == 5)
        .await;
    for job_id in &before {
        eventually(Duration::from_secs(20), "the next one runs", async || {
            gateway.job(job_id).await["state"] == "RUNNING"
        })
        .await;
        gateway = gateway.crash_and_restart();
    }
    let status = tokio::task::block_in_place(|| child.wait().unwrap());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    let printed = std::fs::read_to_string(directory.path().join("events")).unwrap();
    let events: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sequences: Vec<u64> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(events.last().unwrap()["event"], "end_of_stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_has_is_listed() {
    let gateway = Gateway::start();
    let url = gateway.url();
    let agents = run(&["agents", "--server", &url], None);
    assert!(agents.stdout.contains("SqlExpert_Agent  ") && agents.status == 0, "{}", agents.stderr);
    let agents: Value =
        serde_json::from_str(&run(&["agents", "-o", "json", "--server", &url], None).stdout).unwrap();
    assert_eq!(agents.as_array().unwrap().len(), 8);
    let tools = run(&["tools", "--json", "--server", &url], None).stdout;
    assert_eq!(tools.lines().count(), 13);
    let status = run(&["status", "--server", &url], None).stdout;
    assert!(status.contains("engine    bundled") && status.contains("0 running, 0 waiting"), "{status}");
    let findings: Value = serde_json::from_str(&run(&["doctor", "-o", "json"], None).stdout).unwrap();
    let engine = json!({"finding": "ok", "subject": "engine", "text": "The system is valid."});
    assert!(findings.as_array().unwrap().contains(&engine), "{findings}");
    let doctor = run(&["doctor"], None);
    assert_eq!(doctor.status, 0, "{}", doctor.stdout);
    assert!(
        doctor.stdout.contains("engine: The system is valid.") && doctor.stdout.contains("note  model: none")
    );
}

/// Clients start the gateway in a directory of their own, with few variables: every path is absolute, and what the
/// environment says is written down, but for secrets.
#[test]
fn mcp_clients_are_given_their_own_form() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("conductor-data")).unwrap();
    std::fs::write(directory.path().join("config.yaml"), "jobs:\n  max_running: 3\n").unwrap();
    let config = |client: &str, further: &[&str]| {
        let output = Command::new(BINARY)
            .args(["mcp", "config", "--client", client])
            .args(further)
            .current_dir(directory.path())
            .env_clear()
            .env("AGENT_MODEL", "m")
            .env("AGENT_API_KEY", "canary")
            .env("AGENT_HEADERS", "{x-key: canary}")
            .env("AGENT_MCP_SERVERS", "{x: {url: 'http://h/?token=canary'}}")
            .env("AGENT_BASE_URL", "http://h/v1?key=canary")
            .env("AGENT_PROVIDER", "openai")
            .output()
            .unwrap();
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(
            output.status.success() && !stdout.contains("canary") && !stderr.contains("canary"),
            "{stderr}"
        );
        (stdout, stderr)
    };
    let (printed, said) = config("claude-desktop", &[]);
    let document: Value = serde_json::from_str(&printed).unwrap();
    let server = &document["mcpServers"]["conductor"];
    assert!(server.get("cwd").is_none(), "most clients ignore it");
    assert_eq!(server["env"], json!({"AGENT_MODEL": "m", "AGENT_PROVIDER": "openai"}));
    assert!(said.contains("AGENT_API_KEY") && said.contains("claude_desktop_config.json"), "{said}");
    let arguments: Vec<&str> =
        server["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    let root = directory.path().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    assert!(arguments.contains(&format!("{root}/config.yaml").as_str()), "{arguments:?}");
    assert!(arguments.contains(&format!("storage.path={root}/conductor-data").as_str()), "{arguments:?}");
    for (client, place, kind) in [
        ("claude-code", "mcpServers", json!("stdio")),
        ("vscode", "servers", json!("stdio")),
        ("cursor", "mcpServers", Value::Null),
        ("gemini", "mcpServers", Value::Null),
    ] {
        let document: Value = serde_json::from_str(&config(client, &[]).0).unwrap();
        assert_eq!(document[place]["conductor"]["type"], kind, "{client}");
    }
    for (client, member) in [("vscode", "url"), ("gemini", "httpUrl"), ("windsurf", "serverUrl")] {
        let (printed, _) = config(client, &["--transport", "http"]);
        assert!(
            printed.contains(&format!("\"{member}\": \"http://127.0.0.1:8006/mcp\"")),
            "{client}: {printed}"
        );
    }
    let (printed, _) = config("codex", &[]);
    assert!(printed.starts_with("[mcp_servers.conductor]\ncommand = \"/"), "{printed}");
    assert!(printed.contains("[mcp_servers.conductor.env]\nAGENT_MODEL = \"m\""), "{printed}");
}

#[test]
fn the_command_line_describes_itself() {
    for shell in ["bash", "zsh", "fish"] {
        let printed = run(&["completions", shell], None);
        assert!(printed.status == 0 && printed.stdout.contains("conversations"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(run(&["man", path], None).status, 0);
    let page = std::fs::read_to_string(directory.path().join("conductor-gateway-run.1")).unwrap();
    assert!(page.contains("idempotency"), "{page}");
    let schema: Value = serde_json::from_str(&run(&["config", "schema"], None).stdout).unwrap();
    assert_eq!(schema["properties"]["server"]["properties"]["port"]["type"], "integer");
}
