//! What an outside server may offer: a list of tools within bounds, and schemas that a model accepts and that cost
//! little to check.
//!
//! What an outside server lists is not in our hands: a list without an end, a schema whose references multiply, one
//! that no provider accepts. Each is handled once, where it comes in, and logged.

use std::collections::{HashMap, HashSet};

use rmcp::{
    RoleClient,
    model::{JsonObject, PaginatedRequestParams, Tool},
    service::{Peer, ServiceError},
};
use serde_json::{Value, json};

/// The most pages of one list.
const MAX_PAGES: usize = 100;
/// The most tools of one server.
const MAX_TOOLS: usize = 512;
/// The most bytes of one list, as JSON.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
/// A longer description is cut to this many bytes.
const MAX_DESCRIPTION_BYTES: usize = 8 * 1024;
/// The size of one schema, in bytes, and how deeply it may be nested.
const MAX_SCHEMA_BYTES: usize = 64 * 1024;
const MAX_DEPTH: usize = 32;
/// The most schemas that checking one place of a value may look at, with references followed.
const MAX_COST: u64 = 10_000;

/// A server's list, and why it is not complete if it is not.
pub(super) struct ToolListing {
    pub(super) tools: Vec<Tool>,
    pub(super) cut: Option<&'static str>,
}

/// Reads a server's tools page by page, within the bounds above.
pub(super) async fn list(peer: &Peer<RoleClient>) -> Result<ToolListing, ServiceError> {
    let (mut tools, mut bytes, mut seen) = (Vec::new(), 0, HashSet::new());
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let request =
            cursor.clone().map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
        let page = peer.list_tools(request).await?;
        for tool in page.tools {
            bytes += serde_json::to_string(&tool).map_or(0, |text| text.len());
            if tools.len() == MAX_TOOLS {
                return Ok(ToolListing { tools, cut: Some("it lists more than 512 tools") });
            }
            if bytes > MAX_LIST_BYTES {
                return Ok(ToolListing { tools, cut: Some("its list is longer than 4 MiB") });
            }
            tools.push(tool);
        }
        match page.next_cursor.filter(|next| !next.is_empty()) {
            None => return Ok(ToolListing { tools, cut: None }),
            Some(next) if !seen.insert(next.clone()) => {
                return Ok(ToolListing { tools, cut: Some("its list gives a cursor that it gave before") });
            }
            Some(next) => cursor = Some(next),
        }
    }
    Ok(ToolListing { tools, cut: Some("its list has more than 100 pages") })
}

/// A schema as it is offered.
#[derive(Debug, PartialEq)]
pub(super) struct OfferedSchema {
    /// The schema for the model: an object schema without combinations at its root, which providers refuse.
    pub(super) for_model: Value,
    /// The schema that arguments are checked against; `None` where only the server can check them.
    pub(super) for_check: Option<Value>,
    /// What was changed and why.
    pub(super) note: Option<String>,
}

pub(super) fn description(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_DESCRIPTION_BYTES)].to_owned()
}

/// Brings a schema within the bounds.
pub(super) fn schema(schema: &JsonObject) -> OfferedSchema {
    let whole = Value::Object(schema.clone());
    let bare = |why: String| OfferedSchema {
        for_model: json!({"type": "object", "properties": {}}),
        for_check: None,
        note: Some(why),
    };
    let bytes = whole.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return bare(format!("its schema is {bytes} bytes long"));
    }
    if depth(&whole) > MAX_DEPTH {
        return bare(format!("its schema is nested deeper than {MAX_DEPTH}"));
    }
    let cost = SchemaCost { root: &whole, known: HashMap::new(), open: HashSet::new() }.of(&whole);
    let for_check = match cost {
        Some(cost) if cost > MAX_COST => {
            return bare(format!("checking its schema would take more than {MAX_COST} steps"));
        }
        Some(_) => Some(whole),
        // The schema refers to itself, or to another document.
        None => None,
    };
    let (for_model, note) = plain_object(schema);
    OfferedSchema { for_model, for_check, note }
}

