//! Converts the outcome of a call to MCP and back.

use rmcp::{
    ErrorData,
    model::{CallToolResult, ContentBlock, MetaObject, Resource},
};
use serde_json::{Value, json};

use crate::{
    engine::Exit,
    error::{Error, Reason, Result},
    text::bounded,
    tool::{CompletedCall, ToolResult},
};

/// An error message is cut to this many bytes; the job holds all of it.
const MAX_ERROR_BYTES: usize = 16 * 1024;
const JOB_ID: &str = "conductor.gateway/job_id";
const REASON: &str = "conductor.gateway/reason";
const IS_RETRYABLE: &str = "conductor.gateway/is_retryable";
const IS_TRUNCATED: &str = "conductor.gateway/is_truncated";
const EXIT_CODE: &str = "conductor.gateway/exit_code";
const SIGNAL: &str = "conductor.gateway/signal";

/// The beginning and the end of the URI under which a client reads the whole answer of a job.
pub(super) const RESULT_URI: (&str, &str) = ("conductor://jobs/", "/result");

pub(super) fn result_uri(job_id: &str) -> String {
    format!("{}{job_id}{}", RESULT_URI.0, RESULT_URI.1)
}

/// Converts a completed call. An error's stable code goes into `_meta` and not into `structuredContent`, because
/// clients check the latter against the output schema for errors too.
pub(super) fn to_mcp(completed: &CompletedCall, job_id: &str) -> CallToolResult {
    let mut meta = MetaObject::default();
    let mut note = |name: &str, value: Value| {
        meta.insert(name.to_owned(), value);
    };
    if !job_id.is_empty() {
        note(JOB_ID, json!(job_id));
    }
    match completed.exit {
        Some(Exit::Code(code)) => note(EXIT_CODE, json!(code)),
        Some(Exit::Signal(signal)) => note(SIGNAL, json!(signal)),
        Some(Exit::Lost) | None => {}
    }
    let mut result = match &completed.result {
        Ok(done) => {
            if done.is_truncated {
                note(IS_TRUNCATED, json!(true));
            }
            let mut result = CallToolResult::success(vec![ContentBlock::text(done.text.clone())]);
            if done.is_truncated && !job_id.is_empty() {
                let whole = Resource::new(result_uri(job_id), "result")
                    .with_description("The whole answer, of which this is the beginning")
                    .with_mime_type("text/plain");
                result.content.push(ContentBlock::resource_link(whole));
            }
            let mut value = done.value.clone();
            // A result that has a flag for being cut must agree with the cut.
            if let Some(flag @ Value::Bool(_)) = value.get_mut("is_truncated").filter(|_| done.is_truncated) {
                *flag = Value::Bool(true);
            }
            result.structured_content = Some(value);
            result
        }
        Err(error) => {
            note(REASON, json!(error.reason().name()));
            note(IS_RETRYABLE, json!(error.reason().codes().is_retryable));
            CallToolResult::error(vec![ContentBlock::text(in_words(error))])
        }
    };
    result.meta = (!meta.is_empty()).then_some(meta);
    result
}

/// Returns an error as text for a model or a person: what went wrong, what to do, whether trying again is worth it.
pub(super) fn in_words(error: &Error) -> String {
    let place = error.field().map(|field| format!("{field}: ")).unwrap_or_default();
    let retry = if error.reason().codes().is_retryable { " (the same call may work later)" } else { "" };
    format!("{}: {place}{}{retry}", error.reason().name(), bounded(error.message(), MAX_ERROR_BYTES))
}

/// Converts the result of a server, ours or another one.
pub(super) fn from_mcp(result: CallToolResult) -> (Result<ToolResult>, Option<Exit>) {
    let meta = result.meta.unwrap_or_default();
    let mut text = String::new();
    for block in &result.content {
        let part = block.as_text().map(|text| text.text.clone());
        // Content other than text is named, so that a model knows that there was something.
        let part = part.unwrap_or_else(|| {
            let kind =
                serde_json::to_value(block).ok().and_then(|value| value["type"].as_str().map(str::to_owned));
            format!("[{} content, not shown]", kind.unwrap_or_else(|| "other".to_owned()))
        });
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&part);
    }
    let number =
        |name: &str| meta.get(name).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
    let exit = number(EXIT_CODE).map(Exit::Code).or(number(SIGNAL).map(Exit::Signal));
    if result.is_error == Some(true) {
        let reason = meta.get(REASON).and_then(Value::as_str).and_then(Reason::from_name);
        let reason = reason.unwrap_or(Reason::ToolFailed);
        let message = text.strip_prefix(&format!("{}: ", reason.name())).unwrap_or(&text).to_owned();
        return (Err(Error::new(reason, message)), exit);
    }
    let is_truncated = meta.get(IS_TRUNCATED) == Some(&Value::Bool(true));
    let value = result.structured_content.unwrap_or_else(|| json!({ "text": text }));
    (Ok(ToolResult { text, value, is_truncated }), exit)
}

/// Converts an error to one of the protocol's own.
pub(super) fn to_protocol_error(error: &Error) -> ErrorData {
    match error.reason() {
        Reason::AgentNotFound | Reason::ConversationNotFound | Reason::JobNotFound => {
            ErrorData::resource_not_found(in_words(error), None)
        }
        Reason::InvalidArgument | Reason::NoResult | Reason::JobNotEnded => {
            ErrorData::invalid_params(in_words(error), None)
        }
        _ => {
            tracing::warn!(reason = error.reason().name(), cause = error.cause(), "MCP request failed");
            ErrorData::internal_error(in_words(error), None)
        }
    }
}
