//! Parses the text of a call in each of the formats that models write.

use serde_json::{Map, Value};

use crate::llm::ToolDefinition;

/// Members that a call object may have besides its name and arguments.
const MARKS: &[&str] = &["id", "index", "type"];
const NAMES: &[&str] = &["name", "tool", "tool_name"];
const ARGUMENTS: &[&str] = &["arguments", "parameters", "args", "input"];

/// A section of a text that may be a call.
pub(super) struct CallMarkup<'a> {
    pub(super) inside: &'a str,
    /// Whether there is no markup and the whole answer is JSON.
    pub(super) is_bare: bool,
}

/// A tool's name and arguments.
pub(super) type ParsedCall = (String, Map<String, Value>);

/// Parses the calls of a block; empty if it cannot be read as calls.
pub(super) fn read_block(block: &CallMarkup<'_>, tools: &[ToolDefinition]) -> Vec<ParsedCall> {
    let inside = block.inside.trim();
    if let Some(found) = read_json(inside, block.is_bare) {
        return found;
    }
    if block.is_bare || inside.starts_with(['{', '[']) {
        return Vec::new();
    }
    if inside.starts_with('<') {
        return read_functions(inside, tools);
    }
    if let Some((name, rest)) = inside.split_once("<|tool_call_argument_begin|>")
        && let Ok(arguments) = serde_json::from_str(rest.trim())
    {
        return vec![(name.trim().to_owned(), arguments)];
    }
    // DeepSeek: the kind, the name and a code block; or, of later versions, the name and JSON.
    if let Some((kind, rest)) = inside.split_once("<｜tool▁sep｜>") {
        let (name, json) = match (kind.trim(), rest.trim().split_once('\n')) {
            ("function", Some((name, block))) => {
                (name, block.trim().trim_matches('`').trim_start_matches("json"))
            }
            (name, _) => (name, rest),
        };
        let arguments = serde_json::from_str(json.trim());
        return arguments.map(|arguments| vec![(name.trim().to_owned(), arguments)]).unwrap_or_default();
    }
    // A bare name, then JSON or pairs of keys and values.
    let end =
        inside.find(|c: char| c.is_whitespace() || matches!(c, '{' | '<' | '[')).unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    let pairs = || {
        let mut rest = rest;
        let mut members = Map::new();
        while let Some((key, behind)) = between(rest, "<arg_key>", "</arg_key>") {
            let (value, behind) = between(behind, "<arg_value>", "</arg_value>")?;
            members.insert(key.trim().to_owned(), typed(name, key.trim(), value, tools));
            rest = behind;
        }
        Some(members)
    };
    let arguments = match rest.trim() {
        rest if rest.starts_with('{') => serde_json::from_str(rest).ok(),
        "" => None,
        _ => pairs().filter(|members| !members.is_empty()),
    };
    arguments.map(|arguments| vec![(name.to_owned(), arguments)]).unwrap_or_default()
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(open)?.1.split_once(close)
}

/// Parses JSON documents of calls: one, several or a list. With `needs_arguments`, a name alone is not a call.
fn read_json(text: &str, needs_arguments: bool) -> Option<Vec<ParsedCall>> {
    let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let documents: Vec<Value> = documents.collect::<Result<_, _>>().ok()?;
    let calls: Vec<Value> = documents
        .into_iter()
        .flat_map(|document| match document {
            Value::Array(items) => items,
            other => vec![other],
        })
        .collect();
    let read = |call: Value| {
        let inner = call.get("function").filter(|function| function.is_object());
        let (outer, call) = (inner.and(call.as_object()), inner.or(Some(&call))?.as_object()?);
        let is_mark = |name: &String| MARKS.contains(&name.as_str());
        // An object with other members describes something else, or contains more than is understood here.
        let is_known = |name: &String| {
            is_mark(name) || [NAMES, ARGUMENTS].iter().any(|known| known.contains(&name.as_str()))
        };
        let is_outer = |name: &String| is_mark(name) || name == "function";
        if !call.keys().all(is_known) || !outer.is_none_or(|outer| outer.keys().all(is_outer)) {
            return None;
        }
        let name = NAMES.iter().find_map(|member| call.get(*member)?.as_str())?;
        let arguments = match ARGUMENTS.iter().find_map(|member| call.get(*member)) {
            Some(Value::Object(members)) => members.clone(),
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            None | Some(Value::Null) if !needs_arguments => Map::new(),
            _ => return None,
        };
        Some((name.to_owned(), arguments))
    };
    let found: Option<Vec<ParsedCall>> = calls.into_iter().map(read).collect();
    found.filter(|found| !found.is_empty())
}

