//! Streams of OpenAI's responses API.

use serde_json::{Value, json};

use super::{Row, data, hold};
use crate::llm::{Api, Provider};

const RESPONSES: (Provider, Api) = (Provider::OpenAi, Api::Responses);

/// Streams of the Responses API, as OpenAI and as imitating servers send them.
fn responses() -> Vec<Row> {
    let event = |kind: &str, mut rest: Value| {
        rest["type"] = json!(kind);
        rest
    };
    let added = |place: u32, item: Value| {
        event("response.output_item.added", json!({"output_index": place, "item": item}))
    };
    let done = |place: u32, item: Value| {
        event("response.output_item.done", json!({"output_index": place, "item": item}))
    };
    let words = |place: u32, text: &str| {
        event(
            "response.output_text.delta",
            json!({"output_index": place, "content_index": 0, "item_id": format!("i{place}"), "delta": text}),
        )
    };
    let said = |text: &str| json!({"type": "message", "id": "i1", "role": "assistant", "content": [{"type": "output_text", "text": text}]});
    let call = |arguments: &str| json!({"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": arguments});
    let end = |status: &str, rest: Value| {
        let mut response = rest;
        response["status"] = json!(status);
        event(&format!("response.{status}"), json!({"response": response}))
    };
    let whole = |output: Value| {
        end("completed", json!({"output": output, "usage": {"input_tokens": 3, "output_tokens": 4}}))
    };
    let thought = |place: u32, text: &str| {
        event(
            "response.reasoning_summary_text.delta",
            json!({"output_index": place, "summary_index": 0, "delta": text}),
        )
    };
    let part = event("response.reasoning_summary_part.added", json!({"output_index": 0, "summary_index": 0}));
    let reasoning = json!({"type": "reasoning", "id": "i0", "summary": [{"type": "summary_text", "text": "hm\n\nso"}], "encrypted_content": "x"});
    let row = |events: &[Value], text, reasoning, calls, end| {
        (RESPONSES, data(events), text, reasoning, calls, end)
    };
    vec![
        row(
            &[
                event("response.created", json!({"response": {"status": "in_progress", "error": null}})),
                added(0, json!({"type": "reasoning", "id": "i0"})),
                part.clone(),
                thought(0, "hm"),
                part,
                thought(0, "so"),
                done(0, reasoning.clone()),
                added(1, json!({"type": "message", "id": "i1", "content": []})),
                words(1, "a"),
                words(1, "ção"),
                done(1, said("ação")),
                whole(json!([reasoning, said("ação")])),
            ],
            "ação",
            "hm\n\nso",
            vec![],
            "stop",
        ),
        row(
            &[
                added(0, call("")),
                event(
                    "response.function_call_arguments.delta",
                    json!({"output_index": 0, "item_id": "fc", "delta": "{\"a\":"}),
                ),
                event(
                    "response.function_call_arguments.delta",
                    json!({"output_index": 0, "item_id": "fc", "delta": "1}"}),
                ),
                event(
                    "response.function_call_arguments.done",
                    json!({"output_index": 0, "item_id": "fc", "arguments": "{\"a\":1}"}),
                ),
                done(0, call("{\"a\":1}")),
                whole(json!([call("{\"a\":1}")])),
            ],
            "",
            "",
            vec![("f", json!({"a": 1}))],
            "tool_calls",
        ),
        // Only the final event.
        row(
            &[whole(json!([reasoning, said("all"), call("{}")]))],
            "all",
            "hm\n\nso",
            vec![("f", json!({}))],
            "tool_calls",
        ),
        // The final event has a new id and position.
        row(
            &[
                words(3, "once"),
                whole(
                    json!([{"type": "message", "id": "other", "content": [{"type": "output_text", "text": "once"}]}]),
                ),
            ],
            "once",
            "",
            vec![],
            "stop",
        ),
        // No positions, no ids, no end of the item.
        row(
            &[event("response.output_text.delta", json!({"delta": "x"})), whole(json!([said("xy")]))],
            "xy",
            "",
            vec![],
            "stop",
        ),
        row(
            &[
                words(0, "x"),
                end("incomplete", json!({"incomplete_details": {"reason": "max_output_tokens"}})),
            ],
            "x",
            "",
            vec![],
            "length",
        ),
        row(
            &[words(0, "x"), end("incomplete", json!({"incomplete_details": {"reason": "content_filter"}}))],
            "x",
            "",
            vec![],
            "the provider filtered the answer (content_filter); say it in other words",
        ),
        row(
            &[
                words(0, "x"),
                end("failed", json!({"error": {"code": "server_error", "message": "it broke"}})),
            ],
            "x",
            "",
            vec![],
            "the model's server reported an error: it broke",
        ),
        row(
            &[event("error", json!({"code": "rate_limit_exceeded", "message": "slowly"}))],
            "",
            "",
            vec![],
            "the model's server reported an error: slowly",
        ),
        row(
            &[event("response.refusal.delta", json!({"output_index": 0, "delta": "no"})), whole(json!([]))],
            "",
            "",
            vec![],
            "the model refuses: no",
        ),
        row(
            &[words(0, "x")],
            "x",
            "",
            vec![],
            "the model's server closed the connection in the middle of its answer",
        ),
        row(
            &[done(0, json!({"type": "computer_call", "action": {"type": "click"}})), whole(json!([]))],
            "",
            "",
            vec![],
            "the model's server sent a part that this gateway cannot read, and what it says would be lost: an item of the type computer_call: {\"type\":\"computer_call\",\"action\":{\"type\":\"click\"}}",
        ),
    ]
}

#[test]
fn streams_mean_the_same_however_they_are_cut() {
    hold(responses());
}
