//! Tests of the module above.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::llm::ToolDefinition;

fn request(told: &str) -> ModelRequest {
    let tool = |name: &str| ToolDefinition {
        name: name.to_owned(),
        description: "".into(),
        parameters: Arc::new(
            json!({"properties": {"agent_id": {"type": "string"}, "limit": {"type": "integer"}}}),
        ),
    };
    ModelRequest {
        system: String::new(),
        messages: vec![Message::User(told.to_owned())],
        tools: ["get_agent_info", "backup_agents"].map(tool).into(),
        trace: None,
    }
}

fn repaired(text: &str, told: &str) -> Result<ModelTurn, String> {
    repaired_after(text, told, "stop")
}

fn repaired_after(text: &str, told: &str, finish_reason: &'static str) -> Result<ModelTurn, String> {
    let message = AssistantMessage::new(text, Vec::new());
    let mut turn = ModelTurn { message, finish_reason, ..ModelTurn::default() };
    repair(&mut turn, &request(told)).map(|_| turn).map_err(|failure| failure.message)
}

const CALL: &str = r#"<tool_call>
{"name":"get_agent_info","arguments":{"agent_id":"7"}}
</tool_call>"#;

/// Each of these is read as that call.
#[test]
fn the_common_forms_are_made() {
    let forms = [
        CALL,
        r#"Let me look.
<tool_call>{"name": "functions.get_agent_info", "parameters": {"agent_id": "7"}}</tool_call>"#,
        r#"{"name":"get_agent_info","parameters":{"agent_id":"7"}}"#,
        r#"[{"name":"get_agent_info","arguments":"{\"agent_id\":\"7\"}"}]"#,
        r#"{"type":"function","function":{"name":"get_agent_info","arguments":{"agent_id":"7"}}}"#,
        "<tool_call>\n<function=get_agent_info>\n<parameter=agent_id>\n7\n</parameter>\n</function>\n</tool_call>",
        r#"<function=get_agent_info>{"agent_id":"7"}</function>"#,
        "<tool_call>get_agent_info\n<arg_key>agent_id</arg_key>\n<arg_value>7</arg_value>\n</tool_call>",
        r#"<function_calls><invoke name="get_agent_info"><parameter name="agent_id">7</parameter></invoke></function_calls>"#,
        r#"[TOOL_CALLS][{"name": "get_agent_info", "arguments": {"agent_id": "7"}}]"#,
        r#"[TOOL_CALLS]get_agent_info{"agent_id": "7"}"#,
        r#"<|python_tag|>{"name": "get_agent_info", "parameters": {"agent_id": "7"}}"#,
        r#"<|tool_call_begin|>functions.get_agent_info:0<|tool_call_argument_begin|>{"agent_id":"7"}<|tool_call_end|>"#,
        r#"<tool_call>{"name": "get_agent_info", "arguments": {"agent_id": "7"}}"#,
        r#"<|tool_calls_section_begin|><|tool_call_begin|>functions.get_agent_info:0<|tool_call_argument_begin|>{"agent_id":"7"}<|tool_call_end|><|tool_calls_section_end|>"#,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_agent_info\n```json\n{\"agent_id\":\"7\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "Let me see.\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_agent_info<｜tool▁sep｜>{\"agent_id\":\"7\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ];
    for (form, finish_reason) in forms.into_iter().flat_map(|form| [(form, "stop"), (form, "tool_calls")]) {
        let turn = repaired_after(form, "who is 7?", finish_reason).unwrap();
        let [call] = &turn.message.calls[..] else { panic!("{form}: {:?}", turn.message) };
        assert_eq!((call.name.as_str(), turn.finish_reason), ("get_agent_info", "tool_calls"), "{form}");
        assert_eq!(call.arguments, Ok(json!({"agent_id": "7"}).as_object().cloned().unwrap()), "{form}");
    }
    assert_eq!(repaired(&format!("I look.\n{CALL}\n{CALL}"), "").unwrap().message.calls.len(), 2);
    assert_eq!(repaired(&format!("I look.\n{CALL}"), "").unwrap().message.text, "I look.");
}

/// None of these is a call.
#[test]
fn what_is_quoted_or_was_told_is_not_made() {
    let texts = [
        format!("It is written so:\n```\n{CALL}\n```\n"),
        format!("It is written so: `{}`", CALL.replace('\n', "")),
        format!("The file says \"{CALL}\"."),
        format!("> {CALL}"),
        r#"{"name": "Ada", "parameters": {"age": 36}}"#.to_owned(),
        r#"{"name": "get_agent_info"}"#.to_owned(),
        "The tag <tool> is not one.".to_owned(),
        "plain words".to_owned(),
        r#"{"example":"<function=backup_agents></function>"}"#.to_owned(),
        format!("Write ``{}`` here", CALL.replace('\n', "")),
        format!("- ```xml\n{CALL}\n"),
        format!("````\n```\n{CALL}\n"),
        format!("The doc says \"use {} to look\".", CALL.replace('\n', "")),
        format!("<pre>\n{CALL}"),
        format!("<!-- \n{CALL}"),
        format!("> so\nit is\n{CALL}"),
        format!("    {}", CALL.replace('\n', "")),
        format!("A call looks like:\n{CALL}\nThat is the form."),
        "The markup for it is <function=backup_agents>".to_owned(),
        "Hermes models write <tool_call> before each call.".to_owned(),
        r#"[{"name":"backup_agents","description":"x","parameters":{"type":"object"}}]"#.to_owned(),
    ];
    for text in texts {
        let turn = repaired(&text, "").unwrap();
        assert!(turn.message.calls.is_empty(), "{text}");
        assert_eq!((turn.message.text.as_str(), turn.finish_reason), (text.as_str(), "stop"));
    }
    assert!(repaired_after("I call a tool now.", "", "tool_calls").unwrap_err().contains("named none"));
    // Sections without a call in them are no call.
    for empty in ["<|tool_calls_section_begin|><|tool_calls_section_end|>", "<｜tool▁calls▁begin｜>"] {
        assert!(repaired(empty, "").unwrap_err().contains("parser"), "{empty}");
    }
    // The same markup occurs in the user's question, or in a file that a tool has read.
    let escaped = CALL.replace('"', "\\\"").replace('\n', "\\n");
    let entities = CALL.replace('<', "&lt;").replace('>', "&gt;");
    for told in [format!("what does {CALL} mean?"), CALL.replace('\n', " "), escaped, entities] {
        assert!(repaired(CALL, &told).unwrap().message.calls.is_empty());
    }
    assert!(
        repaired("<tool_call>{\"name\":\"launch_rockets\",\"arguments\":{}}</tool_call>", "")
            .unwrap_err()
            .contains("parser")
    );
    for none in [
        "<tool_call>{\"name\":\"get_agent",
        "<tool_call>{\"name\":\"backup_agents\",\"params\":{\"backup_path\":\"p\"}}</tool_call>",
        "<function=backup_agents>",
        "<tool_call>{cut \"<function=backup_agents></function>\"</tool_call>",
    ] {
        assert!(repaired(none, "").unwrap_err().contains("parser"), "{none}");
    }
    assert!(repaired(&CALL.repeat(65), "").is_err(), "too many");
    let quick = std::time::Instant::now();
    let _any = repaired(&"<tool_call></tool_call>".repeat(10_000), "");
    assert!(quick.elapsed() < std::time::Duration::from_secs(1));
}

#[test]
fn decorated_names_are_known() {
    let known = |name: &str| offered(name, &request("").tools);
    for name in [
        "get_agent_info",
        "functions.get_agent_info",
        "get_agent_info<|channel|>commentary",
        "get_agent_info:3",
    ] {
        assert_eq!(known(name).as_deref(), Some("get_agent_info"), "{name}");
    }
    for name in ["get_agent", "other", "", "get_agent_info:x"] {
        assert_eq!(known(name), None, "{name}");
    }
}
