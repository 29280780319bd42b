//! The open question of a job, and how an answer reaches it.

use std::sync::{Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    error::{Error, Reason, Result},
    sync::lock,
    text::{bounded, quoted},
};

/// An answer of more bytes, as JSON, is refused.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Takes the answers to a job's questions, of which one is open at a time.
#[derive(Debug, Default)]
pub struct QuestionSlot(Mutex<Option<OpenQuestion>>);

#[derive(Debug)]
struct OpenQuestion {
    input_id: String,
    schema: Value,
    /// Is accepted as an answer too, whatever the schema says.
    default: Value,
    answer: oneshot::Sender<AcceptedAnswer>,
}

/// An answer that was accepted.
#[derive(Debug)]
pub(super) struct AcceptedAnswer {
    pub(super) value: Value,
    pub(super) caller: String,
    /// Is notified once the answer is written.
    pub(super) taken: oneshot::Sender<()>,
}

impl QuestionSlot {
    fn state(&self) -> MutexGuard<'_, Option<OpenQuestion>> {
        lock(&self.0)
    }

    /// Opens a question, and returns the receiver of its answer.
    pub(super) fn open(
        &self,
        input_id: &str,
        schema: &Value,
        default: &Value,
    ) -> oneshot::Receiver<AcceptedAnswer> {
        let (answer, receiver) = oneshot::channel();
        let (schema, default) = (schema.clone(), default.clone());
        *self.state() = Some(OpenQuestion { input_id: input_id.to_owned(), schema, default, answer });
        receiver
    }

    /// Closes the question; nobody can answer it any more.
    pub(super) fn close(&self) {
        *self.state() = None;
    }

    /// Answers the open question. The returned receiver is notified when the answer is written among the job's events.
    ///
    /// # Errors
    /// [`Reason::NoOpenQuestion`]; [`Reason::InvalidArgument`] with what does not fit, or [`Reason::TooLarge`], and the
    /// question stays open.
    pub fn answer(&self, input_id: &str, value: Value, caller: &str) -> Result<oneshot::Receiver<()>> {
        let mut state = self.state();
        let shown = quoted(input_id);
        let open = match &*state {
            Some(open) if open.input_id == input_id => open,
            Some(open) => {
                let message = format!(
                    "the open question is `{}`, not `{shown}`; it may have been answered already",
                    open.input_id
                );
                return Err(Error::new(Reason::NoOpenQuestion, message));
            }
            None => {
                let message = format!("the job asks nothing now, so `{shown}` answers nothing");
                return Err(Error::new(Reason::NoOpenQuestion, message));
            }
        };
        if value.to_string().len() > MAX_ANSWER_BYTES {
            let message = format!("is longer than {MAX_ANSWER_BYTES} bytes");
            return Err(Error::new(Reason::TooLarge, message).at("value"));
        }
        if value != open.default {
            check(&open.schema, &value)?;
        }
        let (taken, receiver) = oneshot::channel();
        let answer = AcceptedAnswer { value, caller: caller.to_owned(), taken };
        match state.take().map(|open| open.answer.send(answer)) {
            Some(Ok(())) => Ok(receiver),
            _ => Err(Error::new(Reason::NoOpenQuestion, format!("the time to answer `{shown}` is over"))),
        }
    }
}

/// Checks a value against a JSON Schema.
fn check(schema: &Value, value: &Value) -> Result<()> {
    // An invalid schema holds nobody up: what it asks for cannot be known.
    let Ok(validator) = jsonschema::validator_for(schema) else { return Ok(()) };
    validator.validate(value).map_err(|error| {
        let path = error.instance_path().to_string();
        Error::invalid(
            bounded(&format!("value{}", path.replace('/', ".")), 200),
            format!("does not fit the question's schema: {}", bounded(&error.to_string(), 300)),
        )
    })
}

#[cfg(test)]
mod tests;
