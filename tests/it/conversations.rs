//! Conversations: remembered, bounded, listed, deleted, and private to their caller with either engine.

use serde_json::{Value, json};

use crate::{
    agent::of,
    support::{Answer, Gateway, ModelServer, Options, eventually, model::openai, send},
};

/// Requests of named callers, as a proxy would send them.
struct As<'g>(&'g Gateway, &'static str);

impl As<'_> {
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let headers = [("content-type", "application/json"), ("x-caller", self.1)];
        send(&self.0.address, method, path, &headers, body.map(|body| body.to_string().into_bytes())).await
    }

    async fn talk(&self, agent_id: &str, words: &str, conversation_id: &str) -> String {
        let mut body = json!({
            "tool": "execute_agent_contextual",
            "arguments": {"agent_id": agent_id, "input_text": words},
        });
        if !conversation_id.is_empty() {
            body["conversation_id"] = json!(conversation_id);
        }
        let answer = self.send("POST", "/execute", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["result"].as_str().unwrap().to_owned()
    }

    async fn list(&self) -> Vec<Value> {
        self.send("GET", "/api/v1/conversations", None).await.json()["conversations"]
            .as_array()
            .unwrap()
            .clone()
    }
}

fn options() -> Options {
    Options::default().set("auth.caller_header", "x-caller")
}

