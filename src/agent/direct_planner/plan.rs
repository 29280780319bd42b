//! What the direct planner decides.

use serde_json::Value;

use crate::tool::Call;

/// What a command means.
#[derive(Debug)]
pub(crate) enum Plan {
    /// This call, with its arguments as an object.
    Call(Call, Value),
    /// This call, once the person who asked has agreed.
    Ask {
        /// What the person is asked.
        question: String,
        /// The call.
        call: Call,
        /// Its arguments, as an object.
        arguments: Value,
    },
    /// This text, without any call.
    Answer(String),
    /// Nothing that the planner is sure of; the text says what it can do instead.
    Decline(String),
}

pub(super) fn call(tool: &str, arguments: Value) -> Plan {
    match Call::read(tool, Some(&crate::pb::Json::from_value(&arguments))) {
        Ok(call) => Plan::Call(call, arguments),
        Err(error) => {
            let field = error.field().unwrap_or_default().replace("arguments.", "");
            Plan::Decline(decline(&format!("{field} {error}.")))
        }
    }
}

pub(super) fn decline(why: &str) -> String {
    format!(
        "{why} Without a language model this gateway understands requests to list the agents, to describe one \
         agent, to check the setup, to show the configuration or to list the templates, `ask SomeAgent: …`, and literal \
         command lines such as `conductor --info SomeAgent`; `help` says more. To run an agent submit `agent_id` and \
         `input_text`; for everything else call a tool with `tool` and `arguments`."
    )
}
