//! Whole numbers as callers write them: JSON Schema accepts 2.0 as an integer (draft 2020-12, section 6.1.1), and some
//! clients send what was typed, as a string.

use serde_json::Value;

/// The bound up to which every JSON parser represents all integers exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Converts whole floats and strings of digits to integers wherever the schema wants an integer, and removes null
/// members where the schema has another type and does not require them. Leaves everything else unchanged for the
/// validator.
pub(crate) fn read_as_written(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
            let is_required = |name: &str| {
                schema["required"].as_array().is_some_and(|required| required.iter().any(|one| one == name))
            };
            // Where the schema allows null, null may mean something other than an omitted member.
            let is_nothing = |name: &str| {
                properties
                    .get(name)
                    .is_some_and(|schema| schema["type"].as_str().is_some_and(|kind| kind != "null"))
            };
            members.retain(|name, member| !member.is_null() || is_required(name) || !is_nothing(name));
            for (name, schema) in properties {
                if let Some(member) = members.get_mut(name) {
                    read_as_written(member, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| read_as_written(item, schema));
            }
        }
        Value::Number(_) | Value::String(_) if wants_integer(schema) => {
            let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= MAX_EXACT);
            let digits = value.as_str().map(str::trim).filter(|text| !text.is_empty() && text.len() <= 16);
            if value.is_f64()
                && let Some(float) = float
            {
                *value = Value::from(float as i64);
            } else if let Some(number) = digits.and_then(|digits| digits.parse::<i64>().ok()) {
                *value = Value::from(number);
            }
        }
        _ => {}
    }
}

fn wants_integer(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "integer",
        // Where the schema accepts a string as well, a string stays a string.
        Some(Value::Array(kinds)) => {
            kinds.iter().any(|kind| kind == "integer") && !kinds.iter().any(|kind| kind == "string")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{pb::Json, tool::Call};

    #[test]
    fn whole_numbers_are_integers_where_one_is_wanted() {
        let schema = json!({"properties": {
            "limit": {"type": ["integer", "null"]}, "name": {"type": "string"}, "either": {"type": ["integer", "string"]}, "none": {"type": "string"}, "own": {"type": ["string", "null"]},
            "list": {"type": "array", "items": {"type": "integer"}},
        }});
        let mut value = json!({"limit": 2.0, "name": "7", "either": "7", "none": null, "own": null, "list": ["1", 2.0, 2.5, "x", true], "other": 1.0});
        read_as_written(&mut value, &schema);
        let expected = json!({"limit": 2, "name": "7", "either": "7", "own": null, "list": [1, 2, 2.5, "x", true], "other": 1.0});
        assert_eq!(value.to_string(), expected.to_string());
    }

    #[test]
    fn every_door_takes_them() {
        let read = |limit: Value| {
            Call::read("list_available_agents", Some(&Json::from_value(&json!({"limit": limit}))))
        };
        for limit in [json!(2), json!(2.0), json!("2"), json!(null)] {
            assert!(read(limit.clone()).is_ok(), "{limit}");
        }
        for limit in [json!(2.5), json!("two"), json!(true), json!(0.0), json!("0")] {
            assert!(read(limit.clone()).is_err(), "{limit}");
        }
    }
}
