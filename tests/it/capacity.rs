//! What happens when there are as many connections, streams and sessions as there may be: everybody is answered, and nobody's
//! many are in the way of another's few.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{Answer, Gateway, Options, SseReader, eventually, send};

fn as_caller(name: &str) -> [(&str, &str); 2] {
    [("x-caller", name), ("content-type", "application/json")]
}

async fn submit(gateway: &Gateway, caller: &str) -> String {
    let body = json!({"agent_id": "Mean_Agent", "input_text": "hang"}).to_string().into_bytes();
    let accepted =
        send(&gateway.address, "POST", "/api/v1/stream-execute", &as_caller(caller), Some(body)).await;
    accepted.json()["job_id"].as_str().unwrap().to_owned()
}

async fn watch(gateway: &Gateway, job_id: &str, after: u32, caller: &str) -> SseReader {
    SseReader::try_open_as(&gateway.address, job_id, after, &as_caller(caller)).await.unwrap()
}

/// A caller who has three quarters of all streams is refused more; another one is let in, and when nothing is left, a reader of
/// whoever has most ends for it and goes on after its cursor.
#[tokio::test]
async fn a_caller_who_has_few_is_let_in() {
    let options = Options::default().set("auth.caller_header", "x-caller").set("server.max_streams", 12);
    let gateway = Gateway::mean(options);
    let job_id = submit(&gateway, "greedy").await;
    let mut readers = Vec::new();
    for _ in 0..9 {
        let mut reader = watch(&gateway, &job_id, 0, "greedy").await;
        assert_eq!((reader.status, &reader.next().await.unwrap()["sequence"]), (200, &json!(1)));
        readers.push(reader);
    }
    let refused = watch(&gateway, &job_id, 0, "greedy").await;
    assert_eq!(refused.status, 429);
    assert!(refused.headers.contains_key("retry-after"));
    // What is no stream is counted for as long as it takes.
    let listed = send(&gateway.address, "GET", "/api/v1/jobs", &as_caller("greedy"), None).await;
    assert_eq!((listed.status, &listed.json()["reason"]), (429, &json!("TOO_MANY_STREAMS")));
    let own = submit(&gateway, "modest").await;
    let mut modest = Vec::new();
    for _ in 0..3 {
        let mut reader = watch(&gateway, &own, 0, "modest").await;
        assert_eq!(reader.status, 200);
        reader.next().await.unwrap();
        modest.push(reader);
    }
    // The first found the last quarter; for each of the others one of the greedy caller's ended, the oldest first.
    let mut first = readers.remove(0);
    let last = first.rest().await.last().map_or(1, |event| event["sequence"].as_u64().unwrap());
    drop((readers, modest));
    eventually(Duration::from_secs(5), "there is room again", async || {
        watch(&gateway, &job_id, 0, "greedy").await.status == 200
    })
    .await;
    let mut reader = watch(&gateway, &job_id, u32::try_from(last).unwrap(), "greedy").await;
    let path = format!("/api/v1/jobs/{job_id}/cancel");
    send(&gateway.address, "POST", &path, &as_caller("greedy"), Some(b"{}".to_vec())).await;
    assert_eq!(reader.next().await.unwrap()["sequence"], last + 1, "it goes on where it ended");
    reader.until("end_of_stream").await;
}

/// A client that may go on to ask, and what ends with its connection.
type Kept<T> = (T, tokio::task::JoinHandle<()>);

/// Asks until there is room.
async fn until_kept<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut kept = None;
    eventually(Duration::from_secs(5), "there is room", async || {
        kept = ask().await;
        kept.is_some()
    })
    .await;
    kept.unwrap()
}

/// One request on a connection of HTTP/1.1 that stays open.
async fn kept(address: &str) -> Option<Kept<http1::SendRequest<Empty<Bytes>>>> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(io).await.unwrap();
    let ended = tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::get("/api/v1/info").header("host", address).body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let is_kept = answer.status() == 200;
    answer.into_body().collect().await.unwrap();
    is_kept.then_some((sender, ended))
}

