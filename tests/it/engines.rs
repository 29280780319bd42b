//! The real engine as it is recorded, played by a stand-in: what it prints, how it leads a dialogue, what it leaves behind.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use conductor_gateway::pb;
use serde_json::{Value, json};

use crate::support::{Gateway, Options, eventually, send};

async fn run(gateway: &Gateway, input: &str) -> Value {
    gateway.post("/execute", &json!({"agent_id": "Mean_Agent", "input_text": input})).await.json()
}

#[tokio::test]
async fn an_outcome_is_read_as_it_is_written() {
    let gateway = Gateway::mean(Options::default());
    for (input, result) in [("title", "ok"), ("nan", "a\u{FFFD}b"), ("over-lines", "ok"), ("ok", "fine")] {
        assert_eq!(run(&gateway, input).await["result"], result, "{input}");
    }
    for (input, words) in [
        ("broken-outcome", "its last line says success but cannot be read"),
        ("traceback", "KeyError: 'ANTHROPIC_API_KEY'"),
        ("traceback", "ANTHROPIC_API_KEY, name it in conductor.pass_environment"),
    ] {
        let failed = run(&gateway, input).await;
        assert!(failed["detail"].as_str().unwrap().contains(words), "{input}: {failed}");
        assert_eq!(failed["reason"], "ENGINE_FAILED");
        assert!(!failed["detail"].as_str().unwrap().contains("File \""), "{failed}");
    }
    // It said its outcome and does not end: the outcome counts, after a grace, and nothing is left.
    let began = Instant::now();
    let lingered = run(&gateway, "linger").await;
    assert_eq!(lingered["result"], "said it");
    assert!(lingered["structured"]["notes"][0].as_str().unwrap().contains("did not end"), "{lingered}");
    assert!((4..25).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // Beside the answer there is log, and only that.
    let job = gateway.submit_mean("ok").await;
    let events = gateway.events(&job).await;
    let streams: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "on_tool_output")
        .map(|event| &event["data"]["stream"])
        .collect();
    assert!(!streams.is_empty() && streams.iter().all(|stream| **stream == "LOG"), "{streams:?}");
    // Its own limit is always said.
    let flags = run(&gateway, "flags").await["result"].as_str().unwrap().to_owned();
    assert!(flags.contains("--timeout=1800"), "{flags}");
    let body = json!({"tool": "execute_agent_stateless", "arguments": {"agent_id": "Mean_Agent", "input_text": "flags", "timeout": 7}});
    let flags = gateway.post("/execute", &body).await.json()["result"].as_str().unwrap().to_owned();
    assert!(flags.contains("--timeout=7"), "{flags}");
}

