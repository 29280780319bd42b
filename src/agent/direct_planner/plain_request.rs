//! Requests of a few words that newcomers type: help, what is going on, install templates, ask an agent. Each is a whole phrase, so
//! that nothing is guessed.

use serde_json::json;

use super::plan::{Plan, call};

/// Phrases that ask what can be done here.
const HELP: &[&str] = &[
    "help", "help me", "hello", "hi", "hey", "hello there", "hi there", "good morning", "usage", "commands",
    "what can you do", "what can i do", "what can i do here", "what do you do", "what are you",
    "who are you", "how does this work", "how do i use this", "how do i start", "get started",
    "getting started", "start here", "ola", "olá", "ajuda",
];
/// Phrases that ask what is going on.
const STATUS: &[&str] =
    &["status", "show status", "show the status", "what is running", "what's running", "what is going on"];
/// Phrases that ask for the jobs.
const JOBS: &[&str] = &[
    "jobs", "list jobs", "list my jobs", "list the jobs", "list all jobs", "show jobs", "show my jobs",
    "show the jobs", "show all jobs", "my jobs",
];

/// Returns the plan for such a request, if it is one. `agents` are the ids of the installed agents.
pub(super) fn plan(command: &str, agents: &[String]) -> Option<Plan> {
    let phrase = command.trim().trim_end_matches(['?', '!', '.', ' ']).to_lowercase();
    let phrase = phrase.strip_prefix("please ").unwrap_or(&phrase);
    if HELP.contains(&phrase) {
        return Some(Plan::Answer(help(agents)));
    }
    if STATUS.contains(&phrase) {
        return Some(Plan::Answer(format!(
            "The gateway works; no language model is configured, and {} agents are installed. `conductor-gateway status`, \
             `GET /api/v1/info` and `GetServerInfo` say what runs and what waits, `conductor-gateway doctor` what to do.",
            agents.len()
        )));
    }
    if JOBS.contains(&phrase) {
        let text = "Jobs are listed by `conductor-gateway jobs list`, `GET /api/v1/jobs` and `ListJobs`: newest first, \
                    filtered by state, label and conversation.";
        return Some(Plan::Answer(text.to_owned()));
    }
    install(phrase).or_else(|| ask(command.trim(), agents))
}

/// Returns what works here, how an agent is chosen, and how a model is configured.
fn help(agents: &[String]) -> String {
    let agent = agents.first().map_or("SomeAgent", String::as_str);
    let installed = match agents.len() {
        0 => "None is installed; say `install all templates`.".to_owned(),
        1..=12 => format!("Installed are {}.", agents.join(", ")),
        count => format!("{count} are installed; say `list the agents`."),
    };
    format!(
        "This gateway runs agents and tools. No language model is configured, so that it understands plain requests only:\n\
         - `list the agents`, `describe {agent}`, `list the templates`, `install all templates`\n\
         - `check the setup`, `show the configuration`, `status`, `list jobs`\n\
         - `ask {agent}: …` runs an agent; so does `conductor-gateway run --agent {agent} \"…\"`, or a body with \
         `agent_id` and `input_text`\n\
         - literal command lines, such as `conductor --info {agent}`\n\
         {installed}\n\
         With a model it understands any request: set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY, or a server of \
         your own by agent.provider, agent.base_url and agent.model; `conductor-gateway doctor` says what is missing."
    )
}

/// `install all templates`, `install the core templates`, `install template X`: with a question first.
fn install(phrase: &str) -> Option<Plan> {
    let words: Vec<&str> =
        phrase.split_whitespace().filter(|word| !matches!(*word, "the" | "agent" | "of")).collect();
    let name = match words.as_slice() {
        ["install", "all", "templates" | "agents"] | ["install", "templates" | "all" | "everything"] => "all",
        ["install", name, "templates" | "template"] | ["install", "template" | "templates", name] => name,
        _ => return None,
    };
    match call("install_agent_templates", json!({"template_name": name})) {
        Plan::Call(call, arguments) => {
            let question = match name {
                "all" => "Install all templates of agents?".to_owned(),
                name => format!("Install the templates `{}`?", crate::text::quoted(name)),
            };
            Some(Plan::Ask { question, call, arguments })
        }
        declined => Some(declined),
    }
}

/// `ask X: …`, `ask X "…"`, `run X: …`, `run X on "…"`: the text is told to the agent as it is.
fn ask(command: &str, agents: &[String]) -> Option<Plan> {
    let (verb, rest) = command.split_once(char::is_whitespace)?;
    if !matches!(verb.to_lowercase().as_str(), "ask" | "run") {
        return None;
    }
    let rest = rest.trim_start();
    let end =
        rest.find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '-')))?;
    let (name, told) = rest.split_at(end);
    let agent_id = agents.iter().find(|agent| agent.eq_ignore_ascii_case(name))?;
    let told = told.trim_start();
    let quoted = |text: &str| {
        let text = text.trim();
        let inner = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
        inner.or_else(|| text.strip_prefix('“')?.strip_suffix('”')).map(str::to_owned)
    };
    let text = match told.strip_prefix(':') {
        Some(text) => quoted(text).unwrap_or_else(|| text.trim().to_owned()),
        None => quoted(["on ", "with "].iter().find_map(|word| told.strip_prefix(word)).unwrap_or(told))?,
    };
    if text.is_empty() {
        return None;
    }
    Some(call("execute_agent_stateless", json!({"agent_id": agent_id, "input_text": text})))
}
