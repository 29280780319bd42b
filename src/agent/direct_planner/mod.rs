//! The direct planner: finds the one tool call that a command plainly means, without a model.
//!
//! A literal command line is run through the same typed tools. A sentence is understood only when it means one
//! read-only tool, with a margin over every other reading; some whole phrases of newcomers are answered. The planner declines
//! whatever it is not sure of, and does nothing that changes something but what is named literally, or agreed to.

mod command_line;
mod plain_request;
mod plan;
mod sentence;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use plan::Plan;
use plan::{call, decline};

/// Returns whether a command is a literal command line that means one tool.
pub(crate) fn is_command_line(command: &str) -> bool {
    matches!(command_line::plan(command.trim()), Some(Plan::Call(..)))
}

/// Plans a command. `agents` are the ids of the installed agents.
pub(crate) fn plan(command: &str, agents: &[String]) -> Plan {
    let command = command.trim();
    if let Some(plan) = command_line::plan(command) {
        return plan;
    }
    if let Some(plan) = plain_request::plan(command, agents) {
        return plan;
    }
    match sentence::meaning(command, agents) {
        Some((tool, arguments)) => call(tool, arguments),
        None => Plan::Decline(decline("I am not sure what is meant, so nothing was done.")),
    }
}
