//! What a person types to name a task: words, a file, standard input; and the options that go with it.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Read},
};

use clap::Args;

use crate::{
    error::{Error, Result},
    pb::{AgentRun, Json, Task, TaskOptions, ToolCall, task},
};

/// The most bytes that are read of a file or of standard input; a gateway takes less.
const MAX_INPUT_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct TaskArguments {
    /// What is to be done; with --agent what the agent is told; with --tool its arguments as JSON. `@FILE` is the content of
    /// a file, `@@` begins a text with an @, `-` standard input, which is also read where nothing is given and it is no terminal
    #[arg(value_name = "INPUT")]
    input: Option<String>,
    /// Run this agent, without planning
    #[arg(long, conflicts_with = "tool")]
    agent: Option<String>,
    /// Call this tool
    #[arg(long)]
    tool: Option<String>,
    /// Longest time for the job, in seconds; left out, the configured limit
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "SECONDS")]
    timeout: u32,
    /// The conversation that it belongs to
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    conversation: String,
    /// A label to find the job by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// The same key gives the same job, however often it is submitted
    #[arg(long, default_value = "", hide_default_value = true, value_name = "KEY")]
    pub(super) idempotency_key: String,
}

impl TaskArguments {
    /// Returns the task, and whether standard input was read for it.
    ///
    /// # Errors
    /// When a file cannot be read, or the arguments of a tool are no JSON.
    pub(super) fn task(&self) -> Result<(Task, bool)> {
        let (input, has_read_stdin) = self.input()?;
        let task = match (&self.agent, &self.tool) {
            (Some(agent_id), _) => task::Task::AgentRun(AgentRun {
                agent_id: agent_id.clone(),
                input_text: input.unwrap_or_default(),
            }),
            (None, Some(tool)) => {
                let arguments = Json::compact(input.as_deref().unwrap_or("{}"))
                    .map_err(|error| Error::invalid("arguments", error.to_string()))?;
                task::Task::ToolCall(ToolCall { tool: tool.clone(), arguments: Some(arguments) })
            }
            (None, None) => task::Task::Command(input.unwrap_or_default()),
        };
        Ok((Task { task: Some(task) }, has_read_stdin))
    }

    fn input(&self) -> Result<(Option<String>, bool)> {
        let given = match self.input.as_deref() {
            Some("-") => (Some(read(io::stdin().lock(), "standard input")?), true),
            // A tool takes no arguments just as well, and its questions are answered there.
            None if self.tool.is_none() && !io::stdin().is_terminal() => {
                let text = read(io::stdin().lock(), "standard input")?;
                (Some(text).filter(|text| !text.is_empty()), true)
            }
            Some(text) => match text.strip_prefix('@').filter(|path| !path.is_empty()) {
                // `@@` is how a text that begins with an @ is written.
                Some(text) if text.starts_with('@') => (Some(text.to_owned()), false),
                Some(path) => {
                    let unreadable = |error: io::Error| {
                        let message = format!(
                            "@{path} cannot be read: {error}; write @@ for a text that begins with @"
                        );
                        Error::invalid("INPUT", message)
                    };
                    let file = std::fs::File::open(path).map_err(unreadable)?;
                    (Some(read(file, path)?), false)
                }
                None => (Some(text.to_owned()), false),
            },
            None => (None, false),
        };
        Ok(given)
    }

    /// Returns the options of the task.
    ///
    /// # Errors
    /// When a label is not written as `KEY=VALUE`.
    pub(super) fn options(&self) -> Result<TaskOptions> {
        let mut labels = BTreeMap::new();
        for label in &self.labels {
            let (key, value) = label.split_once('=').ok_or_else(|| {
                Error::invalid("--label", format!("`{}` is no KEY=VALUE", crate::text::quoted(label)))
            })?;
            labels.insert(key.to_owned(), value.to_owned());
        }
        Ok(TaskOptions {
            timeout_seconds: self.timeout,
            conversation_id: self.conversation.clone(),
            idempotency_key: self.idempotency_key.clone(),
            labels,
            ..TaskOptions::default()
        })
    }
}

/// Reads a text to its end, up to a bound.
fn read(from: impl Read, what: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::invalid("INPUT", format!("{what} cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        let message = format!("{what} is longer than {MAX_INPUT_BYTES} bytes");
        return Err(Error::new(crate::error::Reason::TooLarge, message));
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid("INPUT", format!("{what} is no UTF-8 text")))
}
