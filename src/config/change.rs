//! What of the configuration can change while the gateway runs, and how values are shown.

use serde_json::Value;

use super::{Config, Explained, tree, validate};
use crate::secret::{MASK, is_secret_name, masked_url};

/// Settings of sections that can change otherwise, but are read once.
const READ_ONCE: &[&str] = &["jobs.max_log_bytes", "jobs.max_log_bytes_per_caller", "jobs.tail_bytes"];

/// Returns whether a reload applies a changed value of this key; any other needs a restart.
pub(crate) fn can_change(key: &str) -> bool {
    let is_live = key == "telemetry.log" || key.starts_with("jobs.") || key.starts_with("conversations.");
    is_live && !READ_ONCE.contains(&key)
}

/// Returns a configuration in which some values are replaced.
///
/// # Errors
/// When a value is of another type than its key.
pub(crate) fn with_values(config: &Config, values: &Explained) -> serde_json::Result<Config> {
    let mut merged = serde_json::to_value(config)?;
    for (key, value, _) in values {
        tree::set(&mut merged, key, value.clone());
    }
    serde_json::from_value(merged)
}

/// Returns what of a configuration is out of its range or contradicts something else of it.
pub(crate) fn contradictions(config: &Config) -> Vec<String> {
    validate::validate(config)
}

/// Returns a value with its secrets masked: text under a secret's name, secrets in URLs, and every value of
/// headers and environments.
pub(crate) fn masked(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_secret_name(name) && !text.is_empty() => Value::from(MASK),
        // Hosted servers accept keys in the query.
        Value::String(text) if name.ends_with("url") => Value::from(masked_url(text)),
        Value::Object(fields) if matches!(name, "headers" | "environment") => {
            fields.keys().map(|field| (field.clone(), Value::from(MASK))).collect()
        }
        Value::Object(fields) => {
            fields.iter().map(|(field, value)| (field.clone(), masked(field, value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| masked(name, item)).collect(),
        other => other.clone(),
    }
}