/// Parses `<function=name>…</function>` and `<invoke name="name">…</invoke>`, with JSON or with parameters inside.
fn read_functions(text: &str, tools: &[ToolDefinition]) -> Vec<ParsedCall> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let forms = [("<function=", "</function>"), ("<invoke name=", "</invoke>")];
        let form = forms.iter().find_map(|(open, close)| Some((rest.strip_prefix(open)?, *close)));
        let Some(((name, behind), close)) =
            form.and_then(|(behind, close)| Some((behind.split_once('>')?, close)))
        else {
            return Vec::new();
        };
        let name = name.trim().trim_matches(['"', '\'']);
        let closed = behind.split_once(close);
        let (body, behind) = closed.unwrap_or((behind, ""));
        let arguments = match serde_json::from_str::<Map<String, Value>>(body.trim()) {
            Ok(members) => Some(members),
            Err(_) => read_parameters(name, body, tools),
        };
        // An unclosed tag without content is only a mention of the tag.
        let Some(arguments) = arguments.filter(|arguments| closed.is_some() || !arguments.is_empty()) else {
            return Vec::new();
        };
        found.push((name.to_owned(), arguments));
        rest = behind.trim();
    }
    found
}

fn read_parameters(tool: &str, body: &str, tools: &[ToolDefinition]) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    let mut rest = body.trim();
    while !rest.is_empty() {
        let behind = rest.strip_prefix("<parameter=").or_else(|| rest.strip_prefix("<parameter name="))?;
        let (name, behind) = behind.split_once('>')?;
        let name = name.trim().trim_matches(['"', '\'']);
        let ends = ["</parameter>", "<parameter=", "<parameter name="];
        let end = ends.iter().filter_map(|end| behind.find(end)).min().unwrap_or(behind.len());
        let value = behind[..end].strip_prefix('\n').unwrap_or(&behind[..end]);
        let value = value.strip_suffix('\n').unwrap_or(value);
        members.insert(name.to_owned(), typed(tool, name, value, tools));
        rest = behind[end..].trim_start();
        rest = rest.strip_prefix("</parameter>").unwrap_or(rest).trim_start();
    }
    Some(members)
}

/// Converts a value that came as text to the type that the tool's schema declares.
fn typed(tool: &str, member: &str, value: &str, tools: &[ToolDefinition]) -> Value {
    let name = offered(tool, tools).unwrap_or_default();
    let schema = tools.iter().find(|tool| tool.name == name).map(|tool| &*tool.parameters);
    let kind = schema.and_then(|schema| schema.get("properties")?.get(member)?.get("type"));
    let is_text = |kind: &Value| {
        kind == "string" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "string"))
    };
    if kind.is_some_and(is_text) {
        return Value::from(value);
    }
    serde_json::from_str(value.trim()).unwrap_or_else(|_| Value::from(value))
}

/// Returns the offered tool that a name refers to: by the name itself, or by what remains without decoration.
pub(super) fn offered(name: &str, tools: &[ToolDefinition]) -> Option<String> {
    let known = |name: &str| tools.iter().find(|tool| tool.name == name).map(|tool| tool.name.clone());
    let name = name.trim();
    // Strips the channel suffix of the harmony format, and the running numbers that other models append.
    let plain = name.split("<|").next().unwrap_or(name).trim();
    let plain = plain.split_once(':').map_or(plain, |(name, number)| match number.parse::<u32>() {
        Ok(_) => name,
        Err(_) => plain,
    });
    let last = plain.rsplit(['.', '/']).next().unwrap_or(plain);
    known(name).or_else(|| known(plain)).or_else(|| known(last))
}
