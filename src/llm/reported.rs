//! Errors as servers report them, in whatever envelope: the body of a refusal, an event within a stream, or a document where a
//! stream was expected.

use std::time::Duration;

use serde_json::Value;

use super::{FailureKind, ModelFailure, SelectedModel};

/// How many characters of a server's message are shown.
const MAX_SHOWN_CHARACTERS: usize = 500;

/// Returns a server's message shortened, without control characters and secrets.
pub(super) fn shown(text: &str, selected: &SelectedModel) -> String {
    let text = selected.scrub(text);
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let short: String = plain.trim().chars().take(MAX_SHOWN_CHARACTERS).collect();
    if short.len() < plain.trim().len() { format!("{short}…") } else { short }
}

/// Returns the error that a server's document is or contains, or `None`. `event` is the name of the event in which it came.
pub(super) fn in_document<'a>(event: &str, document: &'a Value) -> Option<&'a Value> {
    let document = document.as_array().and_then(|documents| documents.first()).unwrap_or(document);
    let says = |member: &str| document.get(member).and_then(Value::as_str) == Some("error");
    match document.get("error") {
        Some(Value::Null) | None if event == "error" || says("object") || says("type") => Some(document),
        Some(Value::Null) | None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::Object(members)) if members.is_empty() => None,
        Some(error) if error.is_object() || error.is_string() => Some(error),
        Some(Value::Bool(true)) => Some(document),
        // `false` and `0` mean that there is no error.
        Some(_) => None,
    }
}

/// Converts an error to a failure that says whether a retry may succeed, and when. `status` is the HTTP status if it
/// was not a success.
pub(super) fn failure(error: &Value, status: Option<u16>, selected: &SelectedModel) -> ModelFailure {
    let status = status.or_else(|| code(error));
    let names: Vec<&str> =
        ["type", "code", "status"].iter().filter_map(|member| error.get(*member)?.as_str()).collect();
    let is = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.to_ascii_lowercase().as_str()));
    let kind = match status {
        // Waiting does not restore a quota that has to be paid for.
        _ if is(&["insufficient_quota", "billing_hard_limit_reached"]) => FailureKind::Refused,
        Some(408 | 425 | 429 | 500..=599) => FailureKind::Unavailable,
        Some(_) => FailureKind::Refused,
        None if is(&[
            "overloaded_error", "rate_limit_error", "api_error", "server_error", "rate_limit_exceeded",
            "timeout_error", "service_unavailable", "unavailable", "resource_exhausted", "internal",
        ]) =>
        {
            FailureKind::Unavailable
        }
        None if is(&[
            "invalid_request_error",
            "authentication_error",
            "permission_error",
            "not_found_error",
            "request_too_large",
            "context_length_exceeded",
            "invalid_argument",
        ]) =>
        {
            FailureKind::Refused
        }
        None => FailureKind::Malformed,
    };
    let said = shown(words(error), selected);
    let message = match (kind, status) {
        (FailureKind::Refused, Some(status @ (401 | 403))) => {
            format!("the model's server does not accept the key (HTTP {status}); check agent.api_key: {said}")
        }
        (FailureKind::Refused, Some(404)) => format!(
            "the model's server has no model `{}` or no such path (HTTP 404); check agent.model and agent.base_url: {said}",
            selected.model
        ),
        (_, Some(status)) => format!("the model's server answered HTTP {status}: {said}"),
        (_, None) => format!("the model's server reported an error: {said}"),
    };
    ModelFailure { retry_after: retry_delay(error), ..ModelFailure::new(kind, message) }
}

fn words(error: &Value) -> &str {
    let member = |name: &str| error.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let text =
        error.as_str().or_else(|| member("message")).or_else(|| member("detail")).or_else(|| member("msg"));
    // FastAPI lists errors under `detail`, others under `errors`.
    let lists = ["detail", "errors"].iter().filter_map(|name| error.get(*name)?.as_array()?.first());
    let listed = lists.map(words).next();
    text.or(listed).or_else(|| member("type")).or_else(|| member("code")).unwrap_or("without a word")
}

/// Returns the HTTP status that an error inside a response carries.
fn code(error: &Value) -> Option<u16> {
    let members = ["code", "status", "status_code", "http_status"];
    let codes = members.iter().filter_map(|member| {
        let code = error.get(*member)?;
        code.as_u64().or_else(|| code.as_str()?.trim().parse().ok())
    });
    codes.filter_map(|code| u16::try_from(code).ok()).find(|code| (400..600).contains(code))
}

/// Returns the retry delay in Google's form (google.rpc.RetryInfo).
fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error.get("details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    let seconds: f64 = delay.trim().strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
