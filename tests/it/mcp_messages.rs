//! What MCP clients really send, and what they are answered: lines and bodies that are no clean JSON, members that are missing or of
//! another type, batches, clients that say they can ask and cannot, clients that are cut off.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::support::{Answer, Gateway, Options, eventually, send};

const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

fn http_client() -> reqwest::Client {
    let _once = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

fn initialize(version: &str, capabilities: Value) -> Value {
    let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "x", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
}

/// The tools on standard streams, line by line.
struct Streams {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _directory: tempfile::TempDir,
}

impl Streams {
    async fn start(version: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_conductor-gateway"))
            .arg("mcp")
            .current_dir(directory.path())
            .env("XDG_DATA_HOME", directory.path())
            .env("AGENT_PROVIDER", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let input = child.stdin.take().unwrap();
        let mut streams = Self { _child: child, input, output, _directory: directory };
        streams.say(initialize(version, json!({})).to_string()).await;
        assert_eq!(streams.next().await["result"]["protocolVersion"], version);
        streams.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()).await;
        streams
    }

    async fn say(&mut self, line: impl AsRef<[u8]>) {
        self.input.write_all(line.as_ref()).await.unwrap();
        self.input.write_all(b"\n").await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(20), self.output.next_line()).await;
        serde_json::from_str(&line.expect("it is answered").unwrap().expect("it goes on")).unwrap()
    }

    /// The answer to a line, whatever is said before.
    async fn answer(&mut self, line: impl AsRef<[u8]>) -> Value {
        self.say(line).await;
        loop {
            let said = self.next().await;
            if said.is_array() || said.get("result").or(said.get("error")).is_some() {
                return said;
            }
        }
    }
}

fn call(id: impl std::fmt::Display, params: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)
}

/// No line leaves its client waiting: what can be read is taken, the rest is refused under its own id.
#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_answered() {
    let mut streams = Streams::start("2025-06-18").await;
    let run = |text: &str| {
        format!(
            r#"{{"name":"execute_agent_stateless","arguments":{{"agent_id":"SqlExpert_Agent","input_text":"{text}"}}}}"#
        )
    };
    let cut = streams.answer(call(1, run("cut \\ud83d"))).await;
    assert_eq!((&cut["id"], &cut["result"]["isError"]), (&json!(1), &json!(false)), "{cut}");
    let mut bytes = call(2, run("bytes ")).into_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b' ').unwrap();
    bytes[at] = 0xff;
    assert_eq!(streams.answer(bytes).await["result"]["isError"], false);
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let list = |arguments: &str| format!(r#"{{"name":"list_available_agents","arguments":{arguments}}}"#);
    for (line, id, code) in [
        (call("\"nan\"", list("{\"limit\":NaN}")), json!("nan"), -32602),
        (call(3, list(&deep)), json!(3), -32602),
        (call("4", "[1]"), json!(4), -32602),
        (call("9223372036854775808", list("{}")), json!(9223372036854775808_u64), -32600),
        (call(5, list("{")), json!(5), -32700),
        (call("{}", list("{}")), Value::Null, -32600),
        (call("null", list("{}")), Value::Null, -32600),
        (r#"{"method":"ping", "id" : null,"jsonrpc":"2.0"}"#.into(), Value::Null, -32600),
        (call(6, list("\"limit\"")), json!(6), -32602),
        (call(7, list("[]")), json!(7), -32602),
        (call(8, "{\"arguments\":{}}"), json!(8), -32602),
        (
            r#"{"jsonrpc":"2.0","id":9,"method":"logging/setLevel","params":{"level":"verbose"}}"#.into(),
            json!(9),
            -32602,
        ),
        (r#"{"jsonrpc":"2.0","id":10,"method":"no/such","params":{}}"#.into(), json!(10), -32601),
        ("[{\"jsonrpc\":\"2.0\",\"id\":11,\"method\":\"ping\"}]".into(), Value::Null, -32600),
        ("not json".into(), Value::Null, -32700),
    ] {
        let answer = streams.answer(&line).await;
        let shown = &line[..line.len().min(200)];
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(code)), "{shown}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().len() > 10, "{shown}: {answer}");
    }
    for taken in
        [list("\"{\\\"limit\\\": 2}\""), list("{\"limit\":\"2\"}"), list("{\"limit\":2.0,\"tag\":null}")]
    {
        let answer = streams.answer(call(12, &taken)).await;
        let agents = answer["result"]["structuredContent"]["agents"].as_array();
        assert_eq!(agents.map(Vec::len), Some(2), "{taken}: {answer}");
    }
    let empty = streams.answer(r#"{"jsonrpc":"2.0","id":13.0,"method":"ping","params":[]}"#).await;
    assert_eq!((&empty["id"], &empty["result"]), (&json!(13), &json!({})));

    let mut long = call(14, list("{}")).into_bytes();
    long.splice(1..1, vec![b' '; 17 * 1024 * 1024]);
    assert_eq!(streams.answer(long).await["error"]["code"], -32600);
    assert_eq!(streams.answer(call(15, list("{}"))).await["id"], 15, "it goes on");

    let mut streams = Streams::start("2025-03-26").await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "id": "two", "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 3, "method": 7},
    ]);
    let answers = streams.answer(batch.to_string()).await;
    let mut ids: Vec<String> = answers.as_array().unwrap().iter().map(|one| one["id"].to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["\"two\"", "1", "3"], "{answers}");
    // A request that is cancelled is not answered, and holds nothing up.
    let slow = json!({"name": "start_interactive_session", "arguments": {"agent_id": "SqlExpert_Agent"}});
    let batch = json!([
        {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": slow},
        {"jsonrpc": "2.0", "id": 5, "method": "ping"},
    ]);
    streams.say(batch.to_string()).await;
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}});
    let answers = streams.answer(cancelled.to_string()).await;
    assert_eq!((&answers[0]["id"], &answers[1]), (&json!(5), &Value::Null), "{answers}");
}

