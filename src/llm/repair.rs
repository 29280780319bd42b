//! Calls that a model wrote as text, because its server did not read them: made calls again where that is beyond doubt.
//!
//! A turn with structured calls is left alone. Markup counts outside code fences, quotes and quoted lines, and only where the same text
//! stands in nothing that this job was told: a model that quotes a file must not run what stands in it.

use serde_json::{Map, Value};

use super::{AssistantMessage, Failure, FailureKind, Message, Request, ToolCall, ToolDefinition, Turn};

/// What a markup begins and ends with, and how its inside is written.
const MARKUPS: &[(&str, &str, Inside)] = &[
    ("<tool_call>", "</tool_call>", Inside::Any),
    ("<tool_calls>", "</tool_calls>", Inside::Any),
    ("<function_calls>", "</function_calls>", Inside::Any),
    ("<|tool_call|>", "", Inside::Any),
    ("<|tool_call_begin|>", "<|tool_call_end|>", Inside::Any),
    ("<|python_tag|>", "", Inside::Any),
    ("[TOOL_CALLS]", "", Inside::Any),
    ("<function=", "</function>", Inside::Function),
    ("<invoke name=", "</invoke>", Inside::Function),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// JSON, or one of the other forms.
    Any,
    /// A name, then parameters or JSON. What begins it belongs to it.
    Function,
}

/// A name and what it is called with.
type Found = (String, Map<String, Value>);

/// Repairs a turn: names that were decorated, and calls that came as text. Answers with the number of calls that were repaired.
///
/// # Errors
/// [`FailureKind::Malformed`] where calls came as text and cannot be made.
pub fn repair(turn: &mut Turn, request: &Request) -> Result<u32, Failure> {
    let mut repaired = 0;
    for call in &mut turn.message.calls {
        if let Some(name) = offered(&call.name, &request.tools).filter(|name| *name != call.name) {
            call.name = name;
            repaired += 1;
        }
    }
    if !turn.message.calls.is_empty() || request.tools.is_empty() || turn.finish_reason != "stop" {
        return Ok(repaired);
    }
    let text = &turn.message.text;
    let Some((said, blocks)) = take_apart(text) else { return Ok(0) };
    if blocks.iter().any(|block| was_told(block.text, request)) {
        return Ok(0);
    }
    let mut calls = Vec::new();
    for block in &blocks {
        let found = read_block(block, &request.tools);
        let is_complete =
            !found.is_empty() && found.iter().all(|(name, _)| offered(name, &request.tools).is_some());
        if !is_complete && block.is_bare {
            // JSON that calls nothing is an answer.
            return Ok(0);
        }
        if !is_complete {
            let message = "the model's call came as text and calls nothing that was offered; its server needs a tool parser for this model";
            return Err(Failure::new(FailureKind::Malformed, message));
        }
        calls.extend(found);
    }
    let calls = calls.into_iter().filter_map(|(name, arguments)| {
        repaired += 1;
        Some(ToolCall {
            has_own_id: false,
            ..ToolCall::new(super::wire::local_id(), offered(&name, &request.tools)?, arguments)
        })
    });
    turn.message = AssistantMessage::new(said.trim(), calls.collect());
    turn.finish_reason = "tool_calls";
    Ok(repaired)
}

/// The offered tool that a name means: itself, or the only one that is left of it without decoration.
fn offered(name: &str, tools: &[ToolDefinition]) -> Option<String> {
    let known = |name: &str| tools.iter().find(|tool| tool.name == name).map(|tool| tool.name.clone());
    let name = name.trim();
    // harmony's channels, and the running numbers of others.
    let plain = name.split("<|").next().unwrap_or(name).trim();
    let plain = plain.split_once(':').map_or(plain, |(name, number)| match number.parse::<u32>() {
        Ok(_) => name,
        Err(_) => plain,
    });
    let last = plain.rsplit(['.', '/']).next().unwrap_or(plain);
    known(name).or_else(|| known(plain)).or_else(|| known(last))
}

