//! MCP as an outside client uses it: over streamable HTTP in both eras of the protocol, and on standard streams.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ClientHandler, RoleClient, ServiceExt,
    model::{
        CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig,
        ClientRequest, ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
        ProgressNotificationParam, ProtocolVersion,
    },
    service::{
        ClientLifecycleMode, ClientServiceExt, NotificationContext, PeerRequestOptions, RequestContext,
        RunningService,
    },
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};

use crate::support::{Gateway, Options, alive_with, eventually, send};

/// A client that counts progress and answers questions from a list, or cannot be asked.
#[derive(Clone, Default)]
pub struct Client {
    pub progress: Arc<Mutex<Vec<String>>>,
    answers: Option<Arc<Mutex<Vec<Value>>>>,
    asked: Arc<AtomicUsize>,
}

impl Client {
    pub fn answering(answers: &[Value]) -> Self {
        let answers: Vec<Value> = answers.iter().rev().cloned().collect();
        Self { answers: Some(Arc::new(Mutex::new(answers))), ..Self::default() }
    }
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let builder = ClientCapabilities::builder();
        let capabilities =
            if self.answers.is_some() { builder.enable_elicitation().build() } else { builder.build() };
        ClientConfig::new(capabilities, Implementation::new("it", "1"))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().unwrap().push(params.message.unwrap_or_default());
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, rmcp::ErrorData> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.as_ref().unwrap().lock().unwrap().pop();
        Ok(match answer {
            Some(answer) => {
                ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "answer": answer }))
            }
            None => ElicitResult::new(ElicitationAction::Decline),
        })
    }
}

type Connected = RunningService<RoleClient, Client>;

pub async fn connect(url: &str, client: Client, lifecycle: ClientLifecycleMode) -> Connected {
    let _once = rustls::crypto::ring::default_provider().install_default();
    let transport = StreamableHttpClientTransport::with_client(
        reqwest::Client::new(),
        StreamableHttpClientTransportConfig::with_uri(url),
    );
    client.serve_with_lifecycle(transport, lifecycle).await.unwrap()
}

fn now() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

fn call(tool: &str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.as_object().unwrap().clone())
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.clone()).collect()
}

/// Both eras see the same tools, resources and outcomes.
#[tokio::test(flavor = "multi_thread")]
async fn every_tool_is_listed_and_called_in_both_eras() {
    let gateway = Gateway::start();
    for lifecycle in [ClientLifecycleMode::Initialize, now()] {
        let client = connect(&gateway.mcp, Client::default(), lifecycle).await;
        let tools = client.list_all_tools().await.unwrap();
        assert_eq!(tools.len(), 14, "thirteen, and send_session_input");
        assert!(tools.is_sorted_by_key(|tool| tool.name.clone()));
        for tool in &tools {
            let hints = tool.annotations.as_ref().unwrap();
            let all =
                [hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint];
            assert!(all.iter().all(Option::is_some) && tool.title.is_some() && tool.output_schema.is_some());
            assert_eq!(tool.input_schema["additionalProperties"], false, "{}", tool.name);
        }
        let listed = client.call_tool(call("list_available_agents", json!({"limit": 3}))).await.unwrap();
        let structured = listed.structured_content.unwrap();
        assert_eq!(structured["agents"].as_array().unwrap().len(), 3);
        let cursor = structured["next_cursor"].clone();
        let rest =
            client.call_tool(call("list_available_agents", json!({ "cursor": cursor }))).await.unwrap();
        assert_eq!(rest.structured_content.unwrap()["agents"].as_array().unwrap().len(), 5);
        let run = json!({"agent_id": "SqlExpert_Agent", "input_text": "select 1"});
        let ran = client.call_tool(call("execute_agent_stateless", run)).await.unwrap();
        assert_eq!(ran.is_error, Some(false));
        assert!(text(&ran).contains("It was told: select 1"));
        let job_id = ran.meta.unwrap().get("conductor.gateway/job_id").unwrap().as_str().unwrap().to_owned();
        let job = gateway.job(&job_id).await;
        assert_eq!((&job["door"], &job["state"]), (&json!("MCP"), &json!("SUCCEEDED")));
        // Errors say why and what to do, and are no results.
        let failed =
            client.call_tool(call("get_agent_info", json!({"agent_id": "SqlExprt_Agent"}))).await.unwrap();
        assert_eq!((failed.is_error, failed.structured_content.is_none()), (Some(true), true));
        assert!(text(&failed).contains("did you mean `SqlExpert_Agent`?"), "{}", text(&failed));
        let bad = client.call_tool(call("get_agent_info", json!({"agent": "x"}))).await.unwrap();
        assert!(bad.is_error == Some(true) && text(&bad).contains("INVALID_ARGUMENT"), "{}", text(&bad));
        let unknown = client.call_tool(call("list_agents", json!({}))).await.unwrap_err().to_string();
        assert!(unknown.contains("-32602") && unknown.contains("list_available_agents"), "{unknown}");
        // Agents as resources.
        let resources = client.list_all_resources().await.unwrap();
        assert!(resources.iter().any(|resource| resource.uri == "conductor://agents/SqlExpert_Agent"));
        let read = client
            .read_resource(rmcp::model::ReadResourceRequestParams::new("conductor://agents/SqlExpert_Agent"));
        assert!(serde_json::to_string(&read.await.unwrap()).unwrap().contains("persona"));
        client.cancel().await.unwrap();
    }
    let log = gateway.log.lock().unwrap().clone();
    assert!(log.contains("\"tool\":\"get_agent_info\""), "direct calls are in the audit log");
}