#[tokio::test]
async fn a_long_answer_is_kept_whole_and_read_whole() {
    let gateway = Gateway::mean(Options::default().set("conductor.max_output_bytes", 3_000_000));
    let whole = "palavra ".repeat(2_000_000 / 8);
    let answer = run(&gateway, "long 2000000").await;
    let job_id = answer["job_id"].as_str().unwrap().to_owned();
    let shown = answer["result"].as_str().unwrap();
    assert!(whole.starts_with(shown) && shown.len() < 100_000);
    assert_eq!(
        (&answer["is_truncated"], &answer["structured"]["is_truncated"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(answer["result_bytes"], 2_000_000);
    let path = format!("/api/v1/jobs/{job_id}/result");
    assert_eq!(answer["result_url"], path);
    let job = gateway.job(&job_id).await;
    assert_eq!(
        (&job["result"]["is_truncated"], &job["result"]["result_bytes"]),
        (&json!(true), &json!(2_000_000))
    );
    let read = async |headers: &[(&str, &str)]| send(&gateway.address, "GET", &path, headers, None).await;
    let all = read(&[]).await;
    assert_eq!((all.status, all.text().len()), (200, 2_000_000));
    assert!(all.text() == whole && all.headers["content-type"] == "text/plain; charset=utf-8");
    let part = read(&[("range", "bytes=1999992-")]).await;
    assert_eq!((part.status, part.text().as_str()), (206, "palavra "));
    assert_eq!(part.headers["content-range"], "bytes 1999992-1999999/2000000");
    assert_eq!(read(&[("range", "bytes=2000000-")]).await.status, 416);
    let tag = all.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(read(&[("if-none-match", &tag)]).await.status, 304);
    // After a restart too, and over gRPC.
    let gateway = gateway.crash_and_restart();
    let request = pb::GetJobResultRequest { job_id: job_id.clone(), offset: 1_000_000 };
    let mut pieces = gateway.grpc().await.get_job_result(request).await.unwrap().into_inner();
    let mut read = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        assert_eq!(piece.total_bytes, 2_000_000);
        read.extend(piece.data);
    }
    assert_eq!(read, whole.as_bytes()[1_000_000..]);
    let printed = std::process::Command::new(crate::support::BINARY)
        .args(["jobs", "--server", &gateway.address, "result", &job_id])
        .current_dir(gateway.directory.path())
        .output()
        .unwrap();
    assert_eq!(printed.stdout.len(), 2_000_001);
    // More than is kept: the error names the bound, and another caller, or nobody's job, the reason.
    let beyond = run(&gateway, "long 3500000").await;
    assert!(beyond["detail"].as_str().unwrap().contains("conductor.max_output_bytes"), "{beyond}");
    let failed = beyond["job_id"].as_str().unwrap();
    assert_eq!(gateway.get(&format!("/api/v1/jobs/{failed}/result")).await.json()["reason"], "NO_RESULT");
    // It goes with its job.
    assert_eq!(
        send(&gateway.address, "DELETE", &format!("/api/v1/jobs/{job_id}"), &[], None).await.status,
        204
    );
    assert_eq!(gateway.get(&path).await.json()["reason"], "JOB_NOT_FOUND");
    assert_eq!(std::fs::read_dir(gateway.path("conductor-data/results")).unwrap().count(), 0);
    // A short one is read the same way.
    let short = run(&gateway, "ok").await;
    let short = format!("/api/v1/jobs/{}/result", short["job_id"].as_str().unwrap());
    assert_eq!(gateway.get(&short).await.text(), "fine");
}

#[tokio::test]
async fn a_run_has_a_root_of_its_own_and_what_it_creates_is_taken() {
    let gateway = Gateway::mean(Options::default());
    let engine = gateway.path("engine");
    std::fs::create_dir_all(engine.join(".git")).unwrap();
    std::fs::create_dir_all(engine.join("src")).unwrap();
    std::fs::write(engine.join("src/code.py"), "pass\n").unwrap();
    // A neighbour that would break every run in the shared root.
    let neighbour = engine.join(".conductor_workspace/agents/List_Agent");
    std::fs::create_dir_all(&neighbour).unwrap();
    std::fs::write(neighbour.join("definition.yaml"), "- a\n- b\n").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(run(&gateway, "git").await["result"], "[]");
    let listed = gateway.post("/execute", &json!({"tool": "list_available_agents"})).await.json();
    assert_eq!(listed["structured"]["broken"][0]["agent_id"], "List_Agent");
    assert_eq!(listed["structured"]["agents"].as_array().unwrap().len(), 2);
    // Prompts go with a run that remembers nothing, and are bounded in a conversation.
    for _ in 0..2 {
        assert_eq!(run(&gateway, "prompts 1").await["result"], "1");
    }
    assert!(!engine.join("prompts_log").exists());
    let mut count = 0;
    for number in 10..40 {
        let body = json!({"agent_id": "Mean_Agent", "input_text": format!("prompts {number}"), "conversation_id": "kept"});
        count = gateway.post("/execute", &body).await.json()["result"].as_str().unwrap().parse().unwrap();
    }
    assert!(count <= 21, "{count}");
    // What an agent creates can be run.
    let created = run(&gateway, "create New_Agent").await;
    assert_eq!(created["structured"]["created_agents"], json!(["New_Agent"]), "{created}");
    let refused = run(&gateway, "create Other_Agent").await;
    let note = refused["structured"]["notes"][0].as_str().unwrap_or_else(|| panic!("{refused}"));
    assert!(note.contains("Other_Agent: there is an agent of that name"), "{refused}");
    let other = gateway.post("/execute", &json!({"agent_id": "New_Agent", "input_text": "ok"})).await;
    assert_eq!(other.json()["result"], "fine");
    // One that puts a link in its own place harms itself only.
    let body =
        json!({"agent_id": "Mean_Agent", "input_text": "become-a-link /etc", "conversation_id": "own"});
    assert_eq!(gateway.post("/execute", &body).await.status, 200);
    // The next run of that conversation has its root again, and nothing was written through the link.
    let body = json!({"agent_id": "Mean_Agent", "input_text": "ok", "conversation_id": "own"});
    assert_eq!(gateway.post("/execute", &body).await.json()["result"], "fine");
    assert!(!std::path::Path::new("/etc/definition.yaml").exists());
    let clear = json!({"tool": "clear_agent_history", "conversation_id": "own", "arguments": {"agent_id": "Mean_Agent"}});
    gateway.post("/execute", &clear).await;
    assert!(std::path::Path::new("/etc/hostname").exists());
    eventually(Duration::from_secs(5), "no run's root is left", async || {
        let runs = std::fs::read_dir(gateway.path("conductor-data/runs")).unwrap().flatten();
        runs.filter(|entry| entry.path().is_dir())
            .all(|own| std::fs::read_dir(own.path()).unwrap().count() == 1)
    })
    .await;
    // Installed where the configuration points.
    let moved = json!({"tool": "migrate_storage", "arguments": {"from_type": "filesystem", "to_type": "filesystem", "path": "moved"}});
    assert_eq!(gateway.post("/execute", &moved).await.status, 200);
    let install = json!({"tool": "install_agent_templates", "arguments": {"template_name": "Fresh_Agent"}});
    let installed = gateway.post("/execute", &install).await.json();
    assert_eq!(installed["structured"]["installed"], json!(["Fresh_Agent"]), "{installed}");
    assert!(gateway.path("conductor-data/backups/moved/agents/Fresh_Agent/definition.yaml").exists());
    assert!(!engine.join(".conductor_workspace/agents/Fresh_Agent").exists());
    let again = gateway.post("/execute", &install).await.json();
    assert_eq!(again["structured"]["skipped"], json!(["Fresh_Agent"]), "{again}");
}

/// Leads a session by the job's inputs; answers with what it told and its result.
async fn session(gateway: &Gateway, lines: &[&str]) -> (Vec<Value>, Value) {
    let body = json!({"tool": "start_interactive_session", "arguments": {"agent_id": "Mean_Agent", "initial_input": "strict"}});
    let job = gateway.submit(&body).await;
    let mut reader = gateway.sse(&job, 0).await;
    for line in lines {
        let asked = reader.until("input_required").await;
        let answer = json!({"input_id": asked["data"]["input_id"], "value": line});
        assert_eq!(gateway.post(&format!("/api/v1/jobs/{job}/input"), &answer).await.status, 200);
    }
    let events = gateway.events(&job).await;
    (events, gateway.job(&job).await)
}

#[tokio::test]
async fn what_is_typed_in_a_session_is_text_and_comes_as_the_engine_wants_it() {
    let gateway = Gateway::mean(Options::default());
    std::fs::write(gateway.path("secret"), "canary").unwrap();
    let secret = format!("look at @{}", gateway.path("secret").display());
    let (events, job) = session(&gateway, &[&secret, "clear", "two, too soon", "sair"]).await;
    let result = job["result"]["text"].as_str().unwrap_or_else(|| panic!("{job}"));
    assert!(!result.contains("canary") && !result.contains("OBEYED"), "{result}");
    assert!(result.contains("ECHO[look at ＠") && result.contains("ECHO[“clear”]"), "{result}");
    // Forgotten by the engine, and given again.
    assert!(result.contains("ECHO[two, too soon]"), "{result}");
    assert_eq!(result.matches("ECHO[").count(), 3, "{result}");
    // The answer is the answer, the rest is log.
    let said = |stream: &str| -> String {
        let output = events
            .iter()
            .filter(|event| event["event"] == "on_tool_output" && event["data"]["stream"] == stream);
        output.map(|event| event["data"]["text"].as_str().unwrap()).collect()
    };
    assert!(
        said("STDOUT").contains("ECHO[two") && !said("STDOUT").contains("Processando"),
        "{}",
        said("STDOUT")
    );
    assert!(said("LOG").contains("RATE LIMIT"));
    // Where the configuration allows it, the engine's words are the engine's.
    let gateway = Gateway::mean(Options::default().set("conductor.session_commands", true));
    let (_, job) = session(&gateway, &["clear", "sair"]).await;
    assert!(job["result"]["text"].as_str().unwrap().contains("OBEYED clear"));
}

/// Agents in a database are named by the engine itself; conversations would be everybody's there, and are refused.
#[tokio::test]
async fn agents_that_are_no_files_are_asked_for() {
    let mut options = Options::default().set("conductor.pass_environment", "[MONGO_URI]");
    options.environment.push(("MONGO_URI", "mongodb://localhost/x".to_owned()));
    let gateway = Gateway::mean(options);
    std::fs::write(gateway.path("engine/config.yaml"), "storage: {type: mongodb}\n").unwrap();
    eventually(Duration::from_secs(10), "the listing is the engine's own", async || {
        let listed = gateway.get("/api/v1/agents").await.json();
        listed["agents"][0]["agent_id"] == "Kept_Agent"
            && listed["agents"][0]["capabilities"] == json!(["a", "b", "c"])
    })
    .await;
    let describe = |agent_id: &str| json!({"tool": "get_agent_info", "arguments": {"agent_id": agent_id}});
    let described = gateway.post("/execute", &describe("Kept_Agent")).await.json();
    assert_eq!(described["structured"]["description"], "is kept", "{described}");
    let missing = gateway.post("/execute", &describe("kept")).await.json();
    assert_eq!(missing["reason"], "AGENT_NOT_FOUND");
    assert!(missing["detail"].as_str().unwrap().contains("did you mean `Kept_Agent`?"), "{missing}");
    let body = json!({"agent_id": "Kept_Agent", "input_text": "ok"});
    assert_eq!(gateway.post("/execute", &body).await.json()["result"], "fine");
    let body = json!({"agent_id": "Kept_Agent", "input_text": "ok", "conversation_id": "c"});
    assert_eq!(gateway.post("/execute", &body).await.json()["reason"], "UNSUPPORTED");
    assert_eq!(gateway.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn probes_say_whether_the_engine_can_run_and_tell_when_that_changes() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let gateway = Gateway::mean(Options::default());
    let channel = tonic::transport::Channel::from_shared(gateway.url()).unwrap().connect().await.unwrap();
    let watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap();
    let mut statuses = watch.into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status, 1);
    let config = gateway.path("engine/config.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    for (written, why) in [
        (None, "no config.yaml"),
        (Some("storage: {type: mongodb}\n"), "MONGO_URI"),
        (Some("storage: [\n"), "config.yaml"),
    ] {
        match written {
            None => std::fs::remove_file(&config).unwrap(),
            Some(text) => std::fs::write(&config, text).unwrap(),
        }
        eventually(Duration::from_secs(10), why, async || {
            let ready = gateway.get("/health/ready").await;
            ready.status == 503 && ready.text().contains(why)
        })
        .await;
    }
    assert_eq!(statuses.message().await.unwrap().unwrap().status, 2, "NOT_SERVING");
    std::fs::write(&config, text).unwrap();
    assert_eq!(statuses.message().await.unwrap().unwrap().status, 1, "SERVING");
    assert_eq!(gateway.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn files_that_hang_or_have_no_end_hold_up_nobody() {
    let mut gateway = Gateway::start();
    let agents: PathBuf = gateway.path("conductor-data/engine/.conductor_workspace/agents");
    let pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    for name in ["Pipe_Agent", "Zero_Agent", "Large_Agent", "Persona_Agent"] {
        std::fs::create_dir_all(agents.join(name)).unwrap();
    }
    pipe(&agents.join("Pipe_Agent/definition.yaml"));
    std::os::unix::fs::symlink("/dev/zero", agents.join("Zero_Agent/definition.yaml")).unwrap();
    std::fs::write(agents.join("Large_Agent/definition.yaml"), "# line\n".repeat(5_000_000)).unwrap();
    std::fs::write(agents.join("Persona_Agent/definition.yaml"), "name: x\nversion: \"1\"\n").unwrap();
    pipe(&agents.join("Persona_Agent/persona.md"));
    std::os::unix::fs::symlink("/etc", agents.join("Linked_Agent")).unwrap();
    let began = Instant::now();
    let listed = gateway.post("/execute", &json!({"tool": "list_available_agents"})).await.json();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let broken: Vec<&str> = listed["structured"]["broken"]
        .as_array()
        .unwrap()
        .iter()
        .map(|broken| broken["agent_id"].as_str().unwrap())
        .collect();
    assert_eq!(broken, ["Large_Agent", "Linked_Agent", "Pipe_Agent", "Zero_Agent"]);
    assert_eq!(gateway.get("/api/v1/agents").await.status, 200);
    let info = json!({"tool": "get_agent_info", "arguments": {"agent_id": "Persona_Agent"}});
    assert_eq!(gateway.post("/execute", &info).await.status, 200);
    let body = json!({"agent_id": "SqlExpert_Agent", "input_text": "x"});
    assert_eq!(gateway.post("/execute", &body).await.status, 200);
    let backed_up = gateway.post("/execute", &json!({"tool": "backup_agents"})).await.json();
    let left_out = backed_up["structured"]["left_out"].to_string();
    assert!(
        left_out.contains("Linked_Agent") && left_out.contains("Zero_Agent/definition.yaml"),
        "{left_out}"
    );
    // A backup whose agents lie elsewhere is none.
    let trick = gateway.path("conductor-data/backups/trick");
    std::fs::create_dir_all(&trick).unwrap();
    std::os::unix::fs::symlink(&agents, trick.join("agents")).unwrap();
    let restore = json!({"tool": "restore_agents", "arguments": {"backup_path": "trick"}});
    assert_eq!(gateway.post("/execute", &restore).await.status, 422);
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(Duration::from_secs(31)).is_some());
}
