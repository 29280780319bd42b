//! Reads JSON as servers send it, leniently; what cannot be read is reported.

use serde_json::Value;

use crate::llm::{FailureKind, ModelFailure, SelectedModel, reported::shown, surrogates::readable};

/// Parses the documents of an event. A server that omits the empty line between two events sends two in one.
///
/// # Errors
/// [`FailureKind::Malformed`] if it is not JSON.
pub(super) fn documents(data: &str, selected: &SelectedModel) -> Result<Vec<Value>, ModelFailure> {
    let data = readable(data);
    let error = match serde_json::from_str(&data) {
        Ok(document) => return Ok(vec![document]),
        Err(error) => error,
    };
    let lines = data.lines().filter(|line| !line.trim().is_empty() && !is_done(line));
    let documents: Result<Vec<Value>, _> = lines.map(serde_json::from_str).collect();
    documents.map_err(|_| {
        let words: String = shown(&data, selected).chars().take(200).collect();
        let message =
            format!("the model's server answered with something that is not its protocol: {error}: {words}");
        ModelFailure { is_syntax: true, ..ModelFailure::new(FailureKind::Malformed, message) }
    })
}

/// Returns whether this is the marker after the last event.
pub(super) fn is_done(data: &str) -> bool {
    data.trim().eq_ignore_ascii_case("[DONE]")
}

/// Returns a count, whether it is written as an integer, a float or text.
pub(super) fn count(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    let float = || value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    value
        .as_u64()
        .or_else(|| float().filter(|float| *float >= 0.0 && *float < 1e15).map(|float| float as u64))
}

/// Returns an identifier: a non-empty text or a number.
pub(super) fn identifier(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() && text != "null" => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns a member's text if it is not empty.
pub(super) fn text<'a>(object: &'a Value, member: &str) -> Option<&'a str> {
    object.get(member)?.as_str().filter(|text| !text.is_empty())
}

/// Returns whether a value has no content: null, an empty text, or a list or object of nothing but such values.
pub(super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(says_nothing),
        Value::Object(members) => members.values().all(says_nothing),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns the failure for content in a form that cannot be read.
pub(super) fn unreadable(what: &str, selected: &SelectedModel) -> ModelFailure {
    let message = format!(
        "the model's server sent a part that this gateway cannot read, and what it says would be lost: {}",
        shown(what, selected)
    );
    ModelFailure::new(FailureKind::Malformed, message)
}