/// A session over HTTP.
struct Session {
    address: String,
    id: String,
    version: &'static str,
}

impl Session {
    async fn open(gateway: &Gateway, version: &'static str, capabilities: Value) -> Self {
        let address = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        let body = initialize(version, capabilities).to_string().into_bytes();
        let opened = send(&address, "POST", "/mcp", &[ACCEPT, JSON], Some(body)).await;
        let id = opened.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let session = Self { address, id, version };
        session.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()).await;
        session
    }

    fn headers(&self) -> [(&str, &str); 4] {
        [ACCEPT, JSON, ("mcp-session-id", &self.id), ("mcp-protocol-version", self.version)]
    }

    async fn post(&self, body: &str) -> Answer {
        // Old clients do not name their version.
        let headers = self.headers();
        let headers = if self.version < "2025-06-18" { &headers[..3] } else { &headers[..] };
        send(&self.address, "POST", "/mcp", headers, Some(body.as_bytes().to_vec())).await
    }

    /// Opens a stream and reads it until `is_enough`, or to its end.
    async fn read(
        &self,
        method: reqwest::Method,
        body: String,
        last: Option<&str>,
        is_enough: impl Fn(&str) -> bool,
    ) -> String {
        let mut request = http_client().request(method, format!("http://{}/mcp", self.address)).body(body);
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let mut response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        let mut text = String::new();
        let read = async {
            while let Some(chunk) = response.chunk().await.unwrap() {
                text.push_str(&String::from_utf8_lossy(&chunk));
                if is_enough(&text) {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), read).await.expect("the stream goes on");
        text
    }
}

fn messages(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The answers to a body: of a stream or of a document.
fn answers(answer: &Answer) -> Vec<Value> {
    match answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()) {
        Some(kind) if kind.starts_with("text/event-stream") => messages(&answer.text()),
        _ => vec![answer.json()],
    }
}

