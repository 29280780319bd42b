//! Recovers tool calls that a model wrote as text because its server did not parse them, where that is beyond doubt.
//!
//! In a turn with structured calls only decorated names are repaired. Markup counts if it begins a line outside code, quotes and
//! comments and nothing but markup follows it, and only if the same text occurs in nothing that this job was given: a model that
//! quotes a file must not execute what the file contains.

use serde_json::{Map, Value};

use super::{
    AssistantMessage, FailureKind, MAX_CALLS, Message, ModelFailure, ModelRequest, ModelTurn, ToolCall,
    ToolDefinition,
};

/// The opening tag of a markup, its closing tags, and the format in between.
const MARKUPS: &[(&str, &[&str], MarkupKind)] = &[
    ("<tool_call>", &["</tool_call>"], MarkupKind::Any),
    ("<tool_calls>", &["</tool_calls>"], MarkupKind::Any),
    ("<function_calls>", &["</function_calls>"], MarkupKind::Any),
    ("<|tool_call|>", &["<|/tool_call|>"], MarkupKind::Any),
    ("<|tool_call_begin|>", &["<|tool_call_end|>"], MarkupKind::Any),
    ("<｜tool▁call▁begin｜>", &["<｜tool▁call▁end｜>"], MarkupKind::Any),
    ("<|python_tag|>", &["<|eom_id|>"], MarkupKind::Any),
    ("[TOOL_CALLS]", &[], MarkupKind::Any),
    ("<function=", &["</function>"], MarkupKind::Function),
    ("<invoke name=", &["</invoke>"], MarkupKind::Function),
];
/// The tags around the calls of Kimi's and DeepSeek's models, which say nothing more.
const SECTIONS: &[&str] = &[
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
];
/// Longer answers are not taken for calls.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Members that a call object may have besides its name and arguments.
const MARKS: &[&str] = &["id", "index", "type"];
const NAMES: &[&str] = &["name", "tool", "tool_name"];
const ARGUMENTS: &[&str] = &["arguments", "parameters", "args", "input"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum MarkupKind {
    /// JSON, or one of the other formats.
    Any,
    /// A name, then parameters or JSON. The opening tag is part of it.
    Function,
}

/// A tool's name and arguments.
type ParsedCall = (String, Map<String, Value>);

/// Repairs a turn in place: decorated tool names, and calls that came as text. Returns the number of repaired calls.
///
/// # Errors
/// [`FailureKind::Malformed`] where calls came as text and cannot be made, or were announced and are nowhere.
pub(crate) fn repair(turn: &mut ModelTurn, request: &ModelRequest) -> Result<u32, ModelFailure> {
    let repaired = recover(turn, request)?;
    if turn.message.calls.is_empty() && turn.finish_reason == "tool_calls" {
        let message = "the model said that it calls a tool and named none";
        return Err(ModelFailure::new(FailureKind::Malformed, message));
    }
    Ok(repaired)
}

fn recover(turn: &mut ModelTurn, request: &ModelRequest) -> Result<u32, ModelFailure> {
    let mut repaired = 0;
    for call in &mut turn.message.calls {
        if let Some(name) = offered(&call.name, &request.tools).filter(|name| *name != call.name) {
            call.name = name;
            repaired += 1;
        }
    }
    if repaired > 0 {
        // The wire's own form of the message still has the decorated names, so it is dropped.
        turn.message =
            AssistantMessage::new(turn.message.text.as_str(), std::mem::take(&mut turn.message.calls));
    }
    let is_end = matches!(turn.finish_reason, "stop" | "length" | "tool_calls");
    if !turn.message.calls.is_empty()
        || request.tools.is_empty()
        || !is_end
        || turn.message.text.len() > MAX_TEXT_BYTES
    {
        return Ok(repaired);
    }
    let Some((said, blocks)) = take_apart(&turn.message.text) else { return Ok(0) };
    if were_told(&blocks, request) {
        return Ok(0);
    }
    let is_bare = blocks.iter().any(|block| block.is_bare);
    let mut calls = Vec::new();
    for block in &blocks {
        let found = read_block(block, &request.tools);
        if found.is_empty() || found.iter().any(|(name, _)| offered(name, &request.tools).is_none()) {
            calls.clear();
            break;
        }
        calls.extend(found);
    }
    if is_bare && (calls.is_empty() || turn.finish_reason == "length") {
        // JSON that is not a call is an ordinary answer.
        return Ok(0);
    }
    if calls.is_empty() || calls.len() > MAX_CALLS || turn.finish_reason == "length" {
        let message = "the model's call came as text and is none of an offered tool; its server needs a tool parser for this model";
        return Err(ModelFailure::new(FailureKind::Malformed, message));
    }
    let calls = calls.into_iter().filter_map(|(name, arguments)| {
        repaired += 1;
        let call = ToolCall::new(super::wire::local_id(), offered(&name, &request.tools)?, arguments);
        Some(ToolCall { has_own_id: false, ..call })
    });
    turn.message = AssistantMessage::new(said, calls.collect());
    turn.finish_reason = "tool_calls";
    Ok(repaired)
}

/// Returns the offered tool that a name refers to: by the name itself, or by what remains without decoration.
fn offered(name: &str, tools: &[ToolDefinition]) -> Option<String> {
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

/// A section of a text that may be a call.
struct CallMarkup<'a> {
    inside: &'a str,
    /// Whether there is no markup and the whole answer is JSON.
    is_bare: bool,
}

/// Splits a text into what precedes its calls and the calls; returns `None` if there is no call. A server stops after a call, so
/// markup followed by anything else is only talk about markup.
fn take_apart(text: &str) -> Option<(&str, Vec<CallMarkup<'_>>)> {
    let trimmed = text.trim();
    let is_json = trimmed.starts_with(['{', '['])
        && serde_json::Deserializer::from_str(trimmed).into_iter::<Value>().all(|one| one.is_ok());
    if is_json {
        return Some(("", vec![CallMarkup { inside: trimmed, is_bare: true }]));
    }
    let begin = first_markup(text)?;
    let (mut rest, mut blocks) = (text[begin..].trim(), Vec::new());
    while !rest.is_empty() {
        if let Some(behind) = SECTIONS.iter().find_map(|tag| rest.strip_prefix(tag)) {
            rest = behind.trim_start();
            continue;
        }
        let (open, closes, inside) = MARKUPS.iter().find(|(open, ..)| rest.starts_with(open))?;
        let content = &rest[open.len()..];
        let close = closes.iter().filter_map(|close| Some((content.find(close)?, close.len()))).min();
        // Without a closing tag it extends to the end.
        let (end, length) = close.unwrap_or((content.len(), 0));
        let whole = &rest[..open.len() + end + length];
        blocks.push(CallMarkup {
            inside: if *inside == MarkupKind::Function { whole } else { &content[..end] },
            is_bare: false,
        });
        if blocks.len() > MAX_CALLS + 1 {
            break;
        }
        rest = content[end + length..].trim_start();
    }
    Some((text[..begin].trim(), blocks))
}

/// Returns where the first markup begins a line that is neither code nor quoted.
fn first_markup(text: &str) -> Option<usize> {
    let (mut fence, mut at, mut is_behind_quote) = (None::<(char, usize)>, 0, false);
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        let plain = bare.trim_start_matches(|c: char| {
            c.is_ascii_digit() || matches!(c, '-' | '*' | '+' | '.' | ')' | '>' | ' ')
        });
        let mark = plain.chars().next().filter(|c| matches!(c, '`' | '~'));
        let length = mark.map_or(0, |mark| plain.chars().take_while(|c| *c == mark).count());
        match (fence, mark) {
            (None, Some(mark)) if length >= 3 => fence = Some((mark, length)),
            (Some((open, least)), Some(mark)) if open == mark && length >= least => fence = None,
            _ => {}
        }
        let indent = line.len() - line.trim_start().len();
        let mut opening = MARKUPS.iter().map(|(open, ..)| open).chain(SECTIONS);
        let begins = opening.any(|open| bare.starts_with(open));
        if begins && fence.is_none() && indent < 4 && !is_behind_quote && !is_within_example(&text[..at]) {
            return Some(at + indent);
        }
        is_behind_quote = bare.starts_with('>') || (is_behind_quote && !bare.is_empty());
        at += line.len();
    }
    None
}

