//! Answers to a running task's questions: one line of standard input each, from a person or a script.

use std::io::{BufRead, IsTerminal};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{choices::choices, print};
use crate::{
    error::Reason,
    pb::{InputRequired, JobEvent, Json, job_event::Payload},
};

/// An answer and the question that it belongs to.
#[derive(Debug)]
pub(super) struct TypedAnswer {
    pub(super) job_id: String,
    pub(super) input_id: String,
    pub(super) value: Json,
}

/// The open question, and the lines of standard input, which is read only from the first question on.
#[derive(Default)]
pub(super) struct Answers {
    open: Option<(String, InputRequired)>,
    /// The question that was answered last.
    given: Option<(String, InputRequired)>,
    lines: Option<mpsc::Receiver<String>>,
}

impl Answers {
    /// Creates answers of which there are none: each question gets its default.
    pub(super) fn ended() -> Self {
        let (_sender, lines) = mpsc::channel(1);
        Self { lines: Some(lines), ..Self::default() }
    }

    /// Records that a question was asked, or that it has ended.
    pub(super) fn observe(&mut self, event: &JobEvent) {
        match &event.payload {
            Some(Payload::InputRequired(asked)) => {
                // What a person typed too late for the previous question must not answer this one. A script's lines are
                // in the order of its questions.
                if std::io::stdin().is_terminal() {
                    while self.lines.as_mut().is_some_and(|lines| lines.try_recv().is_ok()) {}
                }
                self.open = Some((event.job_id.clone(), asked.clone()));
            }
            Some(Payload::InputReceived(_) | Payload::EndOfStream(_)) => self.open = None,
            _ => {}
        }
    }

    /// Returns the next answer to the open question, or its default at the end of the input. A line that is no answer is
    /// asked again. Stays pending while no question is open. Cancel safe.
    pub(super) async fn next(&mut self) -> TypedAnswer {
        loop {
            let Some((job_id, asked)) = self.open.clone() else { return std::future::pending().await };
            let default = || asked.default_value.clone().unwrap_or_else(|| Json { text: "null".to_owned() });
            let line = self.lines.get_or_insert_with(lines).recv().await;
            let value = match line.as_deref() {
                None => {
                    let default = default();
                    print::to_stderr(&format!("standard input has ended; the answer is {}\n", default.text));
                    default
                }
                Some(line) => match typed(line, &asked) {
                    Ok(value) => value,
                    Err(message) => {
                        print::to_stderr(&format!("{message}\n"));
                        continue;
                    }
                },
            };
            // The question is opened again if the answer is refused.
            self.given = self.open.take();
            return TypedAnswer { job_id, input_id: asked.input_id, value };
        }
    }

    /// Handles the refusal of the last answer. After an answer that does not fit, the question may be answered again.
    pub(super) fn refused(&mut self, reason: Reason, message: &str) {
        print::to_stderr(&format!("{message}\n"));
        let is_open = matches!(reason, Reason::InvalidArgument | Reason::TooLarge);
        // At its end the input has no better answer, so the question's deadline decides.
        if is_open && self.lines.as_ref().is_some_and(|lines| !lines.is_closed() || !lines.is_empty()) {
            self.open = self.given.take();
        }
    }
}

/// Reads lines on a thread of its own, which is never joined, because a read from a terminal cannot be cancelled.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Returns the answer that a line is: an empty one is the question's default.
///
/// # Errors
/// What to type instead, if it is none.
fn typed(line: &str, asked: &InputRequired) -> Result<Json, String> {
    if line.trim().is_empty() {
        return match asked.default_value.clone().filter(|default| default.text != "null") {
            Some(default) => {
                print::to_stderr(&format!("the answer is {}\n", default.text));
                Ok(default)
            }
            None => Err("that is no answer; type one, or end the input with Ctrl-D".to_owned()),
        };
    }
    let value = value_of(line, asked.schema.as_ref());
    let choices = choices(asked.schema.as_ref());
    let schema = asked.schema.as_ref().and_then(|schema| schema.to_value().ok()).unwrap_or_default();
    let given = value.to_value().unwrap_or_default();
    let is_one = match (schema["enum"].as_array(), schema["type"].as_str()) {
        (Some(values), _) => values.contains(&given),
        (None, Some("boolean")) => given.is_boolean(),
        _ => true,
    };
    if is_one { Ok(value) } else { Err(format!("that is none of the answers{choices}; type one of them")) }
}

/// Converts what a person typed as an answer: to text if the question takes text; to a boolean for yes or no if it
/// takes one; else to a JSON value.
pub(super) fn value_of(answer: &str, schema: Option<&Json>) -> Json {
    let schema = schema.and_then(|schema| schema.to_value().ok()).unwrap_or_default();
    let takes = |wanted: &str| {
        schema["type"] == wanted
            || schema["type"].as_array().is_some_and(|types| types.iter().any(|kind| kind == wanted))
    };
    let is_choice = |choice: &str| {
        schema["enum"].as_array().is_some_and(|values| values.iter().any(|value| value == choice))
    };
    // A yes and a no have their first letters, in any case of letters.
    let choice = match answer.trim().to_lowercase().as_str() {
        "y" | "yes" if is_choice("yes") => Some("yes"),
        "n" | "no" if is_choice("no") => Some("no"),
        _ => Some(answer.trim()).filter(|answer| is_choice(answer)),
    };
    if choice.is_some() || takes("string") {
        return Json::from_value(&Value::String(choice.unwrap_or(answer).to_owned()));
    }
    if takes("boolean") {
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => return Json::from_value(&Value::Bool(true)),
            "n" | "no" => return Json::from_value(&Value::Bool(false)),
            _ => {}
        }
    }
    Json::compact(answer).unwrap_or_else(|_| Json::from_value(&Value::String(answer.to_owned())))
}