/// The same of HTTP/2.
async fn kept_http2(address: &str) -> Option<Kept<http2::SendRequest<Empty<Bytes>>>> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let ended = tokio::spawn(async move { connection.await.unwrap() });
    let request = http::Request::get(format!("http://{address}/api/v1/info")).body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let is_kept = answer.status() == 200;
    answer.into_body().collect().await.unwrap();
    is_kept.then_some((sender, ended))
}

/// When all connections are in use, probes are answered, and everybody else is told at once to come back; idle ones go first, by
/// the protocol's own goodbye.
#[tokio::test]
async fn a_full_gateway_answers() {
    let gateway = Gateway::mean(Options::default().set("server.max_connections", 4));
    let job_id = gateway.submit_mean("hang").await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = gateway.sse(&job_id, 0).await;
        reader.until("job_started").await;
        readers.push(reader);
    }
    // Also through the other port, which has no connections of its own.
    let mcp = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string().into_bytes();
    let headers = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let refused: [Answer; 2] =
        [gateway.get("/api/v1/jobs").await, send(&mcp, "POST", "/mcp", &headers, Some(initialize)).await];
    for refused in refused {
        assert_eq!((refused.status, &refused.json()["reason"]), (503, &json!("TOO_MANY_CONNECTIONS")));
        assert_eq!(refused.headers["connection"], "close");
        assert!(refused.headers.contains_key("retry-after"));
    }
    assert_eq!(
        gateway
            .grpc()
            .await
            .list_jobs(conductor_gateway::pb::ListJobsRequest::default())
            .await
            .unwrap_err()
            .code(),
        tonic::Code::Unavailable
    );
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    drop(readers);
    // Those that are idle make room for others, the longest idle first.
    let http1 = async || kept(&gateway.address).await;
    let (_first, first_ended) = until_kept(http1).await;
    let (_second, second_ended) = until_kept(async || kept_http2(&gateway.address).await).await;
    let _others = (until_kept(http1).await, until_kept(http1).await);
    let mut further = Vec::new();
    for ended in [first_ended, second_ended] {
        eventually(Duration::from_secs(5), "the longest idle one goes", async || {
            let mut reader = gateway.sse(&job_id, 0).await;
            if reader.status == 200 {
                reader.until("job_started").await;
                further.push(reader);
            }
            ended.is_finished()
        })
        .await;
    }
    assert!(further.len() >= 2);
}

const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");

/// A client of the MCP server with a session.
struct Session<'a> {
    address: &'a str,
    caller: &'a str,
    id: String,
}

impl<'a> Session<'a> {
    async fn ask(
        address: &str,
        caller: &str,
        session: Option<&str>,
        method: &str,
        params: serde_json::Value,
    ) -> Answer {
        let mut headers = vec![ACCEPT, ("content-type", "application/json"), ("x-caller", caller)];
        headers.extend(session.map(|id| ("mcp-session-id", id)));
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        send(address, "POST", "/mcp", &headers, Some(body.to_string().into_bytes())).await
    }

    async fn open_named(address: &'a str, caller: &'a str, name: &str) -> Result<Self, Answer> {
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": name, "version": "1"},
        });
        let answer = Self::ask(address, caller, None, "initialize", params).await;
        // With a session it comes as an event, without one as a document.
        match answer.headers.get("mcp-session-id").filter(|_| !answer.text().contains("\"error\":")) {
            Some(id) => Ok(Self { address, caller, id: id.to_str().unwrap().to_owned() }),
            None => Err(answer),
        }
    }

    async fn open(address: &'a str, caller: &'a str) -> Result<Self, Answer> {
        Self::open_named(address, caller, "x").await
    }

    async fn call(&self, method: &str, params: serde_json::Value) -> serde_json::Value {
        let answer = Self::ask(self.address, self.caller, Some(&self.id), method, params).await;
        message_of(&answer)
    }

    async fn lives(&self) -> bool {
        Self::ask(self.address, self.caller, Some(&self.id), "ping", json!({})).await.status == 200
    }
}

/// The one message of an answer: a document, or the event that holds it.
fn message_of(answer: &Answer) -> serde_json::Value {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).find(|data| data.starts_with('{'));
    serde_json::from_str(data.unwrap_or(&text)).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn mcp_address(gateway: &Gateway) -> String {
    gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned()
}