/// Returns whether an element that shows code, or a comment, is still open.
fn is_within_example(before: &str) -> bool {
    [("<pre", "</pre"), ("<code", "</code"), ("<example", "</example"), ("<!--", "-->")]
        .iter()
        .any(|(open, close)| before.rfind(open) > before.rfind(close))
}

/// Normalizes a text for comparison by removing white space, escapes and entities.
fn compared(text: &str) -> String {
    let text = text.replace("\\n", "").replace("\\t", "").replace("\\r", "");
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    text.chars().filter(|c| !c.is_whitespace() && *c != '\\').collect()
}

/// Returns whether the job was given one of these blocks: by its user, a tool, its instructions, or an earlier answer.
fn were_told(blocks: &[CallMarkup<'_>], request: &ModelRequest) -> bool {
    let mut told = compared(&request.system);
    for message in &request.messages {
        match message {
            Message::User(text) => told += &compared(text),
            Message::Assistant(message) => told += &compared(&message.text),
            Message::ToolOutcomes(outcomes) => {
                outcomes.iter().for_each(|outcome| told += &compared(&outcome.text))
            }
        }
    }
    request.tools.iter().for_each(|tool| told += &compared(&tool.description));
    blocks.iter().any(|block| {
        let block = compared(block.inside);
        !block.is_empty() && told.contains(&block)
    })
}

/// Parses the calls of a block; empty if it cannot be read as calls.
fn read_block(block: &CallMarkup<'_>, tools: &[ToolDefinition]) -> Vec<ParsedCall> {
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

#[cfg(test)]
mod tests;
