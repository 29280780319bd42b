//! Anthropic's and Gemini's wires end to end, where the keys go, and the tools of outside MCP servers.

use serde_json::{Value, json};

use crate::{
    agent::{names, of},
    support::{
        Gateway, ModelServer, Options,
        model::{Script, openai, status, stream},
        providers::{anthropic, gemini},
    },
};

const KEY: &str = "canary-key-9f3a";
/// Held by the processes of one test only.
const CANARY: &str = "canary-key-4c71";

async fn run(provider: &str, scripts: Vec<Script>) -> (Vec<Value>, ModelServer, Gateway) {
    let model = ModelServer::start(scripts).await;
    let options = Options::default()
        .set("agent.provider", provider)
        .set("agent.model", "scripted")
        .set("agent.base_url", model.url(""))
        .set("agent.max_attempts", 1)
        .set("agent.api_key", KEY);
    let gateway = Gateway::start_with(options);
    let job_id = gateway.submit(&json!({"command": "say what there is"})).await;
    (gateway.events(&job_id).await, model, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_calls_tools_and_streams() {
    let first = anthropic::thinking_block(0, "hm.", "signed")
        + &anthropic::text_block(1, &["I look. "])
        + &anthropic::tool_block(
            2,
            "toolu_1",
            "get_agent_info",
            &["{\"agent_id\": ", "\"SqlExpert_Agent\"}"],
        );
    let second = anthropic::text_block(0, &["It knows", " SQL."]);
    let (events, model, _gateway) =
        run("anthropic", vec![anthropic::turn(&first, "tool_use"), anthropic::turn(&second, "end_turn")])
            .await;
    assert_eq!(
        of(&events, "result").first().map(|result| &result["result"]),
        Some(&json!("It knows SQL.")),
        "{events:?}"
    );
    assert_eq!(of(&events, "on_tool_start")[0]["arguments"], json!({"agent_id": "SqlExpert_Agent"}));
    assert!(of(&events, "on_llm_new_token").iter().any(|token| token["is_reasoning"] == true));
    let asked = model.asked();
    assert_eq!(asked[0].path, "/v1/messages");
    assert!(asked[0].headers.contains(KEY));
    // Signed thinking goes back as it came.
    let echoed = asked[1].body["messages"].to_string();
    assert!(echoed.contains("signed") && echoed.contains("tool_result"), "{echoed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_failures_are_failures() {
    let cut = anthropic::tool_block(0, "t", "get_agent_info", &["{\"agent_id\": \"Sql"]);
    let overloaded = anthropic::start()
        + &anthropic::event("error", json!({"error": {"type": "overloaded_error", "message": "Overloaded"}}));
    let unknown = anthropic::event("something_new", json!({"x": 1})) + &anthropic::text_block(0, &["fine"]);
    for (script, reason) in [
        (anthropic::turn(&cut, "max_tokens"), "MODEL_FAILED"),
        (stream(overloaded), "MODEL_UNAVAILABLE"),
        (
            status(
                529,
                &[("content-type", "application/json")],
                "{\"error\": {\"type\": \"overloaded_error\", \"message\": \"x\"}}",
            ),
            "MODEL_UNAVAILABLE",
        ),
        (stream(anthropic::start() + &anthropic::text_block(0, &["cut"])), "MODEL_UNAVAILABLE"),
        (anthropic::turn(&unknown, "end_turn"), ""),
    ] {
        let (events, ..) = run("anthropic", vec![script]).await;
        let seen = of(&events, "error").first().map(|error| error["reason"].clone()).unwrap_or(json!(""));
        assert_eq!(seen, reason, "{events:?}");
        assert!(of(&events, "on_tool_start").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini_calls_tools_without_ids_and_keeps_signatures() {
    let call = json!([{
        "functionCall": {"name": "get_agent_info", "args": {"agent_id": "SqlExpert_Agent"}},
        "thoughtSignature": "c2lnbmVk",
    }]);
    let (events, model, _gateway) = run(
        "gemini",
        vec![
            gemini::turn(&[gemini::chunk(call, Some("STOP"))]),
            gemini::turn(&[
                gemini::chunk(json!([{"text": "It knows"}]), None),
                gemini::chunk(json!([{"text": " SQL."}]), Some("STOP")),
            ]),
        ],
    )
    .await;
    assert_eq!(
        of(&events, "result").first().map(|result| &result["result"]),
        Some(&json!("It knows SQL.")),
        "{events:?}"
    );
    assert_eq!(names(&events).iter().filter(|name| **name == "on_tool_end").count(), 1);
    let asked = model.asked();
    assert!(asked[0].path.contains("streamGenerateContent"), "{}", asked[0].path);
    assert!(asked[1].body.to_string().contains("c2lnbmVk"), "{}", asked[1].body);
    for (script, reason) in [
        (gemini::turn(&[gemini::chunk(json!([{"text": "I "}]), Some("SAFETY"))]), "MODEL_FAILED"),
        (gemini::turn(&[gemini::chunk(json!([]), Some("STOP"))]), "MODEL_FAILED"),
    ] {
        let (events, ..) = run("gemini", vec![script]).await;
        assert_eq!(of(&events, "error")[0]["reason"], reason, "{events:?}");
    }
}

/// What came without a signature does not go back, and is no text; a paused answer goes on.
/// Over OpenAI's responses: reasoning goes back encrypted, before the call that followed it, and nothing is kept at the server.
#[tokio::test(flavor = "multi_thread")]
async fn responses_call_tools_and_give_reasoning_back() {
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let completed = |output: Value| {
        event(json!({"type": "response.completed", "response": {"status": "completed", "output": output}}))
    };
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"});
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_agent_info", "arguments": "{\"agent_id\": \"SqlExpert_Agent\"}"});
    let first = event(json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning}))
        + &event(json!({"type": "response.output_item.done", "output_index": 1, "item": call}))
        + &completed(json!([reasoning, call]));
    let words = |text: &str| {
        event(
            json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}),
        )
    };
    let second = words("It knows") + &words(" SQL.") + &completed(json!([]));
    let model = ModelServer::start(vec![stream(first), stream(second)]).await;
    let options = Options::default()
        .set("agent.api", "responses")
        .set("agent.model", "gpt-5")
        .set("agent.max_tokens", 999);
    let gateway = Gateway::thinking(&model, options);
    let job_id = gateway.submit(&json!({"command": "What does SqlExpert know?"})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "result")[0]["result"], "It knows SQL.", "{events:?}");
    assert_eq!(of(&events, "on_tool_start")[0]["arguments"], json!({"agent_id": "SqlExpert_Agent"}));
    let asked = model.asked();
    assert_eq!((asked[0].path.as_str(), &asked[0].body["store"]), ("/v1/responses", &json!(false)));
    assert_eq!(asked[0].body["max_output_tokens"], 999);
    let input = asked[1].body["input"].as_array().unwrap();
    let kinds: Vec<&str> = input.iter().map(|item| item["type"].as_str().unwrap_or("message")).collect();
    assert_eq!(kinds, ["message", "reasoning", "function_call", "function_call_output"], "{input:?}");
    assert_eq!(
        (&input[1]["encrypted_content"], &input[2]["call_id"], &input[3]["call_id"]),
        (&json!("sealed"), &json!("call_1"), &json!("call_1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_pauses_and_unsigned_thinking() {
    let first = anthropic::thinking_block(0, "hm.", "")
        + &anthropic::tool_block(1, "toolu_1", "get_agent_info", &["{\"agent_id\": \"SqlExpert_Agent\"}"]);
    let scripts = vec![
        anthropic::turn(&first, "tool_use"),
        anthropic::turn(&anthropic::text_block(0, &["It knows"]), "pause_turn"),
        anthropic::turn(&anthropic::text_block(0, &[" SQL."]), "end_turn"),
    ];
    let (events, model, _gateway) = run("anthropic", scripts).await;
    assert_eq!(of(&events, "result")[0]["result"], "It knows SQL.", "{events:?}");
    let asked = model.asked();
    let second = &asked[1].body["messages"][1]["content"];
    assert_eq!(second.as_array().unwrap().len(), 1, "{second}");
    assert_eq!(second[0]["type"], "tool_use");
    let third = asked[2].body["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&third["role"], &third["content"][0]["text"]), (&json!("assistant"), &json!("It knows")));
}

/// Arguments that come in a later part belong to the call, which is made at the turn's end; what the server could not use is asked for
/// again, in its own words.
#[tokio::test(flavor = "multi_thread")]
async fn gemini_arguments_come_late_and_chances_are_taken() {
    let late = vec![
        gemini::turn(&[
            gemini::chunk(json!([{"functionCall": {"name": "get_agent_info", "args": {}}}]), None),
            gemini::chunk(json!([{"functionCall": {"args": {"agent_id": "SqlExpert_Agent"}}}]), Some("STOP")),
        ]),
        gemini::turn(&[gemini::chunk(json!([{"text": "done"}]), Some("STOP"))]),
    ];
    let (events, ..) = run("gemini", late).await;
    assert_eq!(of(&events, "on_tool_start")[0]["arguments"], json!({"agent_id": "SqlExpert_Agent"}));
    assert_eq!(of(&events, "on_tool_start").len(), 1, "{events:?}");
    let unusable = "data: {\"candidates\": [{\"finishReason\": \"MALFORMED_FUNCTION_CALL\", \"finishMessage\": \"print(backup)\"}]}\n\n";
    let model = ModelServer::start(vec![
        gemini::turn(&[gemini::chunk(json!([]), Some("STOP"))]),
        stream(unusable),
        gemini::turn(&[gemini::chunk(json!([{"text": "done"}]), Some("STOP"))]),
    ])
    .await;
    let options = Options::default()
        .set("agent.provider", "gemini")
        .set("agent.model", "m")
        .set("agent.base_url", model.url("/v1beta"))
        .set("agent.max_attempts", 3);
    let gateway = Gateway::start_with(options);
    let job_id = gateway.submit(&json!({"command": "go"})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "result")[0]["result"], "done", "{events:?}");
    let updates = of(&events, "status_update");
    assert!(
        updates.iter().any(|update| update["message"].as_str().unwrap().contains("print(backup)")),
        "{updates:?}"
    );
    assert!(
        model.asked()[0].path.starts_with("/v1beta/models/m:streamGenerateContent"),
        "{}",
        model.asked()[0].path
    );
}

/// A key is in no log, event, error, listing or file, and in no process but the bundled engine's agents.
#[tokio::test(flavor = "multi_thread")]
async fn keys_reach_nobody_else() {
    let run_agent = |input: &str| {
        openai::call_turn(&[(
            "a",
            "execute_agent_stateless",
            json!({"agent_id": "Mean_Agent", "input_text": input}),
        )])
    };
    for provider in ["openai", "anthropic", "gemini"] {
        let refusal =
            format!("{{\"error\": {{\"message\": \"the key {CANARY} is not valid, see ?key={CANARY}\"}}}}");
        let model = ModelServer::start(vec![
            if provider == "openai" { run_agent("environment") } else { status(403, &[], &refusal) },
            status(403, &[("content-type", "application/json")], &refusal),
        ])
        .await;
        let mut options = Options::default()
            .set("agent.provider", provider)
            .set("agent.model", "m")
            .set("agent.base_url", model.url(""))
            .set("agent.headers", "{x-secret: canary-header-77}")
            .set("telemetry.log", "trace");
        options.environment.push(("AGENT_API_KEY", CANARY.to_owned()));
        let gateway = Gateway::mean(options);
        let job_id = gateway.submit(&json!({"command": "go"})).await;
        let mut all = format!("{:?}", gateway.events(&job_id).await);
        assert!(all.contains("MODEL_REFUSED"), "{all}");
        // A broken connection prints the address, which on one wire holds the key.
        let mut nowhere = Options::default()
            .set("agent.provider", provider)
            .set("agent.model", "m")
            .set("agent.base_url", "http://127.0.0.1:1")
            .set("agent.max_attempts", 1)
            .set("telemetry.log", "trace");
        nowhere.environment.push(("AGENT_API_KEY", CANARY.to_owned()));
        let unreachable = Gateway::start_with(nowhere);
        let lost = unreachable.submit(&json!({"command": "go"})).await;
        all += &format!("{:?}", unreachable.events(&lost).await);
        all += &unreachable.log.lock().unwrap();
        for path in ["/health", "/api/v1/info", "/api/v1/tools", &format!("/api/v1/jobs/{job_id}")] {
            all += &gateway.get(path).await.text();
        }
        all += &gateway.log.lock().unwrap();
        for canary in [CANARY, "canary-header-77"] {
            let at = all.find(canary).map(|at| all[at.saturating_sub(200)..at + 20].to_owned());
            assert!(at.is_none(), "{provider}: {at:?}");
        }
        // No process below the gateway holds it: neither the guardian nor a real engine.
        let holders = crate::support::alive_with(CANARY);
        let gateways = [gateway.pid(), unreachable.pid()];
        assert!(holders.iter().all(|pid| gateways.contains(pid)), "{holders:?} beside {gateways:?}");
    }
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_conductor-gateway"))
        .args([
            "config",
            "show",
            "--set",
            "agent.provider=openai",
            "--set",
            "agent.mcp_servers={x: {url: 'http://h/?token=canary-header-77', headers: {a: canary-header-77}}}",
        ])
        .env("AGENT_API_KEY", CANARY)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("agent.api_key: \"***\"") && shown.contains("max_tokens"), "{shown}");
    assert!(!shown.contains(CANARY) && !shown.contains("canary-header-77"), "{shown}");
}

/// A redirect is not followed: the headers hold keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_refused() {
    let thief = ModelServer::start(vec![openai::answer_turn(&["stolen"])]).await;
    let model =
        ModelServer::start(vec![status(307, &[("location", &thief.url("/v1/chat/completions"))], "")]).await;
    let options = Options::default().set("agent.api_key", KEY).set("agent.headers", "{x-secret: value}");
    let gateway = Gateway::thinking(&model, options);
    let job_id = gateway.submit(&json!({"command": "go"})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "error")[0]["reason"], "MODEL_REFUSED", "{events:?}");
    assert!(thief.asked().is_empty());
}

