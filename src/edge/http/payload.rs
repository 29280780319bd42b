//! JSON bodies: a task in any of the forms that clients send, and its options.

use std::collections::BTreeMap;

use axum::body::Body;
use http::{HeaderMap, Request, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    edge::whole_body::read_whole,
    error::{Error, Reason, Result},
    pb::{AgentRun, Json, OnDisconnect, Task, TaskOptions, ToolCall, task},
    text::{RESERVED_NAME_REFUSED, bounded, has_reserved_name},
};

/// How many ignored members of a body are named.
const MAX_IGNORED: usize = 20;

/// A body as clients send it. Unknown members are ignored, because older clients send some, and named in the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Payload {
    command: Option<String>,
    input: Option<String>,
    #[serde(rename = "textEntries")]
    text_entries: Option<Vec<TextEntry>>,
    agent_id: Option<String>,
    input_text: Option<String>,
    tool: Option<String>,
    arguments: Option<Value>,
    idempotency_key: Option<String>,
    timeout_seconds: Option<u32>,
    queue_timeout_seconds: Option<u32>,
    on_disconnect: Option<OnDisconnect>,
    conversation_id: Option<String>,
    working_directory: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    max_steps: Option<u32>,
    max_total_tokens: Option<u32>,
    max_cost: Option<Value>,
    /// Of the earlier gateway: the conversation.
    instance_id: Option<String>,
    /// Of the earlier gateway: a directory of the client's machine, which is not looked at.
    cwd: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TextEntry {
    content: Option<String>,
}

/// Returns the deserializer's message without the names of Rust types.
fn in_words(error: &serde_json::Error) -> String {
    let text = bounded(&error.to_string(), 500);
    let plain = text.replace("expected struct Payload", "expected an object").replace("struct ", "");
    plain.replace("expected u32", "expected a number from 0 to 4294967295")
}

/// Reads a JSON body within its size limit and its deadline. An empty body counts as an empty object. Also returns the paths of
/// the members that nobody knows: the first ones, each shortened.
pub(super) async fn read_noting<T: DeserializeOwned>(
    request: Request<Body>,
    limit: usize,
) -> Result<(T, Vec<String>)> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default().to_owned());
    let is_json = kind.as_deref().is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    });
    let (head, body) = request.into_parts();
    let bytes = read_whole(&head.headers, body, limit).await?;
    // A foreign page can send forms and plain text without a CORS preflight, but not JSON.
    let is_absent = bytes.is_empty() && kind.is_none();
    if !is_json && !is_absent {
        return Err(Error::new(
            Reason::UnsupportedMediaType,
            "send the body as `Content-Type: application/json`",
        ));
    }
    parse(&bytes)
}

/// Parses a body; also returns the paths of its unknown members.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<String>)> {
    // RFC 8259, section 8.1: a byte order mark may be ignored.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let bytes = if bytes.trim_ascii().is_empty() { &b"{}"[..] } else { bytes };
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::new(Reason::MalformedBody, "the body must be a JSON object, not a list"));
    }
    // The deserializer skips ignored members unchecked, but they must be valid UTF-8 too.
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::new(Reason::MalformedBody, format!("the body is not UTF-8: {error}")))?;
    if has_reserved_name(text) {
        return Err(Error::new(
            Reason::MalformedBody,
            format!("the body is not what is expected: {RESERVED_NAME_REFUSED}"),
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut ignored = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        if ignored.len() < MAX_IGNORED {
            ignored.push(bounded(&path.to_string().replace("?.", ""), 100));
        }
    };
    let noting = serde_ignored::Deserializer::new(&mut deserializer, &mut note);
    let value = serde_path_to_error::deserialize(noting).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let malformed = Error::new(
            Reason::MalformedBody,
            format!("the body is not what is expected: {}", in_words(&inner)),
        );
        if path == "." || path == "?" { malformed } else { malformed.at(bounded(&path, 200)) }
    })?;
    deserializer.end().map_err(|error| {
        Error::new(Reason::MalformedBody, format!("the body goes on behind its JSON: {error}"))
    })?;
    Ok((value, ignored))
}

/// Returns the task and options of a body.
#[cfg(any(test, fuzzing))]
pub(crate) fn body_task(bytes: &[u8]) -> Result<(Task, TaskOptions)> {
    parse::<Payload>(bytes)?.0.into_task(&HeaderMap::new())
}

impl Payload {
    /// Returns whether the body is written as for the earlier gateway.
    pub(super) fn is_compatible(&self) -> bool {
        let is_both = self.command.is_some() && self.input.is_some();
        self.text_entries.is_some() || self.instance_id.is_some() || self.cwd.is_some() || is_both
    }

