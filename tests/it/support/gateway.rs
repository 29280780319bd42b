//! The real binary, started on a port of the system's choice in a directory of its own.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use conductor_gateway::pb::{self, gateway_service_client::GatewayServiceClient};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{Answer, SseReader, http::send, processes::children};

pub const BINARY: &str = env!("CARGO_BIN_EXE_conductor-gateway");

/// How a gateway is to be started.
#[derive(Clone, Default)]
pub struct Options {
    pub settings: Vec<(&'static str, String)>,
    pub environment: Vec<(&'static str, String)>,
    /// A program that starts the gateway, with its arguments before the gateway's.
    pub started_by: Vec<String>,
}

impl Options {
    /// The gateway is started by a shell that has run this first.
    pub fn after(mut self, shell: &str) -> Self {
        self.started_by = vec!["sh".into(), "-c".into(), format!("{shell}; exec \"$0\" \"$@\"")];
        self
    }

    /// The mean engine notes its starts beside `root`, and wants no pause between the inputs of a session.
    pub fn with_ledger(mut self, root: &Path) -> Self {
        self.environment.push(("MEAN_ENGINE_LOG", root.with_file_name("starts.log").display().to_string()));
        let is_set = self.settings.iter().any(|(key, _)| *key == "conductor.pass_environment");
        let passed = if is_set { self } else { self.set("conductor.pass_environment", "[MEAN_ENGINE_LOG]") };
        passed.set("conductor.session_pause_seconds", 0)
    }

    pub fn set(mut self, key: &'static str, value: impl ToString) -> Self {
        self.settings.push((key, value.to_string()));
        self
    }
}

/// The path of the mean engine. `cargo test` builds it beside this binary; when only some tests were asked for, nobody has.
pub fn mean_engine() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let profile = Path::new(BINARY).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", "mean-engine", "--target-dir"]);
        cargo.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells a test of its package is not for a build: build scripts that look at it would run again.
        let told = [
            "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_",
            "LD_LIBRARY_PATH", "OUT_DIR",
        ];
        for (name, _) in
            std::env::vars().filter(|(name, _)| told.iter().any(|prefix| name.starts_with(prefix)))
        {
            cargo.env_remove(name);
        }
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the mean engine can be built");
        profile.join("examples/mean-engine")
    };
    BUILT.get_or_init(build).clone()
}

/// A real engine's workspace with two agents, `Mean_Agent` and `Other_Agent`.
pub fn write_workspace(root: &Path) {
    for agent in ["Mean_Agent", "Other_Agent"] {
        let agent_directory = root.join(".conductor_workspace/agents").join(agent);
        std::fs::create_dir_all(&agent_directory).unwrap();
        let definition = format!(
            "name: {agent}\nversion: \"1\"\ndescription: misbehaves\ntags: [a, b]\ncapabilities: [c]\n"
        );
        std::fs::write(agent_directory.join("definition.yaml"), definition).unwrap();
        std::fs::write(agent_directory.join("persona.md"), "# Persona\n").unwrap();
    }
    std::fs::write(
        root.join("config.yaml"),
        "storage:\n  type: filesystem\n  path: .conductor_workspace\nsecret_key: canary\n",
    )
    .unwrap();
}

pub struct Gateway {
    pub child: Child,
    pub address: String,
    /// Where MCP is.
    pub mcp: String,
    pub directory: Arc<tempfile::TempDir>,
    pub log: Arc<Mutex<String>>,
    options: Options,
}

