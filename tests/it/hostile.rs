//! What strangers send, through every door: texts that nobody has looked at, requests that the standards refuse or ask to take.

use std::time::{Duration, Instant};

use axum::{Router, routing::get};
use conductor_gateway::{
    edge::{self, HeaderPolicy, Server},
    pb::{self, Json, task},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Gateway, Options, eventually, send};

/// Sends bytes on a connection and answers with everything that comes back until the other side closes, or is silent.
async fn talk(address: &str, bytes: &[u8], ends: bool) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    if ends {
        socket.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = vec![0; 65536];
        while let Ok(got @ 1..) = socket.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..got]);
        }
    };
    let _silent = tokio::time::timeout(Duration::from_millis(1500), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn call(tool: &str, text: &str) -> Option<pb::Task> {
    let arguments = Some(Json { text: text.to_owned() });
    Some(pb::Task { task: Some(task::Task::ToolCall(pb::ToolCall { tool: tool.to_owned(), arguments })) })
}

fn submit(tool: &str, text: &str, key: &str) -> pb::SubmitJobRequest {
    let options = pb::TaskOptions { idempotency_key: key.to_owned(), ..Default::default() };
    pb::SubmitJobRequest { task: call(tool, text), options: Some(options) }
}

#[tokio::test]
async fn arguments_are_one_compact_object_whichever_door_they_come_through() {
    let gateway = Gateway::start();
    let mut grpc = gateway.grpc().await;
    // Spaced, torn over lines: one line of SSE all the same, and the same request under its key.
    let spaced = submit("get_system_config", "{\n\n}", "one");
    let job = grpc.submit_job(spaced).await.unwrap().into_inner().job.unwrap();
    let events = gateway.events(&job.job_id).await;
    assert_eq!(events[0]["event"], "job_started", "{events:?}");
    let again =
        grpc.submit_job(submit("get_system_config", " { } ", "one")).await.unwrap().into_inner().job.unwrap();
    assert_eq!(again.job_id, job.job_id);
    let over_http = gateway
        .submit(&json!({"tool": "get_system_config", "arguments": {}, "idempotency_key": "one"}))
        .await;
    assert_eq!(over_http, job.job_id);
    // Refused before anything is stored, with a reason and within the bounds of headers.
    for (text, code) in [
        ("{} x", tonic::Code::InvalidArgument),
        ("{", tonic::Code::InvalidArgument),
        ("[]", tonic::Code::InvalidArgument),
        (&format!("{{\"x\":\"{}\"}}", "y".repeat(300_000)), tonic::Code::InvalidArgument),
        (&format!("{{\"{}\":1}}", "y".repeat(16_000)), tonic::Code::InvalidArgument),
    ] {
        let refused = grpc.submit_job(submit("get_system_config", text, "")).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(
            refused.message().len() < 1200 && refused.details().len() < 4096,
            "{}",
            refused.message().len()
        );
    }
    let page = gateway.get("/api/v1/jobs").await;
    assert_eq!((page.status, page.json()["jobs"].as_array().unwrap().len()), (200, 1));
    for body in [
        json!({"tool": "get_system_config", "arguments": [1]}),
        json!({"tool": "get_system_config", "arguments": "{} x"}),
        json!({"tool": "backup_agents", "arguments": {"backup_path": "x".repeat(5000)}}),
    ] {
        let answer = gateway.post("/execute", &body).await;
        assert_eq!(
            (answer.status, answer.json()["reason"].as_str()),
            (400, Some("INVALID_ARGUMENT")),
            "{}",
            answer.text()
        );
    }
    let large = json!({"tool": "backup_agents", "arguments": {"x": "y".repeat(300_000)}});
    assert_eq!(gateway.post("/execute", &large).await.json()["reason"], "TOO_LARGE");
    let info = gateway.get("/api/v1/info").await.json();
    assert_eq!(info["limits"]["max_arguments_bytes"], 192 * 1024);
}

#[tokio::test]
async fn a_panic_ends_its_own_request_and_nothing_else() {
    async fn fails() -> &'static str {
        panic!("by a test")
    }
    let config = edge::ServerConfig { port: 0, ..Default::default() };
    let listener = Server::bind(&config, 0).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let doors = Router::new().route("/fails", get(fails)).route("/works", get(async || "fine"));
    let server = Server::new(
        listener,
        &config,
        &edge::AuthConfig::default(),
        doors,
        HeaderPolicy::Api,
        &conductor_gateway::edge::Capacity::of(&config),
    )
    .unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(stop.clone()));
    // On one connection: the second request is answered too.
    let both = "GET /fails HTTP/1.1\r\nhost: localhost\r\n\r\nGET /works HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answer = talk(&address, both.as_bytes(), false).await;
    assert_eq!(status(&answer), 500);
    assert!(answer.contains("\"reason\":\"INTERNAL\"") && answer.ends_with("fine"), "{answer}");
    let grpc = send(&address, "POST", "/fails", &[("content-type", "application/grpc-web")], None).await;
    // The route is no gRPC method; the refusal is in gRPC's form.
    assert!(grpc.headers.contains_key("grpc-status") || grpc.status == 405, "{:?}", grpc.headers);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn http_is_taken_and_refused_as_the_standards_say() {
    let gateway = Gateway::start_with(
        Options::default()
            .set("server.cors_headers", "[x-team]")
            .set("server.cors_origins", "['https://app.example']")
            .set("server.allowed_hosts", "[gw.example]"),
    );
    let (api, mcp) = (gateway.address.clone(), gateway.mcp.replace("http://", "").replace("/mcp", ""));
    let body = "x".repeat(20_000);
    // A refused request leaves its connection usable, on both ports.
    for address in [&api, &mcp] {
        for first in ["POST /nope", "PUT /api/v1/jobs", "POST /mcp"] {
            let both = format!(
                "{first} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20000\r\n\r\n{body}GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
            );
            let answer = talk(address, both.as_bytes(), false).await;
            assert!((400..500).contains(&status(&answer)), "{first}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{first} on {address}: {answer}");
        }
    }
    let expecting =
        "POST /nope HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 20000\r\n\r\n";
    assert!(talk(&api, expecting.as_bytes(), false).await.to_lowercase().contains("connection: close"));
    // The form of a request.
    for (request, code) in [
        ("GET /health HTTP/1.1\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nhost: [::1].evil.com\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nhost: localhost:x\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nhost: evil.example\r\n\r\n", 403),
        (
            "GET /health HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\norigin: http://evil.example\r\n\r\n",
            403,
        ),
        ("GET /health HTTP/1.1\r\nhost: gw.example\r\norigin: https://gw.example\r\n\r\n", 200),
        ("GET /health HTTP/1.1\r\nhost: gw.example\r\norigin: https://other.example\r\n\r\n", 403),
        (
            "POST /execute HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST /execute HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST /execute HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
            415,
        ),
        (
            "POST /execute HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nidempotency-key:\r\ncontent-length: 28\r\n\r\n{\"tool\":\"get_system_config\"}",
            400,
        ),
        ("GET /api/v1/jobs/%FF HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        ("GET /api/v1/jobs?page_size=1&page_size=2 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        ("GET /api/v1/jobs?state=RUNNING&state=QUEUED HTTP/1.1\r\nhost: localhost\r\n\r\n", 200),
        ("GET /api/v1/jobs?label=a:x,y%20&label=b:z HTTP/1.1\r\nhost: localhost\r\n\r\n", 200),
    ] {
        let answer = talk(&api, request.as_bytes(), false).await;
        assert_eq!(status(&answer), code, "{request}: {answer}");
        if code >= 400 {
            assert!(answer.contains("application/problem+json; charset=utf-8"), "{request}: {answer}");
        }
    }
    // Labels hold commas and spaces.
    let labelled = json!({"tool": "get_system_config", "labels": {"a": "x,y "}});
    gateway.submit(&labelled).await;
    assert_eq!(gateway.listed("label=a:x,y%20").await.len(), 1);
    assert_eq!(gateway.listed("label=a:x").await.len(), 0);
    // A byte order mark is no part of a body; two keys that differ are none.
    let json_type = ("content-type", "application/json");
    let marked = "\u{FEFF}{\"tool\":\"get_system_config\"}".as_bytes().to_vec();
    assert_eq!(send(&api, "POST", "/execute", &[json_type], Some(marked.clone())).await.status, 200);
    let keys = [json_type, ("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(
        send(&api, "POST", "/execute", &keys, Some(b"{\"tool\":\"get_system_config\"}".to_vec()))
            .await
            .status,
        400
    );
    // Preflights.
    let preflight = async |address: &str, path: &str, origin: &str, asked: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", asked),
        ];
        send(address, "OPTIONS", path, &headers, None).await.headers
    };
    let headers = preflight(&api, "/execute", "https://app.example", "traceparent").await;
    let allowed = headers["access-control-allow-headers"].to_str().unwrap().to_owned();
    for name in ["traceparent", "baggage", "x-api-key", "x-team"] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert_eq!(headers["access-control-allow-credentials"], "true");
    // A page reads why it was refused.
    let coded = [
        ("origin", "https://app.example"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let refused = send(&api, "POST", "/execute", &coded, Some(b"{}".to_vec())).await;
    assert_eq!(
        (refused.status, &refused.headers["access-control-allow-origin"]),
        (415, &"https://app.example".parse().unwrap())
    );
    // A client that ends its side is answered.
    let half = format!(
        "POST /execute HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 28\r\n\r\n{}",
        "{\"tool\":\"get_system_config\"}"
    );
    assert_eq!(status(&talk(&api, half.as_bytes(), true).await), 200);
    let mcp = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "half", "version": "1"}}});
    let hello = hello.to_string();
    let half = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{hello}",
        hello.len()
    );
    let answer = talk(&mcp, half.as_bytes(), true).await;
    assert!(status(&answer) == 200 && answer.contains("serverInfo"), "{answer}");
    // gRPC paths take gRPC only, and its media types in any case.
    let path = "/conductor.gateway.v1.GatewayService/GetServerInfo";
    let frame = vec![0, 0, 0, 0, 0];
    for (kind, code) in [
        ("application/json", 415),
        ("application/grpc", 415), // of HTTP/2 only
        ("application/grpc-webx", 415),
        ("application/grpc-web+json", 415),
        ("application/grpc-web+proto; charset=utf-8", 200),
        ("Application/GRPC-Web", 200),
    ] {
        let answer = send(&api, "POST", path, &[("content-type", kind)], Some(frame.clone())).await;
        assert_eq!(answer.status, code, "{kind}");
    }
    let types = gateway.get("/api/v1/info").await.headers["content-type"].clone();
    assert_eq!(types, "application/json; charset=utf-8");
}

