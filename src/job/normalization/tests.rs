//! Tests of `normalization.rs`.

use super::*;
use crate::pb::{MAX_EVENT_BYTES, ToolCall};

fn call(tool: &str, arguments: &str) -> Option<Task> {
    let arguments = Some(Json { text: arguments.to_owned() });
    Some(Task { task: Some(task::Task::ToolCall(ToolCall { tool: tool.to_owned(), arguments })) })
}

#[test]
fn one_task_is_one_digest_however_it_is_spaced() {
    let digest = |tool: &str, text: &str| normal(call(tool, text), TaskOptions::default()).unwrap().digest;
    let tight = digest("get_agent_info", r#"{"agent_id":"A"}"#);
    for text in ["{\n \"agent_id\" : \"A\"\n}", "\u{FEFF}{\"agent_id\":\"A\"}", r#" {"agent_id":"\u0041"} "#]
    {
        assert_eq!(digest("get_agent_info", text), tight, "{text:?}");
    }
    assert_ne!(digest("get_agent_info", r#"{"agent_id":"B"}"#), tight);
    for nothing in [" null ", "{}", "{ }"] {
        assert_eq!(digest("get_system_config", nothing), digest("get_system_config", ""), "{nothing:?}");
    }
    let (one, other) = (r#"{"agent_id":"A","input_text":"x"}"#, r#"{"input_text":"x","agent_id":"A"}"#);
    assert_eq!(digest("execute_agent_stateless", one), digest("execute_agent_stateless", other));
}

#[test]
fn what_is_no_object_or_too_long_is_refused() {
    let refused = |text: &str| normal(call("get_agent_info", text), TaskOptions::default()).unwrap_err();
    for text in [
        "{} x",
        "{\"\\u0024serde_json::private::RawValue\":\"{}\"}",
        "{",
        "[]",
        "1",
        "{\"a\":1e400}",
        "\"{}\"",
        "{}{}",
        &"[".repeat(5000),
    ] {
        assert_eq!(refused(text).reason(), Reason::InvalidArgument, "{text:?}");
    }
    let long = format!("{{\"agent_id\":\"{}\"}}", "x".repeat(MAX_ARGUMENTS_BYTES));
    assert_eq!(refused(&long).reason(), Reason::TooLarge);
    assert_eq!(refused(&" ".repeat(9 * MAX_ARGUMENTS_BYTES).replace(' ', "\t{")).reason(), Reason::TooLarge);
    let options = TaskOptions {
        labels: (0..32).map(|n| (format!("{n:0128}"), "v".repeat(256))).collect(),
        ..TaskOptions::default()
    };
    let bytes = options.encoded_len() + MAX_ARGUMENTS_BYTES;
    assert!(bytes + 1024 < MAX_EVENT_BYTES, "the longest task fits one event: {bytes}");
}
