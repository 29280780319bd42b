//! What model calls take and cost: cached and reasoning tokens of every wire, prices, and the limit of a job's cost.

use serde_json::{Value, json};

use crate::{
    agent::of,
    support::{
        Gateway, ModelServer, Options,
        model::{Script, openai, stream},
        providers::anthropic,
    },
};

fn priced() -> Options {
    let prices = json!({"scripted-*": {"input": 2, "output": "8", "cached_input": 0.5, "cache_write": 2.5}});
    Options::default()
        .set("agent.provider", "openai")
        .set("agent.model", "scripted-1")
        .set("agent.max_attempts", 1)
        .set("agent.prices", prices)
}

async fn start(options: Options, scripts: Vec<Script>) -> (ModelServer, Gateway) {
    let model = ModelServer::start(scripts).await;
    let gateway = Gateway::start_with(options.set("agent.base_url", model.url("/v1")));
    (model, gateway)
}

async fn run(gateway: &Gateway, further: Value) -> Vec<Value> {
    let mut body = json!({"command": "say what there is"});
    body.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let job_id = gateway.submit(&body).await;
    gateway.events(&job_id).await
}

/// A turn that calls a tool, or answers, with this usage.
fn turn(is_call: bool, usage: &Value) -> Script {
    let said = match is_call {
        true => openai::call(0, "a", "get_system_config", &json!({})) + &openai::finish("tool_calls"),
        false => openai::text("done") + &openai::finish("stop"),
    };
    stream(said + &openai::data(&json!({"choices": [], "usage": usage})) + openai::DONE)
}

fn reason(events: &[Value]) -> &str {
    of(events, "error").first().and_then(|error| error["reason"].as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_priced_and_summed_up() {
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 600}, "completion_tokens_details": {"reasoning_tokens": 40}});
    let said = json!({"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "cost": 1.5e-7});
    let (_model, gateway) = start(priced(), vec![turn(true, &usage), turn(false, &said)]).await;
    let job_id = gateway.submit(&json!({"command": "say what there is"})).await;
    let events = gateway.events(&job_id).await;
    let calls = of(&events, "on_llm_end");
    // 400 at 2, 600 at 0.5 and 100 at 8 dollars a million.
    assert_eq!(
        calls[0]["usage"],
        json!({"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100, "cached_input_tokens": 600,
            "reasoning_tokens": 40, "cost": "0.0019", "cost_basis": "PRICES"})
    );
    assert_eq!(calls[1]["usage"]["cost"], "0.00000015");
    assert_eq!(calls[1]["usage"]["cost_basis"], "PROVIDER");
    let sum = json!({"input_tokens": 1010, "output_tokens": 101, "total_tokens": 1111, "cached_input_tokens": 600,
        "reasoning_tokens": 40, "tool_calls": 1, "cost": "0.00190015", "cost_basis": "MIXED"});
    assert_eq!(of(&events, "on_chain_end")[0]["usage"], sum);
    let job = gateway.job(&job_id).await;
    assert_eq!(job["usage"], sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_when_it_has_cost_what_it_may() {
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000});
    let (model, gateway) = start(priced(), vec![turn(true, &usage)]).await;
    // Each call costs one cent; the second reaches it, and its tools are not called any more.
    let events = run(&gateway, json!({"max_cost": 0.02})).await;
    assert_eq!((reason(&events), of(&events, "on_llm_end").len()), ("COST_LIMIT", 2));
    assert_eq!(of(&events, "on_tool_start").len(), 1);
    assert_eq!(of(&events, "on_chain_end")[0]["usage"]["cost"], "0.02");
    assert_eq!(model.asked().len(), 2);
    for wrong in [json!("much"), json!(-1), json!("1,5"), json!([1])] {
        let refused = gateway.post("/execute", &json!({"command": "x", "max_cost": wrong})).await;
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.text());
        assert!(refused.text().contains("\"field\":\"max_cost\""), "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_cost_is_no_cost_of_nothing() {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11});
    let scripts = vec![turn(true, &usage), turn(false, &usage)];
    let (_model, gateway) = start(priced().set("agent.model", "other"), scripts).await;
    let events = run(&gateway, json!({"max_cost": "5"})).await;
    assert_eq!((reason(&events), of(&events, "on_tool_start").len()), ("COST_LIMIT", 0));
    assert!(of(&events, "error")[0]["message"].as_str().unwrap().contains("agent.prices"), "{events:?}");
    assert!(of(&events, "on_chain_end")[0]["usage"].get("cost").is_none(), "{events:?}");
    // An answer that is there is there.
    let events = run(&gateway, json!({"max_cost": "5"})).await;
    assert_eq!(reason(&events), "", "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_answer_took_is_counted() {
    let cut = openai::call(0, "a", "get_system_config", &json!({})) + &openai::finish("length");
    let usage =
        openai::data(&json!({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}}));
    let (_model, gateway) = start(priced(), vec![stream(cut + &usage + openai::DONE)]).await;
    let events = run(&gateway, json!({})).await;
    assert_eq!(reason(&events), "MODEL_FAILED", "{events:?}");
    let sum = &of(&events, "on_chain_end")[0]["usage"];
    assert_eq!((&sum["total_tokens"], &sum["cost"]), (&json!(2000), &json!("0.01")));
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_is_told_what_stays_the_same() {
    let started = json!({"message": {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
        "usage": {"input_tokens": 100, "cache_read_input_tokens": 2000, "cache_creation_input_tokens": 400, "output_tokens": 1}}});
    let turn = |block: String, reason: &str| {
        let end = anthropic::event(
            "message_delta",
            json!({"delta": {"stop_reason": reason}, "usage": {"output_tokens": 50}}),
        ) + &anthropic::event("message_stop", json!({}));
        stream(anthropic::event("message_start", started.clone()) + &block + &end)
    };
    let scripts = vec![
        turn(anthropic::tool_block(0, "t1", "get_system_config", &["{}"]), "tool_use"),
        turn(anthropic::text_block(0, &["done"]), "end_turn"),
    ];
    let options = priced().set("agent.provider", "anthropic");
    let (model, gateway) = start(options, scripts).await;
    let events = run(&gateway, json!({})).await;
    assert_eq!(
        of(&events, "on_llm_end")[0]["usage"],
        // 100 at 2, 2,000 at 0.5, 400 at 2.5 and 50 at 8 dollars a million.
        json!({"input_tokens": 2500, "output_tokens": 50, "total_tokens": 2550, "cached_input_tokens": 2000,
            "cache_write_tokens": 400, "cost": "0.0026", "cost_basis": "PRICES"})
    );
    let mark = json!({"type": "ephemeral"});
    for asked in model.asked() {
        let body = asked.body;
        // The tools stand before the system's text, and are under its mark.
        assert_eq!(body["system"][0]["cache_control"], mark, "{body}");
        let messages = body["messages"].as_array().unwrap();
        let last = messages.last().unwrap()["content"].as_array().unwrap().last().unwrap();
        assert_eq!(last["cache_control"], mark, "{last}");
        assert_eq!(body.to_string().matches("cache_control").count(), 2, "{body}");
    }
    let off = priced().set("agent.provider", "anthropic").set("agent.prompt_caching", false);
    let (model, gateway) = start(off, vec![turn(anthropic::text_block(0, &["done"]), "end_turn")]).await;
    run(&gateway, json!({})).await;
    assert!(!model.asked()[0].body.to_string().contains("cache_control"));
}