/// A piece of a text that may be a call.
struct Block<'a> {
    /// With its markup.
    text: &'a str,
    inside: &'a str,
    /// Without any markup: the whole answer is JSON.
    is_bare: bool,
}

/// The text without its calls, and the calls; nothing where there is none.
fn take_apart(text: &str) -> Option<(String, Vec<Block<'_>>)> {
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '[']) && !trimmed.starts_with("[TOOL_CALLS]") {
        let is_whole = serde_json::from_str::<Value>(trimmed).is_ok();
        return is_whole
            .then(|| (String::new(), vec![Block { text: trimmed, inside: trimmed, is_bare: true }]));
    }
    let (mut said, mut blocks, mut at) = (String::new(), Vec::new(), 0);
    while let Some((begin, (open, close, inside))) = next_markup(text, at) {
        said.push_str(&text[at..begin]);
        let content = begin + open.len();
        let end = if close.is_empty() { None } else { text[content..].find(close).map(|end| content + end) };
        let (content_end, block_end) = match end {
            Some(end) => (end, end + close.len()),
            // Without a closing tag it goes to the end.
            None => (text.len(), text.len()),
        };
        let from = if inside == Inside::Function { begin } else { content };
        let to = if inside == Inside::Function { block_end } else { content_end };
        blocks.push(Block { text: &text[begin..block_end], inside: &text[from..to], is_bare: false });
        at = block_end;
    }
    said.push_str(&text[at..]);
    (!blocks.is_empty()).then_some((said, blocks))
}

/// The next markup that is neither quoted nor code.
fn next_markup(text: &str, from: usize) -> Option<(usize, (&'static str, &'static str, Inside))> {
    let all = MARKUPS
        .iter()
        .flat_map(|markup| text[from..].match_indices(markup.0).map(move |(at, _)| (from + at, *markup)));
    all.filter(|(at, _)| !is_quoted(text, *at)).min_by_key(|(at, _)| *at)
}

/// Whether a place lies in a code fence, in code within a line, behind a quote, or in a quoted line.
fn is_quoted(text: &str, at: usize) -> bool {
    let before = &text[..at];
    let fences = before.lines().filter(|line| {
        let line = line.trim_start();
        line.starts_with("```") || line.starts_with("~~~")
    });
    let line = before.rsplit('\n').next().unwrap_or_default();
    let last = line.trim_end().chars().next_back();
    fences.count() % 2 == 1
        || line.matches('`').count() % 2 == 1
        || line.trim_start().starts_with('>')
        || last.is_some_and(|last| "\"'“”‘’«»„‹›".contains(last))
}

/// Whether the job was told this text: by its user or a tool. White space does not count.
fn was_told(block: &str, request: &Request) -> bool {
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let block = bare(block);
    request.messages.iter().any(|message| match message {
        Message::User(text) => bare(text).contains(&block),
        Message::ToolOutcomes(outcomes) => {
            outcomes.iter().any(|outcome| bare(&outcome.text).contains(&block))
        }
        Message::Assistant(_) => false,
    })
}

/// The calls of a block; nothing where it cannot be read as such.
fn read_block(block: &Block<'_>, tools: &[ToolDefinition]) -> Vec<Found> {
    let inside = block.inside.trim();
    if let Some(found) = read_json(inside, block.is_bare) {
        return found;
    }
    let functions = read_functions(inside, tools);
    if !functions.is_empty() {
        return functions;
    }
    if let Some((name, rest)) = inside.split_once("<|tool_call_argument_begin|>")
        && let Ok(arguments) = serde_json::from_str(rest.trim())
    {
        return vec![(name.trim().to_owned(), arguments)];
    }
    // A name alone, then JSON or pairs of keys and values.
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

/// JSON documents of calls, one or several or a list. `needs_arguments`: a name alone is no call.
fn read_json(text: &str, needs_arguments: bool) -> Option<Vec<Found>> {
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
        let call = call.get("function").filter(|function| function.is_object()).unwrap_or(&call);
        let name = ["name", "tool", "tool_name"].iter().find_map(|member| call.get(*member)?.as_str())?;
        let members = ["arguments", "parameters", "args", "input"];
        let arguments = match members.iter().find_map(|member| call.get(*member)) {
            Some(Value::Object(members)) => members.clone(),
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            None | Some(Value::Null) if !needs_arguments => Map::new(),
            _ => return None,
        };
        Some((name.to_owned(), arguments))
    };
    let found: Option<Vec<Found>> = calls.into_iter().map(read).collect();
    found.filter(|found| !found.is_empty())
}

