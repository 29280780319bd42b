//! Streams as bytes and their meaning, without a socket. However a stream is split, its meaning is the same.

mod responses;

use serde_json::{Value, json};

use super::replay::{ReplayedAnswer, replay};
use crate::llm::{Api, Provider};

const CHAT: (Provider, Api) = (Provider::OpenAi, Api::Chat);
const MESSAGES: (Provider, Api) = (Provider::Anthropic, Api::Chat);
const GEMINI: (Provider, Api) = (Provider::Gemini, Api::Chat);

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
#[test]
fn streams_mean_the_same_however_they_are_cut() {
    hold(table());
}

/// Replays each stream in pieces of each size.
fn hold(rows: impl IntoIterator<Item = Row>) {
    for (provider, stream, text, reasoning, calls, end) in rows {
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