/// Every method with each of its members missing or of another type: what is wrong is said, and never that there is no such method.
#[tokio::test(flavor = "multi_thread")]
async fn each_method_says_what_is_wrong() {
    let gateway = Gateway::start();
    let session = Session::open(&gateway, "2025-11-25", json!({})).await;
    let methods = [
        ("tools/call", json!({"name": "get_system_config", "arguments": {}})),
        ("tools/list", json!({"cursor": "x"})),
        ("prompts/get", json!({"name": "x", "arguments": {}})),
        ("resources/read", json!({"uri": "conductor://agents"})),
        ("resources/subscribe", json!({"uri": "conductor://agents"})),
        ("resources/unsubscribe", json!({"uri": "conductor://agents"})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": "b"}}),
        ),
        ("logging/setLevel", json!({"level": "info"})),
        ("ping", json!({})),
    ];
    for (method, params) in methods {
        let mut tries = vec![json!(5), json!("text"), json!([1])];
        for name in params.as_object().unwrap().keys() {
            for wrong in [json!(5), json!([1]), json!(true), json!("\"")] {
                let mut one = params.clone();
                one[name] = wrong;
                tries.push(one);
            }
            let mut without = params.clone();
            without.as_object_mut().unwrap().remove(name);
            tries.push(without);
        }
        for params in tries {
            let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
            let answer = session.post(&body).await;
            let answer = answers(&answer).pop().unwrap();
            assert_eq!(answer["id"], 7, "{body}: {answer}");
            let code = answer["error"]["code"].as_i64();
            assert!(matches!(code, None | Some(-32602 | -32002)), "{body}: {answer}");
        }
    }
    // What is no message, over HTTP as on a line.
    for (body, id, code) in [
        (call("\"nan\"", "{\"name\":\"get_system_config\",\"arguments\":{\"x\":NaN}}"), json!("nan"), -32602),
        ("{\"id\":5,".into(), json!(5), -32700),
        (call("null", "{\"name\":\"get_system_config\",\"arguments\":{}}"), Value::Null, -32600),
        ("[]".into(), Value::Null, -32600),
    ] {
        let answer = session.post(&body).await;
        assert_eq!(
            (answer.status, &answer.json()["id"], &answer.json()["error"]["code"]),
            (400, &id, &json!(code)),
            "{body}"
        );
    }
    let cut = session
        .post(&call(8, "{\"name\":\"get_agent_info\",\"arguments\":{\"agent_id\":\"cut \\ud83d\"}}"))
        .await;
    assert_eq!(answers(&cut)[0]["id"], 8, "{}", cut.text());

    let old = Session::open(&gateway, "2025-03-26", json!({})).await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "get_system_config", "arguments": {}}},
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
    ])
    .to_string();
    let answer = old.post(&batch).await;
    let listed = answer.json();
    assert_eq!((answer.status, &listed[0]["id"], &listed[1]["id"]), (200, &json!(1), &json!(2)), "{listed}");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(session.post(&batch).await.status, 400, "later versions have none");
    let silent = old
        .post(&json!([{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]).to_string())
        .await;
    assert_eq!(silent.status, 202);
}