/// `<function=name>…</function>` and `<invoke name="name">…</invoke>`, with JSON or with parameters inside.
fn read_functions(text: &str, tools: &[ToolDefinition]) -> Vec<Found> {
    let mut found = Vec::new();
    for (open, close) in [("<function=", "</function>"), ("<invoke name=", "</invoke>")] {
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once(open) {
            let Some((name, behind)) = behind.split_once('>') else { break };
            let name = name.trim().trim_matches(['"', '\'']);
            let (body, behind) = behind.split_once(close).unwrap_or((behind, ""));
            let arguments = match serde_json::from_str::<Map<String, Value>>(body.trim()) {
                Ok(members) => Some(members),
                Err(_) => read_parameters(name, body, tools),
            };
            let Some(arguments) = arguments else { return Vec::new() };
            found.push((name.to_owned(), arguments));
            rest = behind;
        }
    }
    found
}

fn read_parameters(tool: &str, body: &str, tools: &[ToolDefinition]) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    let mut rest = body;
    while let Some((_, behind)) = rest.split_once("<parameter") {
        let (name, behind) = behind.split_once('>')?;
        let name =
            name.trim().trim_start_matches("name").trim_start_matches('=').trim_matches(['"', '\'', ' ']);
        let end = behind.find("</parameter>").or_else(|| behind.find("<parameter")).unwrap_or(behind.len());
        let value = behind[..end].strip_prefix('\n').unwrap_or(&behind[..end]);
        let value = value.strip_suffix('\n').unwrap_or(value);
        members.insert(name.to_owned(), typed(tool, name, value, tools));
        rest = &behind[end..];
    }
    let is_only_space = |text: &str| text.trim().is_empty();
    (!members.is_empty() || is_only_space(body)).then_some(members)
}

