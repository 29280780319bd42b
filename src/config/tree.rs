//! The configuration as a tree of keys: walking it, finding the nearest key, naming environment variables.

use serde_json::{Map, Value};

/// The paths of all values, `section.key`, in order. Lists are values.
pub(super) fn paths(tree: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(tree, "", &mut found);
    found
}

fn walk(tree: &Value, prefix: &str, found: &mut Vec<String>) {
    match tree {
        // An object without keys is a value of its own: names that the user chooses.
        Value::Object(fields) if !fields.is_empty() || prefix.is_empty() => {
            for (name, value) in fields {
                walk(value, &join(prefix, name), found);
            }
        }
        _ => found.push(prefix.to_owned()),
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

pub(super) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |tree, name| tree.get(name))
}

/// Sets a value whose path exists.
pub(super) fn set(tree: &mut Value, path: &str, value: Value) {
    let slot = path.split('.').try_fold(tree, |tree, name| tree.get_mut(name));
    if let Some(slot) = slot {
        *slot = value;
    }
}

/// The values that `given` sets, and the paths that `known` does not have.
pub(super) fn compare(
    known: &Value,
    given: &Map<String, Value>,
    prefix: &str,
    set: &mut Vec<(String, Value)>,
    unknown: &mut Vec<String>,
) {
    for (name, value) in given {
        let path = join(prefix, name);
        match (known.get(name), value) {
            (None, _) => unknown.push(path),
            // Names that the user chooses.
            (Some(Value::Object(section)), _) if section.is_empty() && !value.is_null() => {
                set.push((path, value.clone()))
            }
            (Some(section @ Value::Object(_)), Value::Object(fields)) => {
                compare(section, fields, &path, set, unknown)
            }
            // A section that is written and left empty.
            (Some(Value::Object(_)), Value::Null) => {}
            (Some(Value::Object(_)), _) => {
                unknown.push(format!("{path} (it must hold keys, as `{path}: {{key: value}}`)"))
            }
            (Some(_), _) => set.push((path, value.clone())),
        }
    }
}

/// The variable that overrides a key: its path in upper case, the server section without its name.
pub(super) fn variable(path: &str) -> String {
    path.strip_prefix("server.").unwrap_or(path).to_ascii_uppercase().replace('.', "_")
}

/// The key that was probably meant.
pub(super) fn nearest<'a>(path: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(candidate, path), candidate.as_str()))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.75)
        .map(|(_, candidate)| candidate)
}
