//! Normalises tasks: every submission, through whichever door, passes here before anything is looked up or stored.
//!
//! Doors hand over wire types with unchecked text. After normalisation the arguments of a call are absent or one JSON object,
//! fully parsed, compact and bounded; equal tasks have equal bytes, whatever door and whitespace they came with; and the
//! record fits what the store can read. `properties::task` and `tests/it/hostile.rs` verify this.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::{
    agent,
    engine::is_id,
    error::{Error, Reason, Result},
    pb::{Json, OnDisconnect, Task, TaskOptions, task},
    text::{quoted, read_json},
};

/// The longest arguments of a tool call, as compact JSON, in bytes; with the rest of the task they fit one event.
pub(crate) const MAX_ARGUMENTS_BYTES: usize = 192 * 1024;

/// A checked and normalised task.
#[derive(Debug)]
pub(crate) struct NormalizedTask {
    /// The task as it is stored.
    pub(crate) task: Task,
    /// The options as they are stored.
    pub(crate) options: TaskOptions,
    /// The task as it is run.
    pub(crate) read: agent::Task,
    /// Distinguishes a repeated submission from a different one under the same key: SHA-256 over task and options without
    /// `on_disconnect`, which is not part of the request.
    pub(crate) digest: bytes::Bytes,
    /// The digests of earlier builds, which included `on_disconnect`: of the task as submitted and of its normal form.
    pub(crate) earlier_digests: [bytes::Bytes; 2],
}

/// Checks and normalises a task and its options.
///
/// # Errors
/// [`Reason::NoTask`]; [`Reason::InvalidArgument`], [`Reason::UnknownTool`], [`Reason::TooLarge`] and [`Reason::Unsupported`]
/// with the field's path.
pub(crate) fn normal(task: Option<Task>, options: TaskOptions) -> Result<NormalizedTask> {
    check_options(&options)?;
    let raw = digest(&task.clone().unwrap_or_default(), &options);
    let mut task = task.unwrap_or_default();
    if let Some(task::Task::ToolCall(call)) = &mut task.task {
        let text = call.arguments.take().unwrap_or_default().text;
        call.arguments = arguments(&text)?;
    }
    let read = agent::Task::read(Some(&task), &options.conversation_id)?;
    let earlier_digests = [raw, digest(&task, &options)];
    let request = TaskOptions { on_disconnect: OnDisconnect::Unspecified as i32, ..options.clone() };
    let digest = digest(&task, &request);
    let mut options = options;
    if options.conversation_id.is_empty()
        && let agent::Task::Call(call, _) = &read
    {
        // So that a conversation's jobs are found, wherever it was named.
        options.conversation_id = call.conversation_id().unwrap_or_default().to_owned();
    }
    Ok(NormalizedTask { digest, earlier_digests, task, options, read })
}

/// Returns the arguments of a call as compact, sorted JSON; `None` for an empty text, `null` and an empty object.
fn arguments(text: &str) -> Result<Option<Json>> {
    const FIELD: &str = "task.tool_call.arguments";
    if matches!(text.trim(), "" | "null") {
        return Ok(None);
    }
    // Checked before parsing, to bound its cost: arguments of this length are refused even if most of them is whitespace.
    if text.len() > 8 * MAX_ARGUMENTS_BYTES {
        return Err(too_large(text.len()));
    }
    let mut value = read_json(text.trim_start_matches('\u{FEFF}'))
        .map_err(|error| Error::invalid(FIELD, format!("are not one JSON value: {error}")))?;
    if !value.is_object() {
        return Err(Error::invalid(FIELD, "must be a JSON object"));
    }
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(None);
    }
    // Members are unordered (RFC 8259, section 4), and many clients send them in a different order each time.
    value.sort_all_objects();
    let json = Json::from_value(&value);
    if json.text.len() > MAX_ARGUMENTS_BYTES { Err(too_large(json.text.len())) } else { Ok(Some(json)) }
}

fn too_large(bytes: usize) -> Error {
    let message = format!("are {bytes} bytes of JSON; at most {MAX_ARGUMENTS_BYTES} are taken");
    Error::new(Reason::TooLarge, message).at("task.tool_call.arguments")
}

fn digest(task: &Task, options: &TaskOptions) -> bytes::Bytes {
    let mut hash = Sha256::new();
    hash.update(task.encode_to_vec());
    hash.update(options.encode_to_vec());
    hash.finalize().to_vec().into()
}

fn check_options(options: &TaskOptions) -> Result<()> {
    let key = &options.idempotency_key;
    if key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid("options.idempotency_key", "must be 1 to 255 visible ASCII characters"));
    }
    if !options.conversation_id.is_empty() && !is_id(&options.conversation_id) {
        let message = "must begin with a letter or digit and hold only letters, digits, `_` and `-`, at most 128 of them";
        return Err(Error::invalid("options.conversation_id", message));
    }
    if OnDisconnect::try_from(options.on_disconnect).is_err() {
        return Err(Error::invalid("options.on_disconnect", "must be CONTINUE or CANCEL"));
    }
    if !options.max_cost.is_empty() && crate::llm::dollars(&options.max_cost).is_none() {
        return Err(Error::invalid(
            "options.max_cost",
            "must be an amount of US dollars as decimal text, such as 0.25",
        ));
    }
    if options.labels.len() > 32 {
        return Err(Error::invalid("options.labels", "must be at most 32"));
    }
    for (key, value) in &options.labels {
        if !is_id(key) || value.len() > 256 {
            let message = "a label's key must be letters, digits, `_` and `-`, its value at most 256 bytes";
            return Err(Error::invalid(format!("options.labels.{}", quoted(key)), message));
        }
    }
    if !options.working_directory.is_empty() {
        return Err(Error::new(
            Reason::Unsupported,
            "this engine runs in its own root and cannot work in another directory; leave working_directory out",
        )
        .at("options.working_directory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