/// A value that came as text, as its tool's schema wants it.
fn typed(tool: &str, member: &str, value: &str, tools: &[ToolDefinition]) -> Value {
    let name = offered(tool, tools).unwrap_or_default();
    let schema = tools.iter().find(|tool| tool.name == name).map(|tool| &*tool.parameters);
    let kind = schema.and_then(|schema| schema.get("properties")?.get(member)?.get("type"));
    if kind.is_some_and(|kind| kind == "string") {
        return Value::from(value);
    }
    serde_json::from_str(value.trim()).unwrap_or_else(|_| Value::from(value))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn request(told: &str) -> Request {
        let tool = |name: &str| ToolDefinition {
            name: name.to_owned(),
            description: "".into(),
            parameters: Arc::new(
                json!({"properties": {"agent_id": {"type": "string"}, "limit": {"type": "integer"}}}),
            ),
        };
        Request {
            system: String::new(),
            messages: vec![Message::User(told.to_owned())],
            tools: ["get_agent_info", "backup_agents"].map(tool).into(),
        }
    }

    fn repaired(text: &str, told: &str) -> Result<Turn, String> {
        let message = AssistantMessage::new(text, Vec::new());
        let mut turn = Turn { message, finish_reason: "stop", ..Turn::default() };
        repair(&mut turn, &request(told)).map(|_| turn).map_err(|failure| failure.message)
    }

    const CALL: &str = r#"<tool_call>
{"name":"get_agent_info","arguments":{"agent_id":"7"}}
</tool_call>"#;

    /// Each of these is that call.
    #[test]
    fn the_common_forms_are_made() {
        let forms = [
            CALL,
            r#"Let me look.
<tool_call>{"name": "functions.get_agent_info", "parameters": {"agent_id": "7"}}</tool_call>"#,
            r#"{"name":"get_agent_info","parameters":{"agent_id":"7"}}"#,
            r#"[{"name":"get_agent_info","arguments":"{\"agent_id\":\"7\"}"}]"#,
            r#"{"type":"function","function":{"name":"get_agent_info","arguments":{"agent_id":"7"}}}"#,
            "<tool_call>\n<function=get_agent_info>\n<parameter=agent_id>\n7\n</parameter>\n</function>\n</tool_call>",
            r#"<function=get_agent_info>{"agent_id":"7"}</function>"#,
            "<tool_call>get_agent_info\n<arg_key>agent_id</arg_key>\n<arg_value>7</arg_value>\n</tool_call>",
            r#"<function_calls><invoke name="get_agent_info"><parameter name="agent_id">7</parameter></invoke></function_calls>"#,
            r#"[TOOL_CALLS][{"name": "get_agent_info", "arguments": {"agent_id": "7"}}]"#,
            r#"[TOOL_CALLS]get_agent_info{"agent_id": "7"}"#,
            r#"<|python_tag|>{"name": "get_agent_info", "parameters": {"agent_id": "7"}}"#,
            r#"<|tool_call_begin|>functions.get_agent_info:0<|tool_call_argument_begin|>{"agent_id":"7"}<|tool_call_end|>"#,
            r#"<tool_call>{"name": "get_agent_info", "arguments": {"agent_id": "7"}}"#,
        ];
        for form in forms {
            let turn = repaired(form, "who is 7?").unwrap();
            let [call] = &turn.message.calls[..] else { panic!("{form}: {:?}", turn.message) };
            assert_eq!((call.name.as_str(), turn.finish_reason), ("get_agent_info", "tool_calls"), "{form}");
            assert_eq!(call.arguments, Ok(json!({"agent_id": "7"}).as_object().cloned().unwrap()), "{form}");
        }
        assert_eq!(repaired(&format!("I look.\n{CALL}\n{CALL}"), "").unwrap().message.calls.len(), 2);
        assert_eq!(repaired(&format!("I look.\n{CALL}"), "").unwrap().message.text, "I look.");
    }

    /// None of these is a call.
    #[test]
    fn what_is_quoted_or_was_told_is_not_made() {
        let texts = [
            format!("It is written so:\n```\n{CALL}\n```\n"),
            format!("It is written so: `{}`", CALL.replace('\n', "")),
            format!("The file says \"{CALL}\"."),
            format!("> {CALL}"),
            r#"{"name": "Ada", "parameters": {"age": 36}}"#.to_owned(),
            r#"{"name": "get_agent_info"}"#.to_owned(),
            "The tag <tool> is not one.".to_owned(),
            "plain words".to_owned(),
        ];
        for text in texts {
            let turn = repaired(&text, "").unwrap();
            assert!(turn.message.calls.is_empty(), "{text}");
            assert_eq!((turn.message.text.as_str(), turn.finish_reason), (text.as_str(), "stop"));
        }
        // Whoever asked, or a file that a tool has read, has said the same.
        for told in [format!("what does {CALL} mean?"), CALL.replace('\n', " ")] {
            assert!(repaired(CALL, &told).unwrap().message.calls.is_empty());
        }
        assert!(
            repaired("<tool_call>{\"name\":\"launch_rockets\",\"arguments\":{}}</tool_call>", "")
                .unwrap_err()
                .contains("parser")
        );
        assert!(repaired("<tool_call>{\"name\":\"get_agent", "").unwrap_err().contains("parser"));
    }

    #[test]
    fn decorated_names_are_known() {
        let known = |name: &str| offered(name, &request("").tools);
        for name in [
            "get_agent_info",
            "functions.get_agent_info",
            "get_agent_info<|channel|>commentary",
            "get_agent_info:3",
        ] {
            assert_eq!(known(name).as_deref(), Some("get_agent_info"), "{name}");
        }
        for name in ["get_agent", "other", "", "get_agent_info:x"] {
            assert_eq!(known(name), None, "{name}");
        }
    }
}
