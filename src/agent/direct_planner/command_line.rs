//! Literal command lines of the engine, split as a POSIX shell splits them; nothing is expanded or run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::plan::{Plan, call, decline};
use crate::text::quoted;

/// Flags that take a value.
const WITH_VALUE: &[&str] = &["--info", "--install", "--agent", "--input", "--timeout", "--output", "--path"];
/// Flags that take none.
const BARE: &[&str] = &["--list", "--validate", "--chat", "--clear", "--backup"];
/// Words that only mean something to a shell, and are a sign of more than one command.
const SHELL_WORDS: &[&str] = &[";", "&&", "||", "|", "&", ">", ">>", "<"];

/// Plans a command line. Returns `None` when the command is not one.
pub(super) fn plan(command: &str) -> Option<Plan> {
    let command = unwrapped(command);
    let first = command.split_whitespace().next()?;
    let is_program = first.eq_ignore_ascii_case("conductor") || first.ends_with("/conductor");
    let is_flag = first.starts_with("--");
    if !is_program && !is_flag {
        return None;
    }
    let words = match shlex::split(command) {
        Some(words) => words,
        // Only in a command line is this an error; the apostrophe in "conductor's agents" opens no quote.
        None if is_flag || command.contains(" --") => {
            return Some(Plan::Decline(decline("The command line has a quote that is not closed.")));
        }
        None => return None,
    };
    let arguments = if is_program { &words[1..] } else { &words[..] };
    if !is_flag
        && !arguments.first().is_some_and(|argument| argument.starts_with("--") || argument == "execute")
    {
        return None; // "conductor, list my agents" is a sentence
    }
    Some(read(arguments).unwrap_or_else(|why| Plan::Decline(decline(&why))))
}

/// Returns the command line itself, out of "please run `…`".
fn unwrapped(command: &str) -> &str {
    let mut rest = command.trim();
    for word in ["please", "run", "execute"] {
        let stripped = rest.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word));
        if stripped.is_some() && rest[word.len()..].starts_with(' ') {
            rest = rest[word.len()..].trim_start();
        }
    }
    let quoted = ['`', '"', '\''].into_iter().find_map(|quote| rest.strip_prefix(quote)?.strip_suffix(quote));
    let inner = quoted.filter(|inner| inner.to_ascii_lowercase().starts_with("conductor ")).unwrap_or(rest);
    let is_line = inner.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("conductor "));
    if is_line || inner.starts_with("--") { inner } else { command }
}

fn read(arguments: &[String]) -> Result<Plan, String> {
    let mut flags: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut rest = arguments
        .iter()
        .map(String::as_str)
        .skip(usize::from(arguments.first().is_some_and(|a| a == "execute")));
    while let Some(word) = rest.next() {
        if SHELL_WORDS.contains(&word) {
            return Err(format!("The command line holds `{word}`; one command at a time, without a shell."));
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let flag = if let Some(flag) = WITH_VALUE.iter().find(|flag| **flag == name) {
            let value = match value {
                Some(value) => value,
                None => rest.next().ok_or_else(|| format!("The flag {name} wants a value."))?.to_owned(),
            };
            (*flag, Some(value))
        } else if let Some(flag) = BARE.iter().find(|flag| **flag == name && value.is_none()) {
            (*flag, None)
        } else if matches!(name, "--restore" | "--migrate-from" | "--migrate-to") {
            return Err(format!("{name} replaces what is there, so it is not run from a command line."));
        } else {
            return Err(format!("The flag `{}` is not known.", quoted(word)));
        };
        if flags.insert(flag.0, flag.1).is_some() {
            return Err(format!("The flag {} is given twice.", flag.0));
        }
    }
    meaning(flags)
}

fn meaning(mut flags: BTreeMap<&str, Option<String>>) -> Result<Plan, String> {
    // Exactly one of these is the command; the other flags are its options.
    let commands = ["--list", "--info", "--validate", "--install", "--agent", "--backup"];
    let given: Vec<&str> = commands.into_iter().filter(|command| flags.contains_key(command)).collect();
    let [command] = given[..] else {
        return Err("The command line has to hold exactly one of --list, --info, --validate, --install, --backup and --agent.".into());
    };
    let value = flags.remove(command).flatten();
    let plan = match command {
        "--list" => call("list_available_agents", json!({})),
        "--info" => call("get_agent_info", json!({"agent_id": value})),
        "--validate" => call("validate_conductor_system", json!({})),
        "--install" if value.as_deref() == Some("list") => call("install_agent_templates", json!({})),
        "--install" => call("install_agent_templates", json!({"template_name": value})),
        "--backup" => {
            let path = flags.remove("--path").flatten();
            call("backup_agents", path.map_or_else(|| json!({}), |path| json!({"backup_path": path})))
        }
        _ => agent(value.as_deref(), &mut flags)?,
    };
    // A listing is returned as data whatever the format is.
    if matches!(command, "--list" | "--info" | "--validate") {
        flags.remove("--output");
    }
    match flags.keys().next() {
        Some(left) => Err(format!("The flag {left} does not go with {command}.")),
        None => Ok(plan),
    }
}

fn agent(agent_id: Option<&str>, flags: &mut BTreeMap<&str, Option<String>>) -> Result<Plan, String> {
    let input = flags
        .remove("--input")
        .flatten()
        .ok_or("The flag --agent wants --input with what the agent is told.")?;
    let mut arguments = json!({"agent_id": agent_id, "input_text": input});
    if let Some(timeout) = flags.remove("--timeout").flatten() {
        let seconds: u32 = timeout
            .parse()
            .map_err(|_| format!("--timeout wants a number of seconds, not `{}`.", quoted(&timeout)))?;
        arguments["timeout"] = json!(seconds);
    }
    let is_contextual = flags.remove("--chat").is_some();
    let clears = flags.remove("--clear").is_some();
    if is_contextual {
        arguments["clear_history"] = json!(clears);
        return Ok(call("execute_agent_contextual", arguments));
    }
    if clears {
        return Err("The flag --clear goes with --chat only.".into());
    }
    if let Some(format) = flags.remove("--output").flatten().map(Value::String) {
        arguments["output_format"] = format;
    }
    Ok(call("execute_agent_stateless", arguments))
}
