//! The suite's tools.

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
        CreateMessageRequestParams, ElicitRequestParams, ElicitationSchema, LoggingLevel,
        LoggingMessageNotificationParam, ProgressNotificationParam, SamplingMessage, Tool,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use super::{
    content::{WAV, image, resource, text},
    fixture::{Fixture, is_sessionless},
    input,
};

const PAUSE: Duration = Duration::from_millis(50);

fn tool(name: &'static str, schema: Value) -> Tool {
    let schema = schema.as_object().cloned().unwrap_or_default();
    Tool::new(name, format!("The suite's fixture {name}"), schema)
}

fn with_text(name: &str) -> Value {
    json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]})
}

/// The first one has to work without arguments.
pub fn all() -> Vec<Tool> {
    let plain = [
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_error_handling",
        "test_tool_with_progress",
        "test_tool_with_logging",
        "test_elicitation_sep1034_defaults",
        "test_elicitation_sep1330_enums",
        "test_reconnection",
        "test_missing_capability",
        "test_streaming_elicitation",
        "test_logging_tool",
        "test_trigger_tool_change",
        "test_trigger_prompt_change",
    ];
    let mut tools: Vec<Tool> = plain
        .iter()
        .chain(input::TOOLS)
        .map(|name| tool(name, json!({"type": "object", "properties": {}})))
        .collect();
    tools.push(tool("test_sampling", with_text("prompt")));
    tools.push(tool("test_elicitation", with_text("message")));
    tools.push(tool(
        "test_custom_header",
        json!({
            "type": "object", "required": ["region"],
            "properties": {"region": {"type": "string", "description": "Region", "x-mcp-header": "Region"}},
        }),
    ));
    let address = json!({
        "$anchor": "addressDef", "type": "object",
        "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
    });
    tools.push(tool(
        "json_schema_2020_12_tool",
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "$defs": {"address": address},
            "properties": {
                "name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
                "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": {"type": "string"}, "email": {"type": "string"},
            },
            "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": {"required": ["phone"]}, "else": {"required": ["email"]},
            "additionalProperties": false,
        }),
    ));
    tools
}

fn said(request: &CallToolRequestParams, name: &str) -> String {
    let arguments = request.arguments.clone().unwrap_or_default();
    arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn done(content: Vec<ContentBlock>) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(content).into())
}

