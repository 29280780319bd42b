//! The direct planner: finds the one tool call that a command plainly means, without a model.
//!
//! A literal command line is run through the same typed tools. A sentence is understood only when it means one
//! read-only tool, with a margin over every other reading; the planner declines whatever it is not sure of, and
//! whatever would change something.

mod command_line;
mod sentence;
#[cfg(test)]
mod tests;
mod words;

use serde_json::Value;

use crate::tool::Call;

/// What a command means.
#[derive(Debug)]
pub enum Plan {
    /// This call, with its arguments as an object.
    Call(Call, Value),
    /// Nothing that the planner is sure of; the text says what it can do instead.
    Decline(String),
}

/// Returns whether a command is a literal command line that means one tool.
pub fn is_command_line(command: &str) -> bool {
    matches!(command_line::plan(command.trim()), Some(Plan::Call(..)))
}

/// Plans a command. `agents` are the ids of the installed agents.
pub fn plan(command: &str, agents: &[String]) -> Plan {
    let command = command.trim();
    if let Some(plan) = command_line::plan(command) {
        return plan;
    }
    match sentence::meaning(command, agents) {
        Some((tool, arguments)) => call(tool, arguments),
        None => Plan::Decline(decline("I am not sure what is meant, so nothing was done.")),
    }
}

fn call(tool: &str, arguments: Value) -> Plan {
    match Call::read(tool, Some(&crate::pb::Json::from_value(&arguments))) {
        Ok(call) => Plan::Call(call, arguments),
        Err(error) => {
            let field = error.field().unwrap_or_default().replace("arguments.", "");
            Plan::Decline(decline(&format!("{field} {error}.")))
        }
    }
}

fn decline(why: &str) -> String {
    format!(
        "{why} Without a language model this gateway understands requests to list the agents, to describe one \
         agent, to check the setup, to show the configuration or to list the templates, and literal command \
         lines such as `conductor --info SomeAgent`. To run an agent submit `agent_id` and `input_text`; for \
         everything else call a tool with `tool` and `arguments`."
    )
}