#[tokio::test]
async fn a_calls_own_deadline_ends_it() {
    use prost::Message;
    let gateway = Gateway::mean(Options::default());
    let run = pb::AgentRun { agent_id: "Mean_Agent".into(), input_text: "sleep 30000".into() };
    let task = Some(pb::Task { task: Some(task::Task::AgentRun(run)) });
    let began = Instant::now();
    // Over grpc-web, whose client here knows nothing of deadlines.
    for method in ["Execute", "StreamExecute"] {
        let message = pb::ExecuteRequest { task: task.clone(), options: None }.encode_to_vec();
        let frame = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
        let path = format!("/conductor.gateway.v1.GatewayService/{method}");
        let headers = [("content-type", "application/grpc-web+proto"), ("grpc-timeout", "700m")];
        let answer = send(&gateway.address, "POST", &path, &headers, Some(frame)).await;
        let in_headers = answer.headers.get("grpc-status").is_some_and(|status| status == "4");
        assert!(
            in_headers || answer.text().contains("grpc-status:4"),
            "{method}: {:?} {}",
            answer.headers,
            answer.text()
        );
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    let bad = [("content-type", "application/grpc-web+proto"), ("grpc-timeout", "soon")];
    let path = "/conductor.gateway.v1.GatewayService/GetServerInfo";
    let answer = send(&gateway.address, "POST", path, &bad, Some(vec![0; 5])).await;
    assert!(answer.headers.get("grpc-status").is_some_and(|status| status == "3"), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_proxy_may_not_give_the_gateways_own_name_and_pages_may_not_send_its_header() {
    let gateway = Gateway::start_with(Options::default().set("auth.caller_header", "x-caller"));
    let mcp = gateway.mcp.replace("http://", "").replace("/mcp", "");
    for (name, code) in [("alice", 200), ("local", 401), ("", 401)] {
        let answer = send(&gateway.address, "GET", "/api/v1/jobs", &[("x-caller", name)], None).await;
        assert_eq!(answer.status, code, "{name}");
    }
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    let headers = [
        ("origin", "http://localhost:1"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, X-Principal, mcp-param-x"),
    ];
    let allowed = send(&mcp, "OPTIONS", "/mcp", &headers, None).await.headers;
    let allowed = allowed["access-control-allow-headers"].to_str().unwrap().to_lowercase();
    assert!(allowed.contains("mcp-param-x") && !allowed.contains("x-caller"), "{allowed}");
}

/// The value of an answer that names no secret.
#[tokio::test]
async fn addresses_and_arguments_are_shown_without_their_secrets() {
    let gateway = Gateway::start_with(
        Options::default()
            .set("agent.provider", "openai")
            .set("agent.model", "m")
            .set("agent.base_url", "http://127.0.0.1:9/v1?key=canary")
            .set("agent.max_attempts", 1),
    );
    let job = gateway.submit(&json!({"command": "say something"})).await;
    let events: Vec<Value> = gateway.events(&job).await;
    let told = [
        gateway.get("/health").await.text(),
        gateway.get("/api/v1/info").await.text(),
        json!(events).to_string(),
        gateway.log.lock().unwrap().clone(),
    ];
    for text in told {
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Text within a text that asks for any depth, a few bytes a level, through the doors; nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn json_that_nests_without_end_harms_nobody() {
    let gateway = Gateway::start();
    let mut nested = "1".to_owned();
    for _ in 0..13 {
        let name = "$serde_json::private::RawValue";
        nested = format!("{}{}{}", "[".repeat(100), json!({ name: nested }), "]".repeat(100));
    }
    let arguments = format!("{{\"zz\":{nested}}}");
    let status =
        gateway.grpc().await.submit_job(submit("list_available_agents", &arguments, "")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    let body = format!("{{\"tool\":\"list_available_agents\",\"arguments\":{arguments}}}");
    let json = [("content-type", "application/json")];
    let answer = send(&gateway.address, "POST", "/execute", &json, Some(body.into_bytes())).await;
    assert_eq!(
        (answer.status, &answer.json()["reason"]),
        (422, &json!("MALFORMED_BODY")),
        "{}",
        answer.text()
    );
    let call = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"list_available_agents\",\"arguments\":{arguments}}}}}"
    );
    let mcp = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let headers =
        [json[0], ("accept", "application/json, text/event-stream"), ("mcp-protocol-version", "2026-07-28")];
    let answer = send(&mcp, "POST", "/mcp", &headers, Some(call.into_bytes())).await;
    assert!((400..500).contains(&answer.status) || answer.text().contains("error"), "{}", answer.text());
    assert_eq!(gateway.get("/health").await.status, 200);
    // An engine's outcome too.
    let gateway = Gateway::mean(Options::default());
    let said = format!("say-raw {{\"status\":\"success\",\"output\":\"x\",\"metadata\":{arguments}}}");
    let body = json!({"agent_id": "Mean_Agent", "input_text": said});
    gateway.post("/execute", &body).await;
    assert_eq!(gateway.get("/health").await.status, 200);
}

/// A page of an endless list; the first has tools that are dear to check.
fn page(number: u64) -> Value {
    let mut tools = vec![json!({"name": format!("filler_{number}"), "inputSchema": {"type": "object"}})];
    if number == 0 {
        // Each level refers twice to the next: 2^40 places to look at.
        let mut definitions = serde_json::Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/l{}", level + 1)});
            definitions.insert(format!("l{level}"), json!({"anyOf": [next, next]}));
        }
        definitions.insert("l40".into(), json!({"type": "string"}));
        let bomb =
            json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/l0"}}, "$defs": definitions});
        let mut deep = json!({"type": "string"});
        for _ in 0..45 {
            deep = json!({"type": "object", "properties": {"x": deep}});
        }
        tools.push(
            json!({"name": "bomb", "description": "x\u{1b}[2J\u{202E}".repeat(4000), "inputSchema": bomb}),
        );
        tools.push(json!({"name": "deep", "inputSchema": deep}));
    }
    json!({"tools": tools, "nextCursor": (number + 1).to_string()})
}

async fn endless(axum::Json(request): axum::Json<Value>) -> axum::response::Response {
    use axum::response::IntoResponse;
    let result = match request["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "endless", "version": "1"},
        }),
        "tools/list" => {
            page(request["params"]["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or(0))
        }
        "tools/call" => json!({"content": [{"type": "text", "text": "its server took it"}]}),
        _ if request.get("id").is_none() => return http::StatusCode::ACCEPTED.into_response(),
        _ => {
            let error = json!({"code": -32601, "message": "no such method"});
            return axum::Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}))
                .into_response();
        }
    };
    axum::Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).into_response()
}

/// A server whose list never ends and whose schemas multiply is used within bounds, and holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_outside_servers_list_is_taken_within_bounds() {
    use crate::support::{ModelServer, model::openai};
    // Our own listener, with a stranger's answers behind it.
    let config = edge::ServerConfig { port: 0, ..Default::default() };
    let listener = Server::bind(&config, 0).await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let doors = Router::new().route("/mcp", axum::routing::post(endless));
    let server = Server::new(
        listener,
        &config,
        &edge::AuthConfig::default(),
        doors,
        HeaderPolicy::Mcp,
        &conductor_gateway::edge::Capacity::of(&config),
    )
    .unwrap();
    tokio::spawn(server.serve(CancellationToken::new()));
    let model = ModelServer::start(vec![
        openai::call_turn(&[("a", "far_bomb", json!({"x": 1})), ("b", "far_deep", json!({"x": {}}))]),
        openai::answer_turn(&["done"]),
    ])
    .await;
    let options = Options::default().set("agent.mcp_servers", json!({"far": {"url": url}}));
    let mut gateway = Gateway::thinking(&model, options);
    let job_id = gateway.submit(&json!({"command": "look around"})).await;
    // Meanwhile everybody else is answered at once.
    for path in ["/health", "/api/v1/agents", "/api/v1/jobs"] {
        let began = std::time::Instant::now();
        assert_eq!(gateway.get(path).await.status, 200);
        assert!(began.elapsed() < Duration::from_secs(1), "{path}: {:?}", began.elapsed());
    }
    let events = gateway.events(&job_id).await;
    let ends: Vec<&Value> = events.iter().filter(|event| event["event"] == "on_tool_end").collect();
    assert_eq!(ends.len(), 2, "{events:?}");
    assert!(ends.iter().all(|end| end.to_string().contains("its server took it")), "{ends:?}");
    let tools = model.asked()[0].body["tools"].clone();
    let count = tools.as_array().unwrap().len();
    assert!((100..540).contains(&count), "{count} tools");
    assert!(tools.to_string().len() < 1024 * 1024);
    let log = gateway.log.lock().unwrap().clone();
    assert!(log.contains("more than 100 pages"), "{log}");
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(Duration::from_secs(10)).is_some());
}