fn depth(value: &Value) -> usize {
    // serde_json limits the depth to 128, so that the recursion is safe.
    1 + match value {
        Value::Object(fields) => fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Counts the schemas that a validator looks at, with references followed; `None` for a schema that refers to itself or
/// elsewhere.
struct SchemaCost<'s> {
    root: &'s Value,
    known: HashMap<&'s str, u64>,
    open: HashSet<&'s str>,
}

impl<'s> SchemaCost<'s> {
    fn of(&mut self, schema: &'s Value) -> Option<u64> {
        match schema {
            Value::Object(fields) => {
                let mut cost = 1u64;
                for (name, value) in fields {
                    let further = match (name.as_str(), value) {
                        ("$ref" | "$dynamicRef", Value::String(reference)) => self.reference(reference)?,
                        // Definitions count only where they are referred to.
                        ("$defs" | "definitions", _) => 0,
                        // These hold values, not schemas.
                        ("enum" | "const" | "examples" | "default" | "required", _) => 1,
                        (_, value) => self.of(value)?,
                    };
                    cost = cost.saturating_add(further);
                }
                Some(cost)
            }
            Value::Array(items) => {
                items.iter().try_fold(0u64, |cost, item| Some(cost.saturating_add(self.of(item)?)))
            }
            _ => Some(0),
        }
    }

    fn reference(&mut self, reference: &'s str) -> Option<u64> {
        if let Some(cost) = self.known.get(reference) {
            return Some(*cost);
        }
        let pointer = reference.strip_prefix('#')?;
        if !self.open.insert(reference) {
            return None;
        }
        let cost = self.of(self.root.pointer(pointer)?)?;
        self.open.remove(reference);
        self.known.insert(reference, cost);
        Some(cost)
    }
}

/// Returns a schema whose root is an object's, and what was changed: combinations at the root become the properties of
/// all their branches.
fn plain_object(schema: &JsonObject) -> (Value, Option<String>) {
    let mut plain = schema.clone();
    let mut changed = Vec::new();
    let is_properties = |value: Option<&Value>| value.is_some_and(Value::is_object);
    if !is_properties(plain.get("properties")) {
        if plain.contains_key("properties") {
            changed.push("properties");
        }
        plain.insert("properties".to_owned(), json!({}));
    }
    for name in ["anyOf", "oneOf", "allOf", "not", "if", "then", "else", "enum", "const"] {
        let Some(branches) = plain.remove(name) else { continue };
        changed.push(name);
        if !matches!(name, "anyOf" | "oneOf" | "allOf") {
            continue;
        }
        for branch in branches.as_array().into_iter().flatten() {
            let further = branch.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            if let Some(Value::Object(properties)) = plain.get_mut("properties") {
                for (name, property) in further {
                    properties.entry(name).or_insert(property);
                }
            }
        }
    }
    if plain.get("type") != Some(&json!("object")) {
        if plain.contains_key("type") {
            changed.push("type");
        }
        plain.insert("type".to_owned(), json!("object"));
    }
    if plain.get("required").is_some_and(|required| !required.is_array()) {
        plain.remove("required");
        changed.push("required");
    }
    let note =
        (!changed.is_empty()).then(|| format!("its schema is no plain object's: {}", changed.join(", ")));
    (Value::Object(plain), note)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn offered(value: Value) -> OfferedSchema {
        let fields: Map<String, Value> = value.as_object().unwrap().clone();
        schema(&fields)
    }

    #[test]
    fn references_that_multiply_are_not_checked() {
        let mut definitions = Map::new();
        for number in 0..45 {
            let next = json!({"$ref": format!("#/$defs/d{}", number + 1)});
            definitions.insert(format!("d{number}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d45".into(), json!({"type": "object"}));
        let bomb =
            offered(json!({"type": "object", "$defs": definitions, "allOf": [{"$ref": "#/$defs/d0"}]}));
        assert_eq!((bomb.for_check, bomb.for_model), (None, json!({"type": "object", "properties": {}})));
        // A schema that refers to itself is offered, and only its server checks it.
        let tree =
            json!({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}});
        let listed = offered(tree.clone());
        assert_eq!((listed.for_model, listed.for_check, listed.note), (tree, None, None));
        let elsewhere = offered(json!({"type": "object", "properties": {"a": {"$ref": "https://x/y"}}}));
        assert_eq!(elsewhere.for_check, None);
        let plain = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}});
        assert_eq!(offered(plain.clone()).for_check, Some(plain));
        let mut deep = json!({});
        for _ in 0..40 {
            deep = json!({"properties": {"a": deep}});
        }
        assert!(offered(deep).note.is_some());
        assert!(offered(json!({"description": "x".repeat(70_000)})).note.is_some());
    }

    #[test]
    fn a_model_is_given_an_object_schema() {
        let any =
            offered(json!({"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {}}}]}));
        assert_eq!(
            any.for_model,
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}})
        );
        assert!(any.note.is_some() && any.for_check.is_some());
        let null = offered(json!({"type": "object", "properties": null}));
        assert_eq!(null.for_model, json!({"type": "object", "properties": {}}));
        assert_eq!(offered(json!({})).for_model, json!({"type": "object", "properties": {}}));
        assert_eq!(offered(json!({"type": "object"})).note, None);
    }
}