/// The bundled engine's agents have the same model, are told who they are and what was said, and stream.
#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_engines_agents_think_with_the_same_model() {
    let model = ModelServer::start(vec![
        openai::answer_turn(&["SELECT ", "1", ";"]),
        openai::answer_turn(&["Again."]),
        status(400, &[("content-type", "application/json")], "{\"error\": {\"message\": \"no such model\"}}"),
    ])
    .await;
    let gateway = Gateway::thinking(&model, Options::default());
    let talk =
        |words: &str| json!({"agent_id": "SqlExpert_Agent", "input_text": words, "conversation_id": "c1"});
    let job_id = gateway.submit(&talk("one, please")).await;
    let events = gateway.events(&job_id).await;
    let pieces: Vec<_> = of(&events, "on_tool_output").iter().map(|output| output["text"].clone()).collect();
    assert!(!pieces.is_empty() && of(&events, "result")[0]["result"] == "SELECT 1;", "{events:?}");
    let job_id = gateway.submit(&talk("once more")).await;
    assert_eq!(of(&gateway.events(&job_id).await, "result")[0]["result"], "Again.");
    let messages = model.asked()[1].body["messages"].clone();
    assert!(messages[0]["content"].to_string().contains("Persona"), "{messages}");
    let said = messages.to_string();
    assert!(
        said.contains("one, please") && said.contains("SELECT 1;") && said.contains("once more"),
        "{said}"
    );
    let job_id = gateway.submit(&talk("fail")).await;
    let error = of(&gateway.events(&job_id).await, "error")[0].clone();
    assert_eq!(error["reason"], "ENGINE_FAILED");
    assert!(error["message"].as_str().unwrap().contains("no such model"), "{error}");
}

