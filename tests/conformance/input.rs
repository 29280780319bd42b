//! The tools that ask by their result: the client answers by calling again (2026-07-28).

use std::collections::BTreeMap;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CreateMessageRequest,
        CreateMessageRequestParams, ElicitRequest, ElicitRequestParams, InputRequest, InputRequests,
        InputRequiredResult, InputResponses, ListRootsRequest, SamplingMessage,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use super::{content::text, fixture::Fixture};

pub const TOOLS: &[&str] = &[
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
];

pub fn elicitation(message: &str, field: &str, kind: &str) -> InputRequest {
    let schema = json!({"type": "object", "properties": {field: {"type": kind}}, "required": [field]});
    InputRequest::Elicitation(ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema: serde_json::from_value(schema).expect("a schema of the suite"),
    }))
}

fn sampling(words: &str, max_tokens: u32) -> InputRequest {
    let params = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(words)], max_tokens);
    InputRequest::CreateMessage(CreateMessageRequest::new(params))
}

fn roots() -> InputRequest {
    InputRequest::ListRoots(ListRootsRequest::default())
}

fn ask(requests: &[(&str, InputRequest)], state: Option<String>) -> Result<CallToolResponse, ErrorData> {
    let requests: InputRequests = requests
        .iter()
        .map(|(key, request)| ((*key).to_owned(), request.clone()))
        .collect::<BTreeMap<_, _>>();
    Ok(InputRequiredResult::new(Some(requests), state).into())
}

fn done(words: impl Into<String>) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(text(words)).into())
}

/// The accepted content's field of an answer.
pub fn accepted<'r>(responses: &'r InputResponses, key: &str, field: &str) -> Option<&'r Value> {
    let response = responses.get(key)?;
    (response.get("action")? == "accept").then_some(())?;
    response.get("content")?.get(field)
}

pub fn call(
    fixture: &Fixture,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let empty = InputResponses::new();
    let responses = request.input_responses.as_ref().unwrap_or(&empty);
    let seal = |value: &Value| {
        fixture.codec.seal_json(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    };
    let state: Option<Value> = match &request.request_state {
        Some(sealed) => Some(
            fixture
                .codec
                .open_json(sealed)
                .map_err(|_| ErrorData::invalid_params("the request state is not one of ours", None))?,
        ),
        None => None,
    };
    let name = elicitation("What is your name?", "name", "string");
    match request.name.as_ref() {
        "test_streaming_elicitation" | "test_input_required_result_elicitation" => {
            match accepted(responses, "user_name", "name").and_then(Value::as_str) {
                Some(name) => done(format!("Hello, {name}!")),
                None => ask(&[("user_name", name)], None),
            }
        }
        "test_input_required_result_sampling" => match responses.get("capital_question") {
            Some(answer) => done(answer["content"]["text"].as_str().unwrap_or_default()),
            None => ask(&[("capital_question", sampling("What is the capital of France?", 100))], None),
        },
        "test_input_required_result_list_roots" => match responses.get("client_roots") {
            Some(answer) => done(format!("Roots: {}", answer["roots"])),
            None => ask(&[("client_roots", roots())], None),
        },
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            match (accepted(responses, "confirm", "ok"), state) {
                (Some(_), Some(_)) => done("state-ok"),
                _ => {
                    let state = seal(&json!({"for": request.name}))?;
                    ask(&[("confirm", elicitation("Please confirm", "ok", "boolean"))], Some(state))
                }
            }
        }
        "test_input_required_result_multiple_inputs" => {
            let is_complete =
                ["user_name", "greeting", "client_roots"].iter().all(|key| responses.contains_key(*key));
            if is_complete && state.is_some() {
                return done("all three were answered");
            }
            let wanted = [
                ("user_name", name),
                ("greeting", sampling("Generate a greeting", 50)),
                ("client_roots", roots()),
            ];
            ask(&wanted, Some(seal(&json!("several"))?))
        }
        "test_input_required_result_multi_round" => {
            let color = accepted(responses, "step2", "color").and_then(Value::as_str);
            let named = accepted(responses, "step1", "name").and_then(Value::as_str);
            match (state.as_ref().map(|state| &state["name"]), named, color) {
                (Some(Value::String(name)), _, Some(color)) => done(format!("{name} likes {color}")),
                (Some(_), Some(name), _) => {
                    let question = elicitation("Step 2: What is your favorite color?", "color", "string");
                    ask(&[("step2", question)], Some(seal(&json!({"round": 2, "name": name}))?))
                }
                _ => {
                    let question = elicitation("Step 1: What is your name?", "name", "string");
                    ask(&[("step1", question)], Some(seal(&json!({"round": 1}))?))
                }
            }
        }
        "test_input_required_result_capabilities" => {
            if !responses.is_empty() {
                return done("answered");
            }
            let capabilities = context.client_capabilities().unwrap_or_default();
            let mut wanted = Vec::new();
            if capabilities.sampling.is_some() {
                wanted.push(("sampled", sampling("Say something", 50)));
            }
            if capabilities.elicitation.is_some() {
                wanted.push(("user_name", name));
            }
            if capabilities.roots.is_some() {
                wanted.push(("client_roots", roots()));
            }
            ask(&wanted, None)
        }
        other => Err(ErrorData::invalid_params(format!("there is no tool {other}"), None)),
    }
}