/// What direct reads answer again is never older than a change through the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_read_at_once() {
    let gateway = Gateway::start();
    let client = connect(&gateway.mcp, Client::default(), now()).await;
    for round in 0..20 {
        let name = format!("round-{round}");
        let set = call("set_environment", json!({ "environment": name }));
        assert_eq!(client.call_tool(set).await.unwrap().is_error, Some(false));
        for _ in 0..2 {
            let read = client.call_tool(call("get_system_config", json!({}))).await.unwrap();
            assert_eq!(read.structured_content.unwrap()["environment"], name);
        }
    }
}

/// Progress comes at once and a cancellation ends the process tree.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_reports_and_can_be_cancelled() {
    let gateway = Gateway::mean(Options::default().set("conductor.kill_grace_seconds", 1));
    for lifecycle in [ClientLifecycleMode::Initialize, now()] {
        let handler = Client::default();
        let client = connect(&gateway.mcp, handler.clone(), lifecycle).await;
        let arguments = json!({"agent_id": "Mean_Agent", "input_text": "stubborn-grandchild"});
        let request =
            ClientRequest::CallToolRequest(CallToolRequest::new(call("execute_agent_stateless", arguments)));
        let handle =
            client.peer().send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
        let told = handler.progress.clone();
        // The client's library runs a handler for each message at its own pace, so that they may be heard out of order.
        let is_job = |message: &&String| message.starts_with("execute_agent_stateless is job_");
        eventually(Duration::from_secs(5), "its output is told", async || {
            let told = told.lock().unwrap();
            told.iter().any(|message| message.contains("spawned"))
                && told.iter().any(|message| is_job(&message))
        })
        .await;
        let heard = told.lock().unwrap().clone();
        let job_id = heard.iter().find(is_job).unwrap().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(alive_with(&job_id).len(), 2);
        handle.cancel(Some("enough".into())).await.unwrap();
        eventually(Duration::from_secs(5), "nothing of it is left", async || alive_with(&job_id).is_empty())
            .await;
        eventually(Duration::from_secs(5), "it is recorded", async || {
            gateway.job(&job_id).await["error"]["cancelled_by"] == "local"
        })
        .await;
        client.cancel().await.unwrap();
    }
}

/// The session for a client that cannot be asked: a handle, and one more tool.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_by_handle_and_by_elicitation() {
    let gateway = Gateway::mean(Options::default());
    let start = || call("start_interactive_session", json!({"agent_id": "Mean_Agent"}));
    let client = connect(&gateway.mcp, Client::default(), now()).await;
    let opened = client.call_tool(start()).await.unwrap().structured_content.unwrap();
    assert_eq!((&opened["is_open"], &opened["prompt"]), (&json!(true), &json!("[1] você>")));
    let session_id = opened["session_id"].clone();
    let said = json!({"session_id": session_id, "input": "olá"});
    let next = client.call_tool(call("send_session_input", said)).await.unwrap().structured_content.unwrap();
    assert!(next["output"].as_str().unwrap().contains("ouvi: olá"), "{next}");
    let ended =
        client.call_tool(call("send_session_input", json!({"session_id": session_id, "input": null})));
    let ended = ended.await.unwrap().structured_content.unwrap();
    assert_eq!(ended["is_open"], false);
    let over = client.call_tool(call("send_session_input", json!({"session_id": session_id, "input": "x"})));
    assert_eq!(over.await.unwrap().is_error, Some(true));

    for lifecycle in [ClientLifecycleMode::Initialize, now()] {
        let handler = Client::answering(&[json!("um"), json!("dois"), json!("sair")]);
        let client = connect(&gateway.mcp, handler.clone(), lifecycle).await;
        let ended = client.call_tool(start()).await.unwrap();
        assert!(text(&ended).contains("ouvi: dois"), "{}", text(&ended));
        assert_eq!(handler.asked.load(Ordering::SeqCst), 3);
    }
}