/// One caller's many sessions, listened to or not, make room for another's few, and nobody else's do.
#[tokio::test]
async fn whoever_has_most_sessions_gives_way() {
    let options = Options::default().set("auth.caller_header", "x-caller").set("server.mcp_max_sessions", 8);
    let gateway = Gateway::start_with(options);
    let address = mcp_address(&gateway);
    let modest = Session::open(&address, "modest").await.ok().unwrap();
    let mut greedy = Vec::new();
    while let Ok(session) = Session::open(&address, "greedy").await {
        greedy.push(session);
    }
    assert_eq!(greedy.len(), 7);
    let listening = Session::open(&address, "greedy").await.err().unwrap();
    assert_eq!((listening.status, &listening.json()["reason"]), (503, &json!("TOO_MANY_SESSIONS")));
    let third = [
        Session::open(&address, "third").await.ok().unwrap(),
        Session::open(&address, "third").await.ok().unwrap(),
    ];
    assert!(modest.lives().await && third[0].lives().await && third[1].lives().await);
    let mut alive = 0;
    for session in &greedy {
        alive += usize::from(session.lives().await);
    }
    assert_eq!(alive, 5);
}

/// What a session keeps of its client is there, is the client's own, and is short.
#[tokio::test]
async fn a_session_keeps_little() {
    let gateway = Gateway::mean(Options::default().set("auth.caller_header", "x-caller"));
    let address = mcp_address(&gateway);
    let session = Session::open(&address, "alice").await.ok().unwrap();
    let body = json!({
        "tool": "execute_agent_contextual", "conversation_id": "bobs",
        "arguments": {"agent_id": "Mean_Agent", "input_text": "ok"},
    });
    let done =
        send(&gateway.address, "POST", "/execute", &as_caller("bob"), Some(body.to_string().into_bytes()))
            .await;
    assert_eq!(done.status, 200, "{}", done.text());
    let long = format!("conductor://agents/{}", "a".repeat(1 << 19));
    for uri in [
        long.as_str(),
        "conductor://x/y",
        "conductor://agents/Nobody",
        "conductor://conversations/bobs",
        "file:///etc/passwd",
    ] {
        let answer = session.call("resources/subscribe", json!({"uri": uri})).await;
        assert_eq!(answer["error"]["code"], -32002, "{}", answer.to_string().get(..200).unwrap_or(uri));
    }
    let answer = session.call("resources/subscribe", json!({"uri": "conductor://agents/Mean_Agent"})).await;
    assert_eq!(answer["result"], json!({}));
    let refused = Session::open_named(&address, "alice", &"x".repeat(100_000)).await.err().unwrap();
    assert_eq!(message_of(&refused)["error"]["code"], -32602, "{}", refused.text());
}

/// A job that would take more of the store than its caller's running jobs may ends with its reason, whole; what has ended counts no more.
#[tokio::test]
async fn the_logs_of_running_jobs_are_bounded() {
    let options = Options::default()
        .set("auth.caller_header", "x-caller")
        .set("jobs.max_log_bytes_per_caller", 1 << 20)
        .set("conductor.kill_grace_seconds", 1);
    let gateway = Gateway::mean(options);
    let run = async |input: &str| {
        let body = json!({
            "tool": "execute_agent_contextual", "conversation_id": "c",
            "arguments": {"agent_id": "Mean_Agent", "input_text": input},
        });
        let body = body.to_string().into_bytes();
        let accepted =
            send(&gateway.address, "POST", "/api/v1/stream-execute", &as_caller("a"), Some(body)).await;
        let job_id = accepted.json()["job_id"].as_str().unwrap().to_owned();
        watch(&gateway, &job_id, 0, "a").await.rest().await
    };
    for _ in 0..2 {
        let events = run("flood 4").await;
        let [.., error, end] = &events[..] else { panic!("{events:?}") };
        assert_eq!((&error["event"], &error["data"]["reason"]), (&json!("error"), &json!("LOG_LIMIT")));
        assert_eq!(end["event"], "end_of_stream");
        let bytes: usize = events.iter().map(|event| event.to_string().len()).sum();
        assert!(bytes > 400_000 && bytes < 2 << 20, "{bytes} bytes of events");
        assert_eq!(run("ok").await.last().unwrap()["data"]["state"], "SUCCEEDED");
    }
}
