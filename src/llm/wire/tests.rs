//! Streams as bytes and their meaning, without a socket. However a stream is split, its meaning is the same.

use serde_json::{Value, json};

use super::replay::{ReplayedAnswer, replay};
use crate::llm::{Api, Provider};

const CHAT: (Provider, Api) = (Provider::OpenAi, Api::Chat);
const MESSAGES: (Provider, Api) = (Provider::Anthropic, Api::Chat);
const GEMINI: (Provider, Api) = (Provider::Gemini, Api::Chat);
const RESPONSES: (Provider, Api) = (Provider::OpenAi, Api::Responses);

fn data(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("data: {document}\n\n")).collect()
}

fn chat(deltas: &[Value], finish: &str) -> String {
    let chunk = |delta: &Value| json!({"choices": [{"index": 0, "delta": delta}]});
    let mut all: Vec<Value> = deltas.iter().map(chunk).collect();
    all.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}));
    data(&all)
}

/// The provider and protocol, the bytes, the text, the reasoning, the calls, and how the answer ends.
type Row = ((Provider, Api), String, &'static str, &'static str, Vec<(&'static str, Value)>, &'static str);

fn table() -> Vec<Row> {
    let gemini = |parts: Value, finish: Value| json!({"candidates": [{"content": {"parts": parts}, "finishReason": finish}]});
    let half = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    vec![
        (
            CHAT,
            chat(&[json!({"content": "a"}), json!({"content": "ção"})], "stop"),
            "ação",
            "",
            vec![],
            "stop",
        ),
        (CHAT, half("ok \\ud83d") + &half("\\ude00") + "data: [DONE]\n\n", "ok 😀", "", vec![], "stop"),
        (
            CHAT,
            chat(&[json!({"reasoning_content": "hm", "reasoning": "hm"}), json!({"content": "x"})], "stop"),
            "x",
            "hm",
            vec![],
            "stop",
        ),
        (
            CHAT,
            chat(
                &[
                    json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "x"]}),
                ],
                "eos",
            ),
            "x",
            "hm",
            vec![],
            "stop",
        ),
        (CHAT, chat(&[json!({"content": "<think>hm</think>\n\nx"})], "stop"), "x", "hm", vec![], "stop"),
        (
            CHAT,
            chat(
                &[json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"a": 2.0}}}]})],
                "tool_call",
            ),
            "",
            "",
            vec![("f", json!({"a": 2.0}))],
            "tool_calls",
        ),
        (
            CHAT,
            chat(&[json!({"content": "x"})], "moon"),
            "x",
            "",
            vec![],
            "the model stopped for a reason that is no success: moon",
        ),
        (
            CHAT,
            half("x"),
            "x",
            "",
            vec![],
            "the model's server closed the connection in the middle of its answer",
        ),
        (
            MESSAGES,
            data(&[
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 3}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "h"}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}}),
                json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
                json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
                json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "1}"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
            ]),
            "",
            "hm",
            vec![("f", json!({"a": 1}))],
            "tool_calls",
        ),
        (
            MESSAGES,
            data(&[
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "hologram", "beams": "x"}}),
            ]),
            "",
            "",
            vec![],
            "the model's server sent a part that this gateway cannot read, and what it says would be lost: a block of the type hologram: {\"type\":\"hologram\",\"beams\":\"x\"}",
        ),
        (
            GEMINI,
            data(&[
                gemini(json!([{"text": "hm", "thought": true}, {"text": "x"}]), Value::Null),
                gemini(json!([{"functionCall": {"name": "f", "args": {}}}]), Value::Null),
                gemini(json!([{"functionCall": {"args": {"a": 1}}}]), json!("STOP")),
            ]),
            "x",
            "hm",
            vec![("f", json!({"a": 1}))],
            "tool_calls",
        ),
        (
            GEMINI,
            data(&[gemini(json!([{"functionCall": {"name": "f", "args": "{\"a\": 1}"}}]), json!("STOP"))]),
            "",
            "",
            vec![("f", json!({"a": 1}))],
            "tool_calls",
        ),
        (
            GEMINI,
            data(&[gemini(
                json!([{"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}}, {"functionCall": {"id": "2", "args": {"a": 2}}}]),
                json!("STOP"),
            )]),
            "",
            "",
            vec![],
            "the model made a call without a name, which cannot be made",
        ),
        (
            GEMINI,
            data(&[gemini(json!([{"text": "x"}]), json!("SAFETY")), gemini(json!([]), json!("STOP"))]),
            "x",
            "",
            vec![],
            "the provider filtered the answer (SAFETY); say it in other words",
        ),
        (
            CHAT,
            chat(
                &[
                    json!({"tool_calls": [{"index": 0, "id": "a", "type": "tool_use", "name": "f", "input": {"a": 1}}]}),
                ],
                "stop",
            ),
            "",
            "",
            vec![("f", json!({"a": 1}))],
            "tool_calls",
        ),
        (
            CHAT,
            chat(
                &[
                    json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}),
                    json!({"tool_calls": [{"index": 1, "id": "b", "function": {"arguments": "{\"a\": 1}"}}]}),
                ],
                "stop",
            ),
            "",
            "",
            vec![],
            "the model made a call without a name, which cannot be made",
        ),
        (
            CHAT,
            chat(
                &[
                    json!({"tool_calls": [{"index": 0, "id": "", "function": {"name": "f", "arguments": ""}}]}),
                    json!({"tool_calls": [{"index": 0, "id": "", "function": {"name": "g", "arguments": "{\"a\": 1}"}}]}),
                ],
                "stop",
            ),
            "",
            "",
            vec![("f", json!({})), ("g", json!({"a": 1}))],
            "tool_calls",
        ),
        (
            CHAT,
            chat(&[json!({"content": "x"})], "stop") + &chat(&[], "content_filter"),
            "x",
            "",
            vec![],
            "the provider filtered the answer (content_filter); say it in other words",
        ),
        (
            CHAT,
            chat(&[json!({"content": "x"})], "stop") + "data: {\"choices\":[],\"usage\":{\"prom",
            "x",
            "",
            vec![],
            "stop",
        ),
        (
            CHAT,
            "data: {\"error\":{\"message\":\"no credits\",\"code\":402}}".to_owned(),
            "",
            "",
            vec![],
            "the model's server answered HTTP 402: no credits",
        ),
        (
            CHAT,
            data(&[
                json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}}]}),
            ]) + "data: [DONE]\n\n",
            "",
            "",
            vec![],
            "the model's server closed the connection in the middle of its answer",
        ),
        (
            MESSAGES,
            data(&[
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {"text": ""}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "u", "name": "g", "input": {}}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"input_tokens": 18_446_744_073_709_551_615_u64, "cache_read_input_tokens": 1}}),
            ]),
            "",
            "",
            vec![("f", json!({"text": ""})), ("g", json!({}))],
            "tool_calls",
        ),
        (GEMINI, data(&[gemini(json!([]), json!("STOP"))]), "", "", vec![], "the model's answer was empty"),
    ]
}

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
    for (provider, stream, text, reasoning, calls, end) in table().into_iter().chain(responses()) {
        let expected = ReplayedAnswer {
            text: text.into(),
            reasoning: reasoning.into(),
            calls: calls.into_iter().map(|(name, arguments)| (name.to_owned(), arguments)).collect(),
            end: end.into(),
        };
        for size in (1..20).chain([stream.len()]) {
            assert_eq!(
                replay(provider, stream.as_bytes(), size),
                expected,
                "{provider:?} in pieces of {size}: {stream}"
            );
        }
        let stream = stream.replace('\n', "\r\n");
        assert_eq!(replay(provider, stream.as_bytes(), 5), expected, "{provider:?}: {stream}");
    }
}
