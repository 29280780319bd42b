//! The possible answers of a question, in a few words.

use serde_json::Value;

use crate::pb::Json;

/// Returns the possible answers in a few words; empty if they are not limited.
pub(super) fn choices(schema: Option<&Json>) -> String {
    let schema = schema.and_then(|schema| schema.to_value().ok()).unwrap_or_default();
    let listed = |values: &Vec<Value>| {
        values
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect::<Vec<_>>()
    };
    match (schema["enum"].as_array(), schema["type"].as_str()) {
        (Some(values), _) => format!(" ({})", listed(values).join(", ")),
        (None, Some("boolean")) => " (yes or no)".to_owned(),
        _ => String::new(),
    }
}