/// Destructive calls want a person's word: by elicitation in both eras, by `confirm` where nobody can be asked.
#[tokio::test(flavor = "multi_thread")]
async fn destructive_calls_are_confirmed() {
    let gateway = Gateway::start();
    let clear = || call("clear_agent_history", json!({"agent_id": "SqlExpert_Agent"}));
    let client = connect(&gateway.mcp, Client::default(), now()).await;
    let refused = client.call_tool(clear()).await.unwrap();
    assert!(
        refused.is_error == Some(true) && text(&refused).contains("CONFIRMATION_REQUIRED"),
        "{}",
        text(&refused)
    );
    let confirmed = json!({"agent_id": "SqlExpert_Agent", "confirm": "SqlExpert_Agent"});
    assert_eq!(client.call_tool(call("clear_agent_history", confirmed)).await.unwrap().is_error, Some(false));
    let wrong = json!({"agent_id": "SqlExpert_Agent", "confirm": "yes"});
    assert_eq!(client.call_tool(call("clear_agent_history", wrong)).await.unwrap().is_error, Some(true));
    let dry = client.call_tool(call("backup_agents", json!({}))).await.unwrap().structured_content.unwrap();
    let trial = json!({"backup_path": dry["backup_id"], "dry_run": true});
    let trial = client.call_tool(call("restore_agents", trial)).await.unwrap().structured_content.unwrap();
    assert_eq!((&trial["is_dry_run"], trial["restored"].as_array().unwrap().len()), (&json!(true), 8));
    for lifecycle in [ClientLifecycleMode::Initialize, now()] {
        for (answers, is_error) in [(&[json!(true)][..], false), (&[json!(false)][..], true), (&[][..], true)]
        {
            let client = connect(&gateway.mcp, Client::answering(answers), lifecycle.clone()).await;
            let result = client.call_tool(clear()).await.unwrap();
            assert_eq!(result.is_error, Some(is_error), "{answers:?}: {}", text(&result));
        }
    }
}

fn initialize() -> Vec<u8> {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string().into_bytes()
}