/// A call over MCP without a session, whose answer is a stream of events.
fn mcp_call(input: &str) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
    });
    let arguments = json!({"agent_id": "Mean_Agent", "input_text": input});
    let params = json!({"name": "execute_agent_stateless", "arguments": arguments, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string();
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: application/json, text/event-stream\r\n\
         content-type: application/json\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\n\
         mcp-name: execute_agent_stateless\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One that has ended its side only is answered, however long that takes; the call of one that is gone ends at once, although its
/// engine says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_mcp_that_is_gone_and_one_that_is_done_are_told_apart() {
    let gateway = Gateway::mean(Options::default());
    let mcp = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let mut done = TcpStream::connect(&mcp).await.unwrap();
    done.write_all(mcp_call("sleep 4000").as_bytes()).await.unwrap();
    done.shutdown().await.unwrap();

    let mut gone = TcpStream::connect(&mcp).await.unwrap();
    gone.write_all(mcp_call("hang").as_bytes()).await.unwrap();
    let hangs = async || {
        let jobs = gateway.get("/api/v1/jobs?view=full").await.json();
        let hangs = |job: &&serde_json::Value| job["task"].to_string().contains("hang");
        jobs["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .find(hangs)
            .map_or("", |job| job["state"].as_str().unwrap())
            .to_owned()
    };
    eventually(Duration::from_secs(10), "it runs", async || hangs().await == "RUNNING").await;
    let left = std::time::Instant::now();
    drop(gone);
    eventually(Duration::from_secs(10), "it is cancelled", async || hangs().await == "CANCELLED").await;
    assert!(left.elapsed() < Duration::from_millis(1500), "{:?}", left.elapsed());

    let mut answer = String::new();
    done.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"isError\":false"), "{answer}");
}
