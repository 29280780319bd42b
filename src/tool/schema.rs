//! Enforces the published schema of a tool's arguments, so that what clients read is what is checked.

use std::sync::OnceLock;

use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::Value;

use super::{ToolName, catalogue};
use crate::{
    error::{Error, Result},
    text::bounded,
};

/// The validator's message is cut to this many bytes.
const MAX_SENTENCE_BYTES: usize = 300;

fn validators() -> &'static [(ToolName, Validator)] {
    static VALIDATORS: OnceLock<Vec<(ToolName, Validator)>> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        // Every schema compiles: a test checks that each tool has a validator.
        let compiled =
            |spec: &super::ToolSpec| Some((spec.name, jsonschema::validator_for(&spec.input_schema).ok()?));
        catalogue().iter().filter_map(compiled).collect()
    })
}

/// Checks arguments against their tool's schema.
///
/// # Errors
/// [`crate::error::Reason::InvalidArgument`] with the argument's path and what it has to be; its value is not quoted.
pub(super) fn check(tool: ToolName, arguments: &Value) -> Result<()> {
    let Some((_, validator)) = validators().iter().find(|(name, _)| *name == tool) else {
        return Err(Error::internal(format_args!("{} has no schema", tool.as_str())));
    };
    validator.validate(arguments).map_err(|error| {
        let path = error.instance_path().to_string().replace('/', ".");
        let message = match error.kind() {
            ValidationErrorKind::MaxLength { limit } => format!("must be at most {limit} characters long"),
            ValidationErrorKind::MinLength { limit } => format!("must be at least {limit} characters long"),
            ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}"),
            ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}"),
            ValidationErrorKind::Pattern { pattern } => format!("must match {pattern}"),
            _ => bounded(&error.masked().to_string(), MAX_SENTENCE_BYTES),
        };
        Error::invalid(format!("arguments{path}"), message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{pb::Json, tool::Call};

    #[test]
    fn every_tool_has_its_schema_and_lengths_hold() {
        assert_eq!(validators().len(), ToolName::ALL.len());
        let read = |tool: &str, arguments: Value| Call::read(tool, Some(&Json::from_value(&arguments)));
        for (tool, arguments, field) in [
            ("list_available_agents", json!({"tag": "x".repeat(129)}), "arguments.tag"),
            ("list_available_agents", json!({"tag": ""}), "arguments.tag"),
            ("list_available_agents", json!({"limit": 501}), "arguments.limit"),
            ("restore_agents", json!({"confirm": "x".repeat(4097)}), "arguments.confirm"),
            ("backup_agents", json!({"backup_path": "x".repeat(4097)}), "arguments.backup_path"),
            ("set_environment", json!({"environment": "../../etc"}), "arguments.environment"),
            ("set_environment", json!({"environment": "--restore=/x"}), "arguments.environment"),
            ("set_environment", json!({"environment": "prod", "project": "a b"}), "arguments.project"),
        ] {
            let error = read(tool, arguments).unwrap_err();
            assert_eq!(error.field(), Some(field), "{error}");
            assert!(error.message().len() < 400, "{error}");
        }
        assert!(read("set_environment", json!({"environment": "prod", "project": ""})).is_ok());
        let secret = read("get_agent_info", json!({"agent_id": ["canary"]})).unwrap_err();
        assert!(!secret.message().contains("canary"), "{secret}");
    }
}
