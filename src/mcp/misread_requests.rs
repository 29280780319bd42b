//! Requests that the protocol's library could not read as what their method says, because a member is missing or of
//! another type. The library answers that there is no such method; here they are read again, and the client learns what
//! is wrong.

#![expect(deprecated, reason = "clients of older versions still subscribe and set a log level")]

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CompleteRequestParams, CustomRequest, CustomResult, ErrorCode,
        GetPromptRequestParams, PaginatedRequestParams, ReadResourceRequestParams, ServerResult,
        SetLevelRequestParams, SubscribeRequestParams, UnsubscribeRequestParams,
    },
    service::RequestContext,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{elicitation::is_sessionless, server::McpHandler};
use crate::{json_rpc::wrong_params, lenient_json, text::quoted};

/// Methods that the protocol version without sessions does not have.
const WITH_SESSIONS: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

fn unknown(method: &str) -> ErrorData {
    let message = format!("there is no method `{}`", quoted(method));
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None)
}

/// Returns the error for a method whose parameters were not read as `T`, with what is wrong where that shows.
fn check<T: DeserializeOwned>(method: &str, params: Value) -> ErrorData {
    match serde_json::from_value::<T>(params) {
        Ok(_) => ErrorData::invalid_params(format!("{method}: the parameters could not be read"), None),
        Err(error) => ErrorData::invalid_params(wrong_params(method, &error), None),
    }
}

/// Parses `arguments` that are a string holding a JSON object, as some models' clients send them.
fn with_arguments_read(mut params: Value) -> Value {
    let text = params.get("arguments").and_then(Value::as_str).unwrap_or_default();
    if let Some(read) = lenient_json::parse_strict(text).filter(Value::is_object) {
        params["arguments"] = read;
    }
    params
}

impl McpHandler {
    pub(super) async fn explain_misread(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method.as_str();
        let params = match request.params {
            Some(params) if params.is_object() => params,
            None | Some(Value::Null) => json!({}),
            Some(Value::Array(items)) if items.is_empty() => json!({}),
            Some(_) => {
                return Err(ErrorData::invalid_params(
                    format!("{}: params must be an object", quoted(method)),
                    None,
                ));
            }
        };
        let is_known = !(is_sessionless(&context) && WITH_SESSIONS.contains(&method));
        Err(match method {
            _ if !is_known => unknown(method),
            "tools/call" => {
                let params = with_arguments_read(params);
                match serde_json::from_value::<CallToolRequestParams>(params) {
                    Ok(request) => {
                        let answer = Box::pin(self.call_tool(request, context)).await?;
                        let answer = serde_json::to_value(ServerResult::from(answer));
                        return answer
                            .map(CustomResult::new)
                            .map_err(|error| ErrorData::internal_error(error.to_string(), None));
                    }
                    Err(error) => ErrorData::invalid_params(wrong_params(method, &error), None),
                }
            }
            "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
                check::<PaginatedRequestParams>(method, params)
            }
            "prompts/get" => check::<GetPromptRequestParams>(method, params),
            "resources/read" => check::<ReadResourceRequestParams>(method, params),
            "resources/subscribe" => check::<SubscribeRequestParams>(method, params),
            "resources/unsubscribe" => check::<UnsubscribeRequestParams>(method, params),
            "completion/complete" => check::<CompleteRequestParams>(method, params),
            "logging/setLevel" => check::<SetLevelRequestParams>(method, params),
            "ping" | "initialize" | "server/discover" | "subscriptions/listen" => {
                ErrorData::invalid_params(format!("{method}: the parameters could not be read"), None)
            }
            _ => unknown(method),
        })
    }
}