/// A client that was cut off reads the rest of its stream, whether the call still runs or is over; and what was asked meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_call_gets_its_answer() {
    let gateway = Gateway::mean(Options::default());
    let session = Session::open(&gateway, "2025-11-25", json!({})).await;
    for is_over in [true, false] {
        let go_on = gateway.path(&format!("go-on-{is_over}"));
        let run = json!({
            "name": "execute_agent_stateless",
            "arguments": {"agent_id": "Mean_Agent", "input_text": format!("two-parts {}", go_on.display())},
            "_meta": {"progressToken": "p"},
        });
        // Cut after its first event, which says where to go on.
        let begun =
            session.read(reqwest::Method::POST, call(5, &run), None, |text| text.contains("id: ")).await;
        let last = begun.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        let retry: u32 =
            begun.lines().find_map(|line| line.strip_prefix("retry: ")).unwrap().parse().unwrap();
        assert!((500..=5000).contains(&retry), "{retry}");
        if is_over {
            std::fs::write(&go_on, "").unwrap();
            eventually(Duration::from_secs(10), "the job has ended", async || {
                !gateway.listed("state=SUCCEEDED").await.is_empty()
            })
            .await;
        }
        let reading = session.read(reqwest::Method::GET, String::new(), Some(&last), |_| false);
        let rest = match is_over {
            true => reading.await,
            false => {
                let go = async {
                    tokio::task::yield_now().await;
                    std::fs::write(&go_on, "").unwrap();
                };
                tokio::join!(reading, go).0
            }
        };
        let answer = messages(&rest).pop().unwrap_or_default();
        assert_eq!(
            (&answer["id"], &answer["result"]["isError"]),
            (&json!(5), &json!(false)),
            "{begun}\n---\n{rest}"
        );
        let again = session.read(reqwest::Method::GET, String::new(), Some(&last), |_| false).await;
        assert_eq!(again, rest, "as often as it asks");
        let foreign = Session::open(&gateway, "2025-11-25", json!({})).await;
        let nothing = foreign.read(reqwest::Method::GET, String::new(), Some(&last), |_| false).await;
        assert!(!nothing.contains("\"id\":5"), "{nothing}");
    }
    // A question that nobody heard.
    let asking = Session::open(&gateway, "2025-11-25", json!({"elicitation": {}})).await;
    let start =
        call(6, json!({"name": "start_interactive_session", "arguments": {"agent_id": "Mean_Agent"}}));
    let begun = asking.read(reqwest::Method::POST, start, None, |text| text.contains("id: ")).await;
    let last = begun.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let is_asked = |text: &str| text.contains("elicitation/create") && text.ends_with("\n\n");
    let rest = asking.read(reqwest::Method::GET, String::new(), Some(&last), is_asked).await;
    let question =
        messages(&rest).into_iter().find(|message| message["method"] == "elicitation/create").unwrap();
    let refuses =
        json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32601, "message": "no handler"}});
    let reading = asking.read(reqwest::Method::GET, String::new(), Some(&last), |_| false);
    let refuses = refuses.to_string();
    let (rest, _) = tokio::join!(reading, asking.post(&refuses));
    // A client that said it can ask, and cannot: the session goes on by its handle.
    let answer = messages(&rest).pop().unwrap();
    let opened = &answer["result"]["structuredContent"];
    assert_eq!((&answer["id"], &opened["is_open"]), (&json!(6), &json!(true)), "{rest}");
    assert!(opened["session_id"].as_str().unwrap().starts_with("job_"));
}

/// A session whose client was cut off in a call is in use until the call has ended; one without a call is not, nor one whose
/// call was cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_works_is_not_idle() {
    let gateway = Gateway::mean(Options::default().set("server.mcp_session_idle_seconds", 1));
    let go_on = gateway.path("go-on");
    let sessions = [(); 3].map(|()| Session::open(&gateway, "2025-11-25", json!({})));
    let [working, cancelled, unused] = sessions;
    let (working, cancelled, unused) = tokio::join!(working, cancelled, unused);
    let run = json!({
        "name": "execute_agent_stateless",
        "arguments": {"agent_id": "Mean_Agent", "input_text": format!("two-parts {}", go_on.display())},
    });
    let is_begun = |text: &str| text.contains("id: ");
    let begun = working.read(reqwest::Method::POST, call(1, &run), None, is_begun).await;
    cancelled.read(reqwest::Method::POST, call(2, &run), None, is_begun).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}});
    cancelled.post(&cancel.to_string()).await;
    let last = begun.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    eventually(Duration::from_secs(30), "the others have ended", async || {
        let looks = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).to_string();
        // Looking at a session uses it.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (cancelled, unused) = tokio::join!(cancelled.post(&looks), unused.post(&looks));
        (cancelled.status, unused.status) == (404, 404)
    })
    .await;
    std::fs::write(&go_on, "").unwrap();
    let rest = working.read(reqwest::Method::GET, String::new(), Some(&last), |_| false).await;
    let answer = messages(&rest).pop().unwrap();
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(1), &json!(false)), "{rest}");
}

/// An answer that was not fetched while many others came is missed in words, and not by silence.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_longer_kept_is_an_error() {
    let gateway = Gateway::start();
    let session = Session::open(&gateway, "2025-11-25", json!({})).await;
    let list = json!({"name": "get_system_config", "arguments": {}});
    let begun = session.read(reqwest::Method::POST, call(1, &list), None, |text| text.contains("id: ")).await;
    let last = begun.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    for id in 2..70 {
        session.post(&call(id, &list)).await;
    }
    let rest = session.read(reqwest::Method::GET, String::new(), Some(&last), |_| false).await;
    let answer = messages(&rest).pop().unwrap_or_default();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32603)), "{rest}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("call again"), "{answer}");
}