/// Another gateway as an outside MCP server, over HTTP and over standard streams; one that hangs holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn tools_of_outside_servers_are_offered_and_called() {
    let other = Gateway::start();
    let hung = ModelServer::start(vec![vec![crate::support::model::Act::Silence]]).await;
    let model = ModelServer::start(vec![
        openai::call_turn(&[
            ("a", "far_get_agent_info", json!({"agent_id": "SqlExpert_Agent"})),
            ("b", "near_list_available_agents", json!({})),
        ]),
        openai::answer_turn(&["done"]),
    ])
    .await;
    let servers = json!({
        "far": {"url": other.mcp, "tools": ["get_agent_info"]},
        "near": {"command": [crate::support::BINARY, "mcp"], "environment": {"AGENT_PROVIDER": "none"}},
        "hung": {"url": hung.url("/mcp")},
    });
    let gateway = Gateway::thinking(&model, Options::default().set("agent.mcp_servers", servers));
    let job_id = gateway.submit(&json!({"command": "look around"})).await;
    let events = gateway.events(&job_id).await;
    assert_eq!(of(&events, "result")[0]["result"], "done", "{events:?}");
    let ends = of(&events, "on_tool_end");
    assert!(ends.iter().all(|end| end["is_error"] == false), "{ends:?}");
    let offered = model.asked()[0].body["tools"].to_string();
    assert!(offered.contains("far_get_agent_info") && !offered.contains("far_backup_agents"));
    let log = gateway.log.lock().unwrap().clone();
    assert!(log.contains("outside tool call"), "outside calls are in the audit log");
    // Their processes end with the gateway.
    let mut gateway = gateway;
    let marker = gateway.directory.path().display().to_string();
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(std::time::Duration::from_secs(20)).is_some());
    assert!(crate::support::alive_with(&marker).is_empty());
}
