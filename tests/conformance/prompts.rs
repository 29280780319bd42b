//! The suite's prompts.

use std::collections::BTreeMap;

use rmcp::{
    ErrorData,
    model::{
        ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequiredResult,
        Prompt, PromptArgument, PromptMessage, Role,
    },
};
use serde_json::Value;

use super::{
    content::{image, resource},
    input::{accepted, elicitation},
};

pub fn all() -> Vec<Prompt> {
    let argument = |name: &str| PromptArgument::new(name).with_description("An argument").with_required(true);
    let prompt = |name: &str, arguments: Vec<PromptArgument>| {
        Prompt::new(name, Some("A prompt of the suite"), (!arguments.is_empty()).then_some(arguments))
    };
    vec![
        prompt("test_simple_prompt", vec![]),
        prompt("test_prompt_with_arguments", vec![argument("arg1"), argument("arg2")]),
        prompt("test_prompt_with_embedded_resource", vec![argument("resourceUri")]),
        prompt("test_prompt_with_image", vec![]),
        prompt("test_input_required_result_prompt", vec![]),
    ]
}

fn user(content: ContentBlock) -> PromptMessage {
    PromptMessage::new(Role::User, content)
}

pub fn get(request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| {
        let arguments = request.arguments.clone().unwrap_or_default();
        serde_json::to_value(arguments).unwrap_or_default()[name].as_str().unwrap_or_default().to_owned()
    };
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![user(ContentBlock::text("This is a simple prompt for testing."))],
        "test_prompt_with_arguments" => {
            let words =
                format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
            vec![user(ContentBlock::text(words))]
        }
        "test_prompt_with_embedded_resource" => vec![
            user(resource(&argument("resourceUri"), "text/plain", "Embedded resource content for testing.")),
            user(ContentBlock::text("Please process the embedded resource above.")),
        ],
        "test_prompt_with_image" => {
            vec![user(image()), user(ContentBlock::text("Please analyze the image above."))]
        }
        "test_input_required_result_prompt" => {
            let responses = request.input_responses.clone().unwrap_or_default();
            match accepted(&responses, "user_context", "context").and_then(Value::as_str) {
                Some(context) => vec![user(ContentBlock::text(format!("With the context {context}")))],
                None => {
                    let question = elicitation("What context should the prompt use?", "context", "string");
                    let requests = BTreeMap::from([("user_context".to_owned(), question)]);
                    return Ok(InputRequiredResult::from_input_requests(requests).into());
                }
            }
        }
        other => return Err(ErrorData::invalid_params(format!("there is no prompt {other}"), None)),
    };
    Ok(GetPromptResult::new(messages).into())
}