/// Clients of versions before 2025-11-25 take an event without data for a broken message.
#[tokio::test(flavor = "multi_thread")]
async fn old_clients_get_no_event_without_data() {
    let gateway = Gateway::start();
    for (version, has_empty) in [("2025-03-26", false), ("2025-06-18", false), ("2025-11-25", true)] {
        let session = Session::open(&gateway, version, json!({})).await;
        let run = json!({"name": "execute_agent_stateless", "arguments": {"agent_id": "SqlExpert_Agent", "input_text": "x"}});
        let text = session.post(&call(1, run)).await.text();
        let empty =
            text.lines().any(|line| line.starts_with("data:") && line["data:".len()..].trim().is_empty());
        assert_eq!(empty, has_empty, "{version}: {text}");
        assert_eq!(messages(&text).pop().unwrap()["id"], 1);
    }
}

/// A client that says it can ask its user, and answers that it cannot: the other way is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_ask_is_told_of_confirm() {
    let gateway = Gateway::start();
    let session = Session::open(&gateway, "2025-06-18", json!({"elicitation": {}})).await;
    let clear = call(1, json!({"name": "clear_agent_history", "arguments": {"agent_id": "SqlExpert_Agent"}}));
    let is_asked = |text: &str| text.contains("elicitation/create") && text.ends_with("\n\n");
    let mut request = http_client().post(format!("http://{}/mcp", session.address)).body(clear);
    for (name, value) in session.headers() {
        request = request.header(name, value);
    }
    let mut response = request.send().await.unwrap();
    let mut text = String::new();
    while !is_asked(&text) {
        text.push_str(&String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap()));
    }
    let question = messages(&text).pop().unwrap();
    let refuses = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32603, "message": "handler threw"}});
    session.post(&refuses.to_string()).await;
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    let answer = messages(&text).pop().unwrap();
    let said = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(said.contains("CONFIRMATION_REQUIRED") && said.contains("confirm"), "{said}");
}

/// A question that its default has answered is taken off the user's screen, and so is one whose call is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_no_longer_open_is_withdrawn() {
    let gateway = Gateway::mean(Options::default().set("conductor.session_input_timeout_seconds", 1));
    let session = Session::open(&gateway, "2025-06-18", json!({"elicitation": {}})).await;
    let start =
        call(1, json!({"name": "start_interactive_session", "arguments": {"agent_id": "Mean_Agent"}}));
    let told = session.read(reqwest::Method::POST, start, None, |_| false).await;
    let told = messages(&told);
    let asked = told.iter().find(|message| message["method"] == "elicitation/create").unwrap();
    let withdrawn = told.iter().find(|message| message["method"] == "notifications/cancelled");
    assert_eq!(withdrawn.map(|message| &message["params"]["requestId"]), Some(&asked["id"]), "{told:?}");
    assert_eq!(told.last().unwrap()["id"], 1);
    // A job that asks and whose call is cancelled is cancelled, and answered by nobody.
    let gateway = Gateway::mean(Options::default());
    let session = Session::open(&gateway, "2025-06-18", json!({"elicitation": {}})).await;
    let start =
        call(3, json!({"name": "start_interactive_session", "arguments": {"agent_id": "Mean_Agent"}}));
    let is_asked = |text: &str| text.contains("elicitation/create") && text.ends_with("\n\n");
    session.read(reqwest::Method::POST, start, None, is_asked).await;
    let asking = gateway.listed("state=INPUT_REQUIRED").await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}});
    session.post(&cancel.to_string()).await;
    let events = gateway.events(asking.first().expect("it asks")).await;
    assert!(!format!("{events:?}").contains("input_received"), "{events:?}");
    // The confirmation of a call that its client cancels meanwhile.
    let clear = call(2, json!({"name": "clear_agent_history", "arguments": {"agent_id": "Mean_Agent"}}));
    session.read(reqwest::Method::POST, clear, None, is_asked).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}});
    session.post(&cancel.to_string()).await;
    let again = session.post(&call(2, json!({"name": "get_system_config", "arguments": {}}))).await;
    assert_eq!(answers(&again).pop().unwrap()["result"]["isError"], false, "{}", again.text());
}

