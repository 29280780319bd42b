//! Values as people write them: durations, sizes, lists with commas.

use serde_json::Value;

/// Converts text to a value: unchanged if the default is text; `30s` where seconds and `10GiB` where bytes are wanted; a
/// list with commas where a list is; as YAML otherwise.
pub(super) fn parse(path: &str, text: &str, default: Option<&Value>) -> Value {
    let yaml = || serde_saphyr::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    match default {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        // "null" removes a value that the file sets.
        Some(Value::Null) if text.trim() == "null" => Value::Null,
        Some(Value::Null) => quantity(path, text).unwrap_or_else(|| Value::String(text.to_owned())),
        Some(Value::Number(_)) => quantity(path, text).unwrap_or_else(yaml),
        Some(Value::Array(_)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        _ => yaml(),
    }
}

/// Converts a value of a file in the same way: a number that is written with its unit.
pub(super) fn with_unit(path: &str, value: Value) -> Value {
    match &value {
        Value::String(text) => quantity(path, text).unwrap_or(value),
        _ => value,
    }
}

/// Returns what a key is measured in.
fn unit(path: &str) -> Option<&'static str> {
    let name = path.rsplit('.').next().unwrap_or_default();
    match name {
        "timeout" => Some("seconds"),
        _ if name.ends_with("_seconds") => Some("seconds"),
        _ if name.contains("_bytes") => Some("bytes"),
        _ => None,
    }
}

/// Returns the pattern of the texts that a key takes beside numbers, if it takes any.
pub(super) fn pattern(path: &str) -> Option<&'static str> {
    Some(match unit(path)? {
        "seconds" => {
            "^[0-9]+ ?([Ss]|[Ss]ec|[Ss]econds?|[Mm]|[Mm]in|[Mm]inutes?|[Hh]|[Hh]ours?|[Dd]|[Dd]ays?)$"
        }
        _ => "^[0-9]+ ?([Bb]|[Bb]ytes?|[KkMmGg]|[KkMmGg][Ii]|[KkMmGg][Ii][Bb]|[KkMmGg][Bb])$",
    })
}

/// Reads a number with a unit, in the unit of the key. `None` if it is none, or not a whole number of that unit.
fn quantity(path: &str, text: &str) -> Option<Value> {
    let text = text.trim();
    let split = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, suffix) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let factor: u64 = match (unit(path)?, suffix.trim().to_ascii_lowercase().as_str()) {
        ("seconds", "s" | "sec" | "second" | "seconds") => 1,
        ("seconds", "m" | "min" | "minute" | "minutes") => 60,
        ("seconds", "h" | "hour" | "hours") => 3600,
        ("seconds", "d" | "day" | "days") => 86_400,
        ("bytes", "b" | "byte" | "bytes") => 1,
        ("bytes", "k" | "ki" | "kib") => 1 << 10,
        ("bytes", "m" | "mi" | "mib") => 1 << 20,
        ("bytes", "g" | "gi" | "gib") => 1 << 30,
        ("bytes", "kb") => 1000,
        ("bytes", "mb") => 1_000_000,
        ("bytes", "gb") => 1_000_000_000,
        _ => return None,
    };
    Some(Value::from(number.checked_mul(factor)?))
}

/// Returns what a key takes, in words, for a mistake.
pub(super) fn wanted(path: &str, default: Option<&Value>) -> &'static str {
    match (unit(path), default) {
        (Some("seconds"), _) => "a number of seconds, or a duration such as 30s, 5min, 2h",
        (Some(_), _) => "a number of bytes, or a size such as 512KiB, 10GiB",
        (None, Some(Value::Bool(_))) => "true or false",
        (None, Some(Value::Number(_))) => "a number",
        (None, Some(Value::Array(_))) => "a list, such as [a, b]",
        (None, Some(Value::Object(_))) => "names with values, such as {name: value}",
        _ => "another kind of value",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        let number = json!(1);
        for (path, text, value) in [
            ("jobs.timeout_seconds", "30s", json!(30)),
            ("jobs.timeout_seconds", "2 h", json!(7200)),
            ("conductor.timeout", "5min", json!(300)),
            ("jobs.timeout_seconds", "30", json!(30)),
            ("server.max_body_bytes", "10GiB", json!(10u64 << 30)),
            ("server.max_body_bytes", "1 MB", json!(1_000_000)),
            // A unit that the key is not measured in is no value of it.
            ("server.port", "30s", json!("30s")),
            ("jobs.timeout_seconds", "3MiB", json!("3MiB")),
        ] {
            assert_eq!(parse(path, text, Some(&number)), value, "{path} {text}");
            assert_eq!(
                with_unit(path, json!(text)).is_number(),
                value.is_number() && text != "30",
                "{path} {text}"
            );
        }
        let list = json!([]);
        assert_eq!(parse("server.cors_origins", "a, b,", Some(&list)), json!(["a", "b"]));
        assert_eq!(parse("server.cors_origins", "[a, b]", Some(&list)), json!(["a", "b"]));
        assert_eq!(parse("server.cors_origins", "", Some(&list)), json!([]));
    }
}