const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Sessions are bounded, and end when nobody uses them; foreign pages and names are refused.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded_and_bound() {
    let options = Options::default()
        .set("server.mcp_max_sessions", 20)
        .set("server.mcp_session_idle_seconds", 60)
        .set("auth.caller_header", "x-caller");
    let gateway = Gateway::start_with(options);
    let address = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let open = async |caller: &str| {
        send(&address, "POST", "/mcp", &[ACCEPT, JSON, ("x-caller", caller)], Some(initialize())).await
    };
    let mut last = String::new();
    for _ in 0..20 {
        let opened = open("alice").await;
        assert_eq!(opened.status, 200);
        last = opened.headers["mcp-session-id"].to_str().unwrap().to_owned();
    }
    let refused = open("alice").await;
    assert_eq!(
        (refused.status, refused.headers.contains_key("retry-after")),
        (503, true),
        "{}",
        refused.text()
    );
    assert_eq!(refused.json()["reason"], "TOO_MANY_SESSIONS");
    // Whatever version a header claims.
    let params = json!({"protocolVersion": "2026-07-28", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    let claiming = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let headers = [ACCEPT, JSON, ("x-caller", "alice"), ("mcp-protocol-version", "2026-07-28")];
    let refused = send(&address, "POST", "/mcp", &headers, Some(claiming.into_bytes())).await;
    assert_eq!(
        (refused.status, refused.headers.contains_key("mcp-session-id")),
        (503, false),
        "{}",
        refused.text()
    );
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string().into_bytes();
    let use_of = async |caller: &str| {
        let headers = [ACCEPT, JSON, ("x-caller", caller), ("mcp-session-id", last.as_str())];
        send(&address, "POST", "/mcp", &headers, Some(list.clone())).await.status
    };
    assert_eq!((use_of("bob").await, use_of("alice").await), (404, 200));
    let nobody = send(&address, "POST", "/mcp", &[ACCEPT, JSON], Some(initialize())).await;
    assert_eq!(nobody.status, 401);
    for bad in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let headers = [ACCEPT, JSON, ("x-caller", "alice"), bad];
        assert_eq!(send(&address, "POST", "/mcp", &headers, Some(initialize())).await.status, 403);
    }
    let preflight = [
        ("origin", "http://localhost:3000"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "mcp-protocol-version,mcp-param-x,content-type"),
        ("x-caller", "alice"),
    ];
    let allowed = send(&address, "OPTIONS", "/mcp", &preflight, None).await;
    assert_eq!(allowed.headers["access-control-allow-origin"], "http://localhost:3000");
    assert!(allowed.headers["access-control-allow-headers"].to_str().unwrap().contains("mcp-param-x"));
    for (garbage, code) in [("{", -32700), ("[]", -32600), ("42", -32600), ("{\"jsonrpc\": \"1.0\"}", -32600)]
    {
        let headers = [ACCEPT, JSON, ("x-caller", "alice"), ("mcp-session-id", last.as_str())];
        let answer = send(&address, "POST", "/mcp", &headers, Some(garbage.into())).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(code)), "{garbage}");
    }
    let huge = vec![b' '; 2 * 1024 * 1024];
    let answer = send(
        &address,
        "POST",
        "/mcp",
        &[ACCEPT, JSON, ("x-caller", "alice"), ("mcp-session-id", &last)],
        Some(huge),
    )
    .await;
    assert_eq!(answer.status, 413);
}

/// What a client takes is read as HTTP has it, and answered in that form; the path may end in a slash.
#[tokio::test(flavor = "multi_thread")]
async fn accept_is_read_as_http_has_it() {
    let gateway = Gateway::start();
    let address = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let open = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
    });
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "get_system_config", "arguments": {}}});
    for (accept, kind) in [
        (Some("*/*"), None),
        (None, None),
        (Some("application/*, text/*"), None),
        (Some("application/json"), Some("application/json")),
        (Some("text/event-stream"), Some("text/event-stream")),
    ] {
        let mut headers = vec![JSON];
        headers.extend(accept.map(|accept| ("accept", accept)));
        let opened = send(&address, "POST", "/mcp/", &headers, Some(open.to_string().into_bytes())).await;
        assert_eq!(opened.status, 200, "{accept:?}: {}", opened.text());
        let session = opened.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let mut headers = headers.clone();
        headers.push(("mcp-session-id", &session));
        let answer = send(&address, "POST", "/mcp", &headers, Some(call.to_string().into_bytes())).await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{accept:?}: {text}");
        for (answer, id) in [(&opened, 1), (&answer, 2)] {
            let found = answer.headers["content-type"].to_str().unwrap().to_owned();
            assert!(kind.is_none_or(|kind| found.starts_with(kind)), "{accept:?}: {found}");
            let text = answer.text();
            let message = match found.starts_with("application/json") {
                true => text.clone(),
                false => text
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "))
                    .rfind(|data| data.contains("result"))
                    .unwrap()
                    .to_owned(),
            };
            let message: Value = serde_json::from_str(&message).unwrap();
            assert_eq!(message["id"], id, "{accept:?}: {text}");
        }
    }
    let refused =
        send(&address, "POST", "/mcp", &[JSON, ("accept", "text/html")], Some(open.to_string().into_bytes()))
            .await;
    assert_eq!(refused.status, 406);
    assert!(refused.headers.contains_key("content-type"));
}

/// A silent call's stream carries signs of life, also for a client that asked for no progress.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_call_is_kept_alive() {
    let gateway = Gateway::mean(Options::default().set("server.heartbeat_seconds", 1));
    let address = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
    });
    let arguments = json!({"agent_id": "Mean_Agent", "input_text": "sleep 10500"});
    let params = json!({"name": "execute_agent_stateless", "arguments": arguments, "_meta": meta});
    let body =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string().into_bytes();
    let headers = [
        ACCEPT,
        JSON,
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "execute_agent_stateless"),
    ];
    let answer = send(&address, "POST", "/mcp", &headers, Some(body)).await;
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    assert!(text.matches(": still running").count() >= 2, "{text}");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
    let message: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&message["id"], &message["result"]["isError"]), (&json!(7), &json!(false)), "{text}");
}