    /// Reads the body as the earlier gateway did: `input` before `command`, entries of text as the input of an agent, the
    /// instance as the conversation. `agent_id` is the agent that the path names.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] if path and body name different agents.
    pub(super) fn compatible(mut self, agent_id: Option<String>) -> Result<Self> {
        if self.input.is_some() {
            self.command = None;
        }
        if let Some(named) = agent_id {
            if self.agent_id.as_ref().is_some_and(|other| *other != named) {
                return Err(Error::invalid("agent_id", "is another one than the path names"));
            }
            self.agent_id = Some(named);
        }
        if self.agent_id.is_some() && self.input_text.is_none() {
            let entries = self.text_entries.take().unwrap_or_default();
            let entries: Vec<String> = entries.into_iter().filter_map(|entry| entry.content).collect();
            let entries = Some(entries.join("\n\n")).filter(|text| !text.is_empty());
            let given = [entries, self.input.take(), self.command.take()].into_iter().flatten().next();
            self.input_text = Some(given.unwrap_or_default());
        }
        self.conversation_id = self.conversation_id.or(self.instance_id.take());
        Ok(self)
    }

    /// Returns the single task of the body.
    ///
    /// # Errors
    /// [`Reason::NoTask`] if there is none; [`Reason::InvalidArgument`] if there is more than one, or one is incomplete.
    fn task(&mut self) -> Result<Task> {
        let from_entries = self.text_entries.take().and_then(|entries| entries.into_iter().next()?.content);
        let commands: Vec<String> =
            [self.command.take(), self.input.take(), from_entries].into_iter().flatten().collect();
        let agent_run = match (self.agent_id.take(), self.input_text.take()) {
            (None, None) => None,
            (agent_id, input_text) => Some(AgentRun {
                agent_id: agent_id
                    .ok_or_else(|| Error::invalid("agent_id", "is missing beside input_text"))?,
                input_text: input_text
                    .ok_or_else(|| Error::invalid("input_text", "is missing beside agent_id"))?,
            }),
        };
        let tool_call = match (self.tool.take(), self.arguments.take()) {
            (None, None) => None,
            (None, Some(_)) => return Err(Error::invalid("tool", "is missing beside arguments")),
            (Some(tool), arguments) => {
                Some(ToolCall { tool, arguments: arguments.as_ref().map(Json::from_value) })
            }
        };
        let count = commands.len() + usize::from(agent_run.is_some()) + usize::from(tool_call.is_some());
        if count > 1 {
            let message = "more than one task: give exactly one of `command`, `agent_id` with `input_text`, and `tool` with `arguments`";
            return Err(Error::new(Reason::InvalidArgument, message));
        }
        let command = commands.into_iter().next().filter(|command| !command.trim().is_empty());
        let task = command
            .map(task::Task::Command)
            .or(agent_run.map(task::Task::AgentRun))
            .or(tool_call.map(task::Task::ToolCall))
            .ok_or_else(|| Error::new(Reason::NoTask, "No command found in payload"))?;
        Ok(Task { task: Some(task) })
    }

    /// Returns the task and its options. The idempotency key may come from the body or the header; two different ones are
    /// refused.
    pub(super) fn into_task(mut self, headers: &HeaderMap) -> Result<(Task, TaskOptions)> {
        let task = self.task()?;
        let mut header_keys = headers.get_all("idempotency-key").iter();
        let first_key = header_keys.next();
        if header_keys.any(|key| Some(key) != first_key) {
            return Err(Error::invalid("Idempotency-Key", "is given more than once, and differs"));
        }
        let header_key = match first_key {
            None => None,
            Some(key) => Some(
                key.to_str()
                    .map_err(|_| {
                        Error::invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
                    })?
                    // The draft standard defines the key as a quoted string.
                    .trim_matches('"')
                    .to_owned(),
            ),
        };
        let key = match (self.idempotency_key, header_key) {
            (Some(body), Some(header)) if body != header => {
                return Err(Error::invalid(
                    "idempotency_key",
                    "is another one than the Idempotency-Key header",
                ));
            }
            // A client that sends the header relies on its protection, so an empty key must not be ignored.
            (_, Some(header)) if header.is_empty() => {
                return Err(Error::invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters"));
            }
            (body, header) => body.or(header).unwrap_or_default(),
        };
        let options = TaskOptions {
            idempotency_key: key,
            timeout_seconds: self.timeout_seconds.unwrap_or(0),
            queue_timeout_seconds: self.queue_timeout_seconds.unwrap_or(0),
            on_disconnect: self.on_disconnect.unwrap_or(OnDisconnect::Unspecified) as i32,
            conversation_id: self.conversation_id.unwrap_or_default(),
            working_directory: self.working_directory.unwrap_or_default(),
            labels: self.labels.unwrap_or_default(),
            max_steps: self.max_steps.unwrap_or(0),
            max_total_tokens: self.max_total_tokens.unwrap_or(0),
            max_cost: match self.max_cost {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
            },
        };
        Ok((task, options))
    }
}
