//! The configuration as a tree of keys: walking it, finding the nearest key, and naming environment variables.

use serde_json::{Map, Value};

/// Returns the paths of all values, `section.key`, in order. A list counts as one value.
pub(super) fn paths(tree: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(tree, "", &mut found);
    found
}

fn walk(tree: &Value, prefix: &str, found: &mut Vec<String>) {
    match tree {
        // An object without keys is a value itself, because its names are chosen by the user.
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

/// Sets the value at a path, if the path exists.
pub(super) fn set(tree: &mut Value, path: &str, value: Value) {
    let slot = path.split('.').try_fold(tree, |tree, name| tree.get_mut(name));
    if let Some(slot) = slot {
        *slot = value;
    }
}

/// Collects the values that `given` sets, and the paths that `known` does not have.
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
            // The names in this section are chosen by the user.
            (Some(Value::Object(section)), _) if section.is_empty() && !value.is_null() => {
                set.push((path, value.clone()))
            }
            (Some(section @ Value::Object(_)), Value::Object(fields)) => {
                compare(section, fields, &path, set, unknown)
            }
            // The section is present and empty.
            (Some(Value::Object(_)), Value::Null) => {}
            (Some(Value::Object(_)), _) => {
                unknown.push(format!("{path} (it must hold keys, as `{path}: {{key: value}}`)"))
            }
            (Some(_), _) => set.push((path, value.clone())),
        }
    }
}

/// Returns the environment variable that overrides a key: its path in upper case, without the name of the server section.
pub(super) fn variable(path: &str) -> String {
    path.strip_prefix("server.").unwrap_or(path).to_ascii_uppercase().replace('.', "_")
}

/// Returns the key that was probably meant, or `None` if no key is similar.
pub(super) fn nearest<'a>(path: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(candidate, path), candidate.as_str()))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.75)
        .map(|(_, candidate)| candidate)
}
