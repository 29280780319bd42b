//! Recovers tool calls that a model wrote as text because its server did not parse them, where that is beyond doubt.
//!
//! In a turn with structured calls only decorated names are repaired. Markup counts if it begins a line outside code, quotes and
//! comments and nothing but markup follows it, and only if the same text occurs in nothing that this job was given: a model that
//! quotes a file must not execute what the file contains.

mod formats;

use serde_json::Value;

use self::formats::{CallMarkup, offered, read_block};
use super::{
    AssistantMessage, FailureKind, MAX_CALLS, Message, ModelFailure, ModelRequest, ModelTurn, ToolCall,
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum MarkupKind {
    /// JSON, or one of the other formats.
    Any,
    /// A name, then parameters or JSON. The opening tag is part of it.
    Function,
}

/// Corrects decorated tool names and turns calls that the model wrote as text into calls, changing the turn in place. Text that
/// quotes the request, or is longer than 256 KiB, is left alone. Returns how many calls were changed or created.
///
/// # Errors
/// [`FailureKind::Malformed`] if markup for a call does not name offered tools, was cut off or holds more calls than a turn may
/// have, or if the turn ended with `tool_calls` and has none; the turn is unchanged then.
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

#[cfg(test)]
mod tests;