/// Of several streams that listen the newest is given what happens, a client that accepts anything can listen, and one that
/// takes a document of a call that it cancels, or whose session it ends, is told so.
#[tokio::test(flavor = "multi_thread")]
async fn listening_and_leaving() {
    let gateway = Gateway::mean(Options::default());
    let session = Session::open(&gateway, "2025-06-18", json!({})).await;
    let subscribe =
        json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "info"}});
    assert_eq!(session.post(&subscribe.to_string()).await.status, 200);
    let listen = async |last: Option<&str>| {
        let mut request =
            http_client().get(format!("http://{}/mcp", session.address)).header("accept", "*/*");
        for (name, value) in session.headers().into_iter().filter(|(name, _)| *name != "accept") {
            request = request.header(name, value);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    };
    let headers = session.headers();
    let headers = [("accept", "application/json"), headers[2], headers[3]];
    assert_eq!(send(&session.address, "GET", "/mcp", &headers, None).await.status, 406, "it takes no stream");
    // Nobody reads the first one, whose connection is open.
    let _silent = listen(None).await;
    let mut listening = listen(Some("99999")).await;
    let run = json!({"name": "execute_agent_stateless", "arguments": {"agent_id": "Mean_Agent", "input_text": "ok"}});
    session.post(&call(2, &run)).await;
    let mut heard = String::new();
    while !heard.contains("is done") {
        let chunk = tokio::time::timeout(Duration::from_secs(20), listening.chunk()).await;
        let chunk = chunk.expect("the newest is given it").unwrap().unwrap();
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    let hang = call(
        3,
        json!({"name": "execute_agent_stateless", "arguments": {"agent_id": "Mean_Agent", "input_text": "hang"}}),
    );
    for is_deleted in [false, true] {
        let headers = session.headers();
        let headers = [("accept", "application/json"), headers[1], headers[2], headers[3]];
        let calling = send(&session.address, "POST", "/mcp", &headers, Some(hang.clone().into_bytes()));
        let leave = async {
            eventually(Duration::from_secs(20), "the call runs", async || {
                !gateway.listed("state=RUNNING").await.is_empty()
            })
            .await;
            let cancel =
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}});
            match is_deleted {
                true => send(&session.address, "DELETE", "/mcp", &session.headers(), None).await,
                false => session.post(&cancel.to_string()).await,
            }
        };
        let (left, _) = tokio::join!(calling, leave);
        assert_eq!((left.status, left.text().as_str()), (202, ""), "{is_deleted}");
        let ended = tokio::time::Instant::now();
        eventually(Duration::from_secs(20), "the job has ended", async || {
            gateway.listed("state=RUNNING").await.is_empty()
        })
        .await;
        assert!(ended.elapsed() < Duration::from_secs(4), "{is_deleted}: {:?}", ended.elapsed());
    }
}

/// In the version without sessions a call that was cut off goes on for a while, and the same call finds it by its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_call_is_sent_again_with_its_key() {
    let gateway = Gateway::mean(Options::default());
    let go_on = gateway.path("go-on");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
        "progressToken": 1,
        "conductor.gateway/idempotency_key": "once",
    });
    let arguments = json!({"agent_id": "Mean_Agent", "input_text": format!("two-parts {}", go_on.display())});
    let run = json!({"name": "execute_agent_stateless", "arguments": arguments, "_meta": meta});
    let headers = [
        ACCEPT,
        JSON,
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "execute_agent_stateless"),
    ];
    let mut request = http_client().post(&gateway.mcp).body(call(1, &run));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut response = request.send().await.unwrap();
    let mut text = String::new();
    while !text.contains("first part") {
        text.push_str(&String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap()));
    }
    drop(response);
    let address = gateway.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let again = send(&address, "POST", "/mcp", &headers, Some(call(2, &run).into_bytes()));
    let go = async {
        eventually(Duration::from_secs(10), "the job goes on", async || {
            gateway.get("/api/v1/jobs").await.json()["jobs"][0]["state"] == "RUNNING"
        })
        .await;
        std::fs::write(&go_on, "").unwrap();
    };
    let (answer, ()) = tokio::join!(again, go);
    let answer = answers(&answer).pop().unwrap();
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(2), &json!(false)), "{answer}");
    assert_eq!(gateway.listed("").await.len(), 1);
}