/// The tools on standard streams, in a process of their own, which ends with its client.
#[tokio::test(flavor = "multi_thread")]
async fn standard_streams_serve_a_desktop_client() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_conductor-gateway"))
        .arg("mcp")
        .current_dir(directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .env("AGENT_PROVIDER", "none")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let streams = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let client = Client::default().serve(streams).await.unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 14);
    let run = json!({"agent_id": "SqlExpert_Agent", "input_text": "x"});
    let ran = client.call_tool(call("execute_agent_stateless", run)).await.unwrap();
    assert_eq!(ran.is_error, Some(false), "{}", text(&ran));
    client.cancel().await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

/// Calls of a hung tool hold up nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_tool_blocks_nobody() {
    let gateway = Gateway::mean(Options::default());
    let hung = connect(&gateway.mcp, Client::default(), ClientLifecycleMode::Initialize).await;
    let arguments = json!({"agent_id": "Mean_Agent", "input_text": "hang"});
    let request =
        ClientRequest::CallToolRequest(CallToolRequest::new(call("execute_agent_stateless", arguments)));
    let handle =
        hung.peer().send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    let started = std::time::Instant::now();
    // In the same session, in another one, and through another door.
    let other = json!({"agent_id": "Other_Agent", "input_text": "ok"});
    let ran = hung.call_tool(call("execute_agent_stateless", other.clone())).await.unwrap();
    assert_eq!(ran.is_error, Some(false), "{}", text(&ran));
    let client = connect(&gateway.mcp, Client::default(), now()).await;
    assert_eq!(
        client.call_tool(call("execute_agent_stateless", other.clone())).await.unwrap().is_error,
        Some(false)
    );
    assert_eq!(gateway.post("/execute", &other).await.status, 200);
    assert!(started.elapsed() < Duration::from_secs(10));
    let answer = handle.cancel(None).await;
    assert!(answer.is_ok());
}

/// A long answer is a link to the whole of it, over HTTP and over standard streams; a hostile argument is text there too.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_a_link_to_the_whole() {
    let gateway = Gateway::mean(Options::default());
    for lifecycle in [ClientLifecycleMode::Initialize, now()] {
        let client = connect(&gateway.mcp, Client::default(), lifecycle).await;
        let long = json!({"agent_id": "Mean_Agent", "input_text": "long 2000000"});
        let ran = client.call_tool(call("execute_agent_stateless", long)).await.unwrap();
        assert_eq!(ran.is_error, Some(false), "{}", text(&ran));
        assert!(serde_json::to_string(&ran).unwrap().len() < 512 * 1024);
        let job_id = ran.meta.as_ref().unwrap()["conductor.gateway/job_id"].as_str().unwrap().to_owned();
        let links: Vec<_> = ran.content.iter().filter_map(|block| block.as_resource_link()).collect();
        assert_eq!(links[0].uri, format!("conductor://jobs/{job_id}/result"));
        let read = rmcp::model::ReadResourceRequestParams::new(links[0].uri.clone());
        let whole = serde_json::to_value(client.read_resource(read).await.unwrap()).unwrap();
        assert_eq!(whole["contents"][0]["text"].as_str().unwrap(), "palavra ".repeat(2_000_000 / 8));
        // Controls and marks come back as they were given, and as nothing else.
        let hostile = "a\u{1b}[2J\u{202e}\u{85}\u{2028}b \"\\ é";
        let echoed = json!({"agent_id": "Mean_Agent", "input_text": hostile});
        let ran = client.call_tool(call("execute_agent_stateless", echoed)).await.unwrap();
        assert_eq!(text(&ran), hostile);
        let odd = call("get_agent_info", json!({"agent_id": hostile}));
        let refused = client.call_tool(odd).await.unwrap();
        assert_eq!(refused.is_error, Some(true));
        assert!(
            !text(&refused).contains(['\u{1b}', '\u{202e}', '\u{85}', '\u{2028}']),
            "{:?}",
            text(&refused)
        );
        client.cancel().await.unwrap();
    }
}