impl Gateway {
    /// A gateway with the bundled engine.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), options)
    }

    /// A gateway with the mean engine in place of a real one, and one agent, `Mean_Agent`.
    pub fn mean(options: Options) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let root = directory.path().join("engine");
        write_workspace(&root);
        let options = options
            .set("conductor.project_path", root.display())
            .set("conductor.command", format!("[{}]", mean_engine().display()));
        Self::start_in(directory, options.with_ledger(&root))
    }

    pub fn start_in(directory: Arc<tempfile::TempDir>, options: Options) -> Self {
        // What is there already is the data root.
        let data = directory.path().join("conductor-data");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data).unwrap();
        // It belongs to whoever the directory belongs to, which need not be who runs the tests.
        let owner = std::fs::metadata(directory.path()).unwrap();
        std::os::unix::fs::chown(&data, Some(owner.uid()), Some(owner.gid())).unwrap();
        let mut words = options.started_by.iter().map(String::as_str).chain([BINARY]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(directory.path()).arg("serve").args(["--mcp-port", "0"]);
        // A flag would win over the setting of a test that needs a port which stays.
        if options.settings.iter().all(|(key, _)| *key != "server.port") {
            command.args(["--port", "0"]);
        }
        command
            .env("TELEMETRY_LOG", "info")
            .env("CONDUCTOR_SIMULATE_PACE_MS", "0")
            .env("AGENT_AUTODETECT", "off");
        // The keys of whoever runs the tests are nobody's business here.
        for variable in [
            "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY",
            "OPENROUTER_API_KEY",
        ] {
            command.env_remove(variable);
        }
        for (key, value) in &options.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        for (name, value) in &options.environment {
            command.env(name, value);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let (address, mcp) = loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                let status = child.wait().unwrap();
                panic!("the gateway ended with {status}: {}", log.lock().unwrap());
            }
            log.lock().unwrap().push_str(&line);
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "the gateway is ready" {
                let mcp = entry["mcp"].as_str().unwrap_or_default().to_owned();
                break (entry["address"].as_str().unwrap().to_owned(), mcp);
            }
        };
        let rest = log.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = lines.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                rest.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { child, address, mcp, directory, log, options }
    }

    /// A gateway with the bundled engine whose agent uses a scripted model server over OpenAI's wire.
    pub fn thinking(model: &super::ModelServer, options: Options) -> Self {
        Self::start_with(
            options
                .set("agent.provider", "openai")
                .set("agent.model", "scripted")
                .set("agent.base_url", model.url("/v1")),
        )
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Its guardian; another one for a moment when that was lost.
    pub fn guardians(&self) -> Vec<i32> {
        let is_guardian = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(b"guardian")
        };
        children(self.pid()).into_iter().filter(is_guardian).collect()
    }

    /// Where its store is.
    pub fn store(&self) -> PathBuf {
        let set = self.options.settings.iter().find(|(key, _)| *key == "storage.path");
        set.map_or_else(|| self.path("conductor-data"), |(_, path)| path.into())
    }

    /// The ids of its latest jobs, of all or with a query such as `state=SUCCEEDED`.
    pub async fn listed(&self, query: &str) -> Vec<String> {
        let page = self.get(&format!("/api/v1/jobs?page_size=500&{query}")).await.json();
        page["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["job_id"].as_str().unwrap().to_owned())
            .collect()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Kills it as a crash would, and starts another over the same directory.
    pub fn crash_and_restart(mut self) -> Self {
        self.crash();
        self.restart()
    }

    /// Kills it as a crash would.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts another over the same directory, with the same options.
    pub fn restart(&self) -> Self {
        Self::start_in(self.directory.clone(), self.options.clone())
    }

    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(&self.address, "GET", path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(
            &self.address,
            "POST",
            path,
            &[("content-type", "application/json")],
            Some(body.to_string().into_bytes()),
        )
        .await
    }

    /// Submits and answers with the job's id.
    pub async fn submit(&self, body: &Value) -> String {
        let answer = self.post("/api/v1/stream-execute", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["job_id"].as_str().unwrap().to_owned()
    }

    /// Submits a run of the mean agent.
    pub async fn submit_mean(&self, input: &str) -> String {
        self.submit(&json!({"agent_id": "Mean_Agent", "input_text": input})).await
    }

    pub async fn sse(&self, job_id: &str, after: u32) -> SseReader {
        SseReader::open(&self.address, job_id, after).await
    }

    /// Every event of a job, read to its end.
    pub async fn events(&self, job_id: &str) -> Vec<Value> {
        self.sse(job_id, 0).await.rest().await
    }

    pub async fn job(&self, job_id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{job_id}")).await.json()
    }

    pub async fn grpc(&self) -> GatewayServiceClient<Channel> {
        let channel = Channel::from_shared(self.url()).unwrap().connect().await.unwrap();
        GatewayServiceClient::new(channel)
    }

    pub async fn watch(&self, job_id: &str, after_sequence: u32) -> Vec<pb::JobEvent> {
        use prost::Message;
        let request = pb::WatchJobRequest { job_id: job_id.to_owned(), after_sequence };
        let mut frames = self.grpc().await.watch_job(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(frame) = frames.message().await.unwrap() {
            events.extend(frame.event.map(|event| pb::JobEvent::decode(event).unwrap()));
        }
        events
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the gateway:\n{}", self.log.lock().unwrap());
        }
    }
}