/// B never sees A's words: not under the same names, not in listings, not by id.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_never_sees_anothers_words_with_either_engine() {
    // The real engine's stand-in keeps what it is told in the root that it runs in.
    let gateway = Gateway::mean(options());
    let (a, b) = (As(&gateway, "alice"), As(&gateway, "bob"));
    for conversation in ["", "shared-name"] {
        assert_eq!(a.talk("Mean_Agent", "remember apple", conversation).await, "");
        assert_eq!(b.talk("Mean_Agent", "remember pear", conversation).await, "");
        assert_eq!(a.talk("Mean_Agent", "remember more", conversation).await.trim(), "apple");
        assert_eq!(b.talk("Mean_Agent", "remember more", conversation).await.trim(), "pear");
    }
    // The bundled engine with a model: what is sent to the model is what would be seen.
    let model = ModelServer::start(vec![openai::answer_turn(&["noted"])]).await;
    let gateway = Gateway::thinking(&model, options());
    let (a, b) = (As(&gateway, "alice"), As(&gateway, "bob"));
    for conversation in ["", "shared-name"] {
        a.talk("SqlExpert_Agent", "the secret word is apple", conversation).await;
        b.talk("SqlExpert_Agent", "what is the secret word?", conversation).await;
    }
    // The gateway's own agent as well.
    let command = |words: &str| json!({"command": words, "conversation_id": "shared-name"});
    a.send("POST", "/execute", Some(command("the other word is banana"))).await;
    b.send("POST", "/execute", Some(command("which words do you know?"))).await;
    let asked = model.asked();
    assert_eq!(asked.len(), 6);
    for of_bob in [1, 3, 5] {
        let body = asked[of_bob].body.to_string();
        assert!(!body.contains("apple") && !body.contains("banana"), "{body}");
    }
    let ids = async |caller: &As<'_>| -> Vec<Value> {
        caller.list().await.iter().map(|conversation| conversation["conversation_id"].clone()).collect()
    };
    assert_eq!(ids(&a).await.len(), 2);
    let eve = As(&gateway, "eve");
    assert!(ids(&eve).await.is_empty());
    assert_eq!(eve.send("DELETE", "/api/v1/conversations/shared-name", None).await.status, 404);
    assert_eq!(b.send("DELETE", "/api/v1/conversations/shared-name", None).await.status, 204);
    assert_eq!((ids(&a).await.len(), ids(&b).await.len()), (2, 1));
    // And not by a job's id either.
    let jobs = a.send("GET", "/api/v1/jobs", None).await.json();
    let job_id = jobs["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    for path in ["/api/v1/jobs", "/api/v1/stream"] {
        assert_eq!(b.send("GET", &format!("{path}/{job_id}"), None).await.status, 404);
    }
    assert_eq!(
        b.send("POST", &format!("/api/v1/jobs/{job_id}/input"), Some(json!({"input_id": "x", "value": 1})))
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_remembers_a_conversation_within_its_bounds() {
    let model = ModelServer::start(vec![openai::answer_turn(&["noted"])]).await;
    let gateway = Gateway::thinking(&model, Options::default().set("agent.history_exchanges", 2));
    let say = async |words: &str, conversation: &str| {
        let body = json!({"command": words, "conversation_id": conversation});
        let job_id = gateway.submit(&body).await;
        assert_eq!(of(&gateway.events(&job_id).await, "result")[0]["result"], "noted");
    };
    for words in ["one", "two", "three", "four"] {
        say(words, "c1").await;
    }
    say("other", "c2").await;
    let asked = model.asked();
    let messages = asked[3].body["messages"].as_array().unwrap();
    let said: Vec<_> = messages.iter().filter(|message| message["role"] == "user").collect();
    assert_eq!(said.len(), 3, "two earlier exchanges and this command: {said:?}");
    assert!(!said.iter().any(|message| message["content"].to_string().contains("one")));
    assert!(!asked[4].body["messages"].to_string().contains("four"));
    // Listed and deleted over gRPC too.
    use conductor_gateway::pb;
    let mut grpc = gateway.grpc().await;
    let listed = grpc
        .list_conversations(pb::ListConversationsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .conversations;
    assert_eq!(
        listed.iter().map(|c| (c.conversation_id.as_str(), c.exchanges)).collect::<Vec<_>>(),
        [("c2", 1), ("c1", 2)]
    );
    grpc.delete_conversation(pb::DeleteConversationRequest { conversation_id: "c1".into() }).await.unwrap();
    say("five", "c1").await;
    assert!(!model.asked()[5].body["messages"].to_string().contains("four"));
}

/// A listing is a page, the latest used first; of too many, the longest unused of whoever has most go, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn conversations_come_in_pages_and_whoever_has_most_gives() {
    let gateway = Gateway::start_with(options().set("conversations.max_conversations", 7));
    let (a, b) = (As(&gateway, "alice"), As(&gateway, "bob"));
    let ids = |page: &Value| -> Vec<String> {
        let listed = page["conversations"].as_array().unwrap();
        listed.iter().map(|one| one["conversation_id"].as_str().unwrap().to_owned()).collect()
    };
    for number in 0..2 {
        b.talk("SqlExpert_Agent", "hello", &format!("b{number}")).await;
    }
    for number in 0..7 {
        a.talk("SqlExpert_Agent", "hello", &format!("a{number}")).await;
    }
    eventually(std::time::Duration::from_secs(10), "retention leaves seven", async || {
        a.list().await.len() == 5
    })
    .await;
    // Used again is the latest.
    a.talk("SqlExpert_Agent", "hello", "a3").await;
    let page = async |token: &str| {
        a.send("GET", &format!("/api/v1/conversations?page_size=2&page_token={token}"), None).await.json()
    };
    let first = page("").await;
    let second = page(first["next_page_token"].as_str().unwrap()).await;
    let last = page(second["next_page_token"].as_str().unwrap()).await;
    assert_eq!(
        (ids(&first), ids(&second), ids(&last)),
        (vec!["a3".into(), "a6".into()], vec!["a5".into(), "a4".into()], vec!["a2".into()])
    );
    assert_eq!(last["next_page_token"], "");
    assert_eq!(ids(&b.send("GET", "/api/v1/conversations", None).await.json()), ["b1", "b0"]);
    assert_eq!(a.send("GET", "/api/v1/conversations?page_token=x", None).await.status, 400);
    // The next start knows the same; what earlier builds kept in one directory is each caller's again.
    let mut gateway = gateway;
    gateway.crash();
    let root = gateway.path("conductor-data/conversations");
    for of_caller in std::fs::read_dir(&root).unwrap().map(Result::unwrap) {
        for one in std::fs::read_dir(of_caller.path()).unwrap().map(Result::unwrap) {
            std::fs::rename(one.path(), root.join(one.file_name())).unwrap();
        }
        std::fs::remove_dir(of_caller.path()).unwrap();
    }
    std::fs::write(gateway.path("conductor-data/format"), "2\n").unwrap();
    let gateway = gateway.restart();
    let (a, b) = (As(&gateway, "alice"), As(&gateway, "bob"));
    assert_eq!((a.list().await.len(), b.list().await.len()), (5, 2));
    assert_eq!(a.send("DELETE", "/api/v1/conversations/a3", None).await.status, 204);
    assert_eq!(a.list().await.len(), 4);
}

/// A conversation that a job uses is not deleted under it.
/// The jobs of a conversation are found by its name, wherever that was given.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversations_jobs_are_found() {
    let gateway = Gateway::start();
    let within = json!({"agent_id": "SqlExpert_Agent", "input_text": "x", "conversation_id": "one"});
    for body in [
        json!({"tool": "execute_agent_contextual", "arguments": within}),
        json!({"agent_id": "SqlExpert_Agent", "input_text": "x", "conversation_id": "one"}),
        json!({"agent_id": "SqlExpert_Agent", "input_text": "x", "conversation_id": "other"}),
    ] {
        assert_eq!(gateway.post("/execute", &body).await.status, 200, "{body}");
    }
    assert_eq!(gateway.listed("conversation_id=one").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_in_use_is_not_deleted() {
    let gateway = Gateway::mean(Options::default().set("conductor.kill_grace_seconds", 1));
    let body = json!({"agent_id": "Mean_Agent", "input_text": "hang", "conversation_id": "busy"});
    let job_id = gateway.submit(&body).await;
    gateway.sse(&job_id, 0).await.until("on_tool_output").await;
    let delete = async || send(&gateway.address, "DELETE", "/api/v1/conversations/busy", &[], None).await;
    let refused = delete().await;
    assert_eq!((refused.status, &refused.json()["reason"]), (409, &json!("BUSY")));
    gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
    assert_eq!(delete().await.status, 204);
}

/// An MCP client forgets with `clear_agent_history`; with the last agent the conversation goes.
#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_client_lists_and_clears_its_conversations() {
    use rmcp::{model::CallToolRequestParams, service::ClientLifecycleMode};
    let gateway = Gateway::start();
    let client =
        crate::mcp::connect(&gateway.mcp, crate::mcp::Client::default(), ClientLifecycleMode::Initialize)
            .await;
    let call = async |tool: &'static str, arguments: serde_json::Value| {
        let params = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
        let result = client.call_tool(params).await.unwrap();
        assert_eq!(result.is_error, Some(false), "{result:?}");
    };
    let agents = ["SqlExpert_Agent", "CodeReviewer_Agent"];
    for agent_id in agents {
        let said = json!({"agent_id": agent_id, "input_text": "hello", "conversation_id": "c9"});
        call("execute_agent_contextual", said).await;
    }
    let is_listed = async || {
        let resources = client.list_all_resources().await.unwrap();
        resources.iter().any(|resource| resource.uri == "conductor://conversations/c9")
    };
    for (agent_id, is_left) in agents.into_iter().zip([true, false]) {
        assert!(is_listed().await);
        let clear = json!({"agent_id": agent_id, "conversation_id": "c9", "confirm": agent_id});
        call("clear_agent_history", clear).await;
        assert_eq!(is_listed().await, is_left);
    }
    client.cancel().await.unwrap();
}