pub async fn call(
    fixture: &Fixture,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let peer = &context.peer;
    match request.name.as_ref() {
        "test_simple_text" => done(text("This is a simple text response for testing.")),
        "test_image_content" => done(vec![image()]),
        "test_audio_content" => done(vec![ContentBlock::audio(WAV, "audio/wav")]),
        "test_embedded_resource" => {
            let words = "This is an embedded resource content.";
            done(vec![resource("test://embedded-resource", "text/plain", words)])
        }
        "test_multiple_content_types" => done(vec![
            ContentBlock::text("Multiple content types test:"),
            image(),
            resource(
                "test://mixed-content-resource",
                "application/json",
                "{\"test\":\"data\",\"value\":123}",
            ),
        ]),
        "test_error_handling" => {
            Ok(CallToolResult::error(text("This tool intentionally returns an error for testing")).into())
        }
        "test_tool_with_logging" => {
            for words in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                log(&context, words).await;
                tokio::time::sleep(PAUSE).await;
            }
            done(text("logged"))
        }
        "test_logging_tool" => {
            // Without a level in the request nothing is logged.
            if !is_sessionless(&context) || context.meta.log_level().is_some() {
                log(&context, "a line of the log").await;
            }
            done(text("logged where it was wanted"))
        }
        "test_tool_with_progress" => {
            for progress in [0.0, 50.0, 100.0] {
                if let Some(token) = context.meta.get_progress_token() {
                    let param = ProgressNotificationParam::new(token, progress).with_total(100.0);
                    let _client_left = peer.notify_progress(param).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
            done(text("progressed"))
        }
        "test_reconnection" => {
            tokio::time::sleep(PAUSE * 2).await;
            done(text("reconnected"))
        }
        "test_sampling" => sample(&context, &said(&request, "prompt")).await,
        "test_elicitation" => {
            let schema = json!({
                "type": "object", "required": ["username", "email"],
                "properties": {
                    "username": {"type": "string", "description": "User's response"},
                    "email": {"type": "string", "description": "User's email address"},
                },
            });
            elicit(&context, &said(&request, "message"), schema, "User response:").await
        }
        "test_elicitation_sep1034_defaults" => {
            let schema = json!({
                "type": "object",
                "properties": {
                    "name": {"type": "string", "default": "John Doe"},
                    "age": {"type": "integer", "default": 30},
                    "score": {"type": "number", "default": 95.5},
                    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
                    "verified": {"type": "boolean", "default": true},
                },
            });
            elicit(&context, "Please check the defaults", schema, "Elicitation completed:").await
        }
        "test_elicitation_sep1330_enums" => {
            elicit(&context, "Please choose", enums(), "Elicitation completed:").await
        }
        "test_custom_header" => done(text(said(&request, "region"))),
        "test_missing_capability" => {
            let can =
                context.client_capabilities().is_some_and(|capabilities| capabilities.sampling.is_some());
            if !can {
                let wanted = ClientCapabilities::builder().enable_sampling().build();
                return Err(ErrorData::missing_required_client_capability(wanted));
            }
            done(text("the client can sample"))
        }
        "test_trigger_tool_change" => {
            let sinks: Vec<_> = fixture.sinks.lock().unwrap().values().cloned().collect();
            for sink in sinks {
                let _not_asked_for = sink.notify_tool_list_changed().await;
            }
            done(text("Tool list change triggered"))
        }
        "test_trigger_prompt_change" => {
            let sinks: Vec<_> = fixture.sinks.lock().unwrap().values().cloned().collect();
            for sink in sinks {
                let _not_asked_for = sink.notify_prompt_list_changed().await;
            }
            done(text("Prompt list change triggered"))
        }
        _ => input::call(fixture, &request, &context),
    }
}

async fn log(context: &RequestContext<RoleServer>, words: &str) {
    let param = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(words));
    let _client_left = context.peer.notify_logging_message(param).await;
}

async fn sample(context: &RequestContext<RoleServer>, prompt: &str) -> Result<CallToolResponse, ErrorData> {
    let params = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], 100);
    let answer = context.peer.create_message(params).await;
    let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let said = answer.message.content.first().and_then(|block| block.as_text().map(|text| text.text.clone()));
    done(text(format!("LLM response: {}", said.unwrap_or_default())))
}

async fn elicit(
    context: &RequestContext<RoleServer>,
    message: &str,
    schema: Value,
    before: &str,
) -> Result<CallToolResponse, ErrorData> {
    let requested_schema: ElicitationSchema =
        serde_json::from_value(schema).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let params = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema,
    };
    let answer = context.peer.create_elicitation(params).await;
    let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let action = serde_json::to_value(&answer.action).unwrap_or_default();
    let content = answer.content.unwrap_or(json!({}));
    done(text(format!("{before} action={}, content={content}", action.as_str().unwrap_or_default())))
}

fn enums() -> Value {
    let titled = |words: [&str; 3]| -> Value {
        let pairs = words.iter().enumerate();
        pairs.map(|(index, title)| json!({"const": format!("value{}", index + 1), "title": title})).collect()
    };
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
            "titledSingle": {"type": "string", "oneOf": titled(["First Option", "Second Option", "Third Option"])},
            "legacyEnum": {
                "type": "string", "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
            "titledMulti": {
                "type": "array", "items": {"anyOf": titled(["First Choice", "Second Choice", "Third Choice"])},
            },
        },
    })
}
