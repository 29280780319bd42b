//! Sentences: the one read-only tool that a sentence plainly means.
//!
//! Each reading gains by its own words and loses by every word that it cannot explain. The best one counts only
//! above a threshold and with a margin over the next.

use serde_json::{Value, json};

use super::words::*;

/// A reading below this is a guess.
const THRESHOLD: f32 = 2.0;
/// Two readings nearer than this are ambiguous.
const MARGIN: f32 = 0.5;
/// What a word costs that a reading cannot explain.
const UNEXPLAINED: f32 = 1.5;
/// A plain request is short.
const MAX_WORDS: usize = 24;

struct Words {
    /// In lower case, without punctuation.
    all: Vec<String>,
    agent: Option<String>,
}

/// The tool that a sentence means and its arguments.
pub(super) fn meaning(sentence: &str, agents: &[String]) -> Option<(&'static str, Value)> {
    let words = Words::read(sentence, agents)?;
    // "Which templates can I install?" asks; "install the templates" does.
    // Those that "are installed" are there; those that "can be installed" are templates.
    let names_install = words.has(&["install", "installable"])
        || (words.has(&["installed"]) && words.all.iter().any(|word| word == "be"));
    let asks_to_install =
        names_install && words.has(&["can", "could", "possible", "installable"]) && words.is_question();
    let is_change = |word: &String| {
        is_exactly(word, CHANGE)
            && !(word == "install" && asks_to_install)
            && !(word == "set" && words.all.iter().any(|next| next == "up"))
    };
    if words.all.iter().any(|word| is_change(word) || NEGATION.contains(&word.as_str())) {
        // "is nothing broken", "no problems?" ask for a check.
        return None;
    }
    let mut readings = vec![
        (words.list(), "list_available_agents", json!({})),
        (words.validate(), "validate_conductor_system", json!({})),
        (words.config(), "get_system_config", json!({})),
        (words.templates(asks_to_install), "install_agent_templates", json!({})),
    ];
    if let Some(agent_id) = &words.agent {
        readings.push((words.info(), "get_agent_info", json!({"agent_id": agent_id})));
    }
    readings.sort_by(|a, b| b.0.total_cmp(&a.0));
    let next = readings.get(1).map_or(0.0, |reading| reading.0);
    let (best, tool, arguments) = readings.into_iter().next()?;
    (best >= THRESHOLD && best - next >= MARGIN).then_some((tool, arguments))
}

/// Whether a word is one of a list: as it is, as a plural, or with one slip of the fingers.
fn is_in(word: &str, list: &[&str]) -> bool {
    let singular = word.strip_suffix('s').filter(|_| word.len() > 3).unwrap_or(word);
    let slipped = |entry: &str, word: &str| {
        word.len() >= 5 && entry.len() >= 5 && strsim::damerau_levenshtein(entry, word) == 1
    };
    is_exactly(word, list) || list.iter().any(|entry| slipped(entry, word) || slipped(entry, singular))
}

/// Whether a word is one of a list, as it is or as a plural. A misspelt word never counts as a change: it is a
/// word that no reading explains.
fn is_exactly(word: &str, list: &[&str]) -> bool {
    let singular = word.strip_suffix('s').filter(|_| word.len() > 3).unwrap_or(word);
    list.iter().any(|entry| *entry == word || *entry == singular)
}

/// The letters and digits of a name, in lower case, without the word `agent` at its end.
fn plain(name: &str) -> String {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    plain.strip_suffix("agent").filter(|rest| !rest.is_empty()).unwrap_or(&plain).to_owned()
}

impl Words {
    fn read(sentence: &str, agents: &[String]) -> Option<Self> {
        let trimmed = |word: &str| {
            word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_')).trim_end_matches("'s").to_owned()
        };
        let raw: Vec<String> = sentence
            .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':' | '/' | '?' | '!'))
            .map(trimmed)
            .filter(|word| !word.is_empty())
            .collect();
        if raw.is_empty() || raw.len() > MAX_WORDS {
            return None;
        }
        let mut agent = None;
        let mut all = Vec::new();
        let mut next = 0;
        while next < raw.len() {
            // A name may be written apart: "code reviewer agent" is CodeReviewer_Agent.
            let named = (1..=4.min(raw.len() - next)).rev().find_map(|count| {
                let joined = plain(&raw[next..next + count].concat());
                let found = agents.iter().find(|id| plain(id) == joined && joined.len() > 3)?;
                Some((count, found.clone()))
            });
            let word = &raw[next];
            let (count, name) = match named {
                Some((count, name)) => (count, Some(name)),
                // A name that is not installed: the tool says so and names the nearest.
                None if word.contains('_') && crate::engine::is_id(word) => (1, Some(word.clone())),
                None => (1, None),
            };
            match name {
                Some(name) if agent.as_ref().is_some_and(|other| *other != name) => return None, // two agents
                Some(name) => agent = Some(name),
                None => all.push(word.to_lowercase().replace('’', "'")),
            }
            next += count;
        }
        Some(Self { all, agent })
    }

    fn has(&self, list: &[&str]) -> bool {
        self.all.iter().any(|word| is_in(word, list))
    }

    fn is_question(&self) -> bool {
        self.has(&[
            "what", "which", "show", "list", "are", "tell", "see", "whats", "what's", "display", "give",
            "view",
        ])
    }

    /// The cost of the words that none of the lists explains.
    fn unexplained(&self, lists: &[&[&str]]) -> f32 {
        let explained = |word: &&String| is_in(word, FILLER) || lists.iter().any(|list| is_in(word, list));
        let count = self.all.iter().filter(|word| !explained(word)).count();
        f32::from(u8::try_from(count).unwrap_or(u8::MAX)) * UNEXPLAINED
    }

    fn list(&self) -> f32 {
        if self.agent.is_some() || !self.has(AGENTS) {
            return 0.0;
        }
        2.0 + weight(self.has(SHOW), 1.0) - self.unexplained(&[AGENTS, SHOW]) - weight(self.has(HEALTH), 1.0)
    }

    fn info(&self) -> f32 {
        2.5 + weight(self.has(ABOUT), 1.0) - self.unexplained(&[ABOUT, SHOW])
    }

    fn validate(&self) -> f32 {
        let asked = self.has(HEALTH);
        let strong =
            self.has(&["validate", "validation", "verify", "diagnose", "diagnostic", "validity", "healthy"]);
        if !asked || self.agent.is_some() {
            return 0.0;
        }
        let names_system = self.has(SYSTEM);
        1.5 + weight(strong, 1.0) + weight(names_system, 1.5) - self.unexplained(&[HEALTH, SYSTEM, SHOW])
    }

    fn config(&self) -> f32 {
        if !self.has(CONFIG) || self.agent.is_some() {
            return 0.0;
        }
        let asked = self.has(SHOW) || self.has(&["current"]) || self.all.len() <= 2;
        let unexplained = self.unexplained(&[CONFIG, CONFIG_BESIDE, SHOW]);
        2.0 + weight(asked, 1.0) - unexplained - weight(self.has(HEALTH), 2.0)
    }

    fn templates(&self, asks_to_install: bool) -> f32 {
        let named = self.has(TEMPLATES);
        if self.agent.is_some() || !(named || asks_to_install) {
            return 0.0;
        }
        4.0 - self.unexplained(&[TEMPLATES, TEMPLATES_BESIDE, SHOW])
    }
}

fn weight(holds: bool, weight: f32) -> f32 {
    if holds { weight } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, plan};

    const AGENTS: [&str; 3] = ["CodeReviewer_Agent", "SqlExpert_Agent", "DocWriter_Agent"];

    fn planned(command: &str) -> String {
        let agents = AGENTS.map(str::to_owned);
        match plan(command, &agents) {
            Plan::Call(call, arguments) => format!("{} {arguments}", call.tool().as_str()),
            Plan::Decline(_) => "decline".to_owned(),
        }
    }

    #[test]
    fn plain_requests_are_understood_however_they_are_phrased() {
        let cases: &[(&str, &[&str])] = &[
            (
                "list_available_agents {}",
                &[
                    "list all available agents",
                    "which agents do I have?",
                    "what agents are there",
                    "Show me the agents",
                    "agents",
                    "could you please list every agent installed here?",
                    "how many agents do we have",
                    "list my agnets",
                    "give me an overview of the agents",
                    "what assistants can I use?",
                    "display agents",
                    "liste os agentes",
                    "who are my agents",
                    "I'd like to see all the agents that are available",
                    "print the names of all agents",
                    "Which bots are available right now?",
                    "conductor, list my agents",
                    "conductor --list",
                    "--list",
                    "/opt/x/conductor --list",
                    "what are the available agents?",
                    "tell me what agents exist",
                    "get agents",
                    "agent list",
                    "List agents.",
                    "enumerate the agents on this machine",
                ],
            ),
            (
                "get_agent_info {\"agent_id\":\"CodeReviewer_Agent\"}",
                &[
                    "show me everything about CodeReviewer_Agent",
                    "describe CodeReviewer_Agent",
                    "what does CodeReviewer_Agent do?",
                    "tell me about the code reviewer agent",
                    "info CodeReviewer_Agent",
                    "CodeReviewer_Agent",
                    "who is CodeReviewer_Agent?",
                    "details of codereviewer_agent",
                    "What can the Code Reviewer do?",
                    "--info CodeReviewer_Agent",
                    "conductor --info \"CodeReviewer_Agent\"",
                    "conductor --info='CodeReviewer_Agent'",
                    "I want more information on CodeReviewer_Agent please",
                    "what are the capabilities of CodeReviewer_Agent",
                    "give me the details for CodeReviewer_Agent",
                    "explain what CodeReviewer_Agent is good for",
                    "what is CodeReviewer_Agent's purpose?",
                ],
            ),
            ("get_agent_info {\"agent_id\":\"Nope_Agent\"}", &["describe Nope_Agent"]),
            (
                "validate_conductor_system {}",
                &[
                    "is my setup ok?",
                    "validate",
                    "validate the system",
                    "check my configuration",
                    "is everything fine?",
                    "is the configuration valid",
                    "does everything work?",
                    "are there any errors in my config?",
                    "check that all is set up correctly",
                    "verify the installation",
                    "is anything wrong with my setup?",
                    "conductor --validate",
                    "is the system healthy",
                    "are there problems with the configuration?",
                    "please check whether the system is working properly",
                    "is my conductor configured correctly?",
                ],
            ),
            (
                "get_system_config {}",
                &[
                    "show the configuration",
                    "what is my current configuration?",
                    "display the settings",
                    "what are my settings",
                    "show me the system config",
                    "config",
                    "get system config",
                ],
            ),
            (
                "install_agent_templates {}",
                &[
                    "which templates can I install?",
                    "list the templates",
                    "what templates are available",
                    "show available templates",
                    "what agents can be installed?",
                    "conductor --install list",
                ],
            ),
        ];
        let misread: Vec<_> = cases
            .iter()
            .flat_map(|(expected, commands)| {
                commands.iter().map(move |command| (command, *expected, planned(command)))
            })
            .filter(|(_, expected, planned)| expected != planned)
            .collect();
        assert!(misread.is_empty(), "{misread:#?}");
    }

    #[test]
    fn what_is_unsure_or_changes_something_is_declined() {
        for command in [
            "list all agents and delete them",
            "restore the backup",
            "what is the weather",
            "hello",
            "help",
            "delete CodeReviewer_Agent",
            "install all templates",
            "run CodeReviewer_Agent on main.rs",
            "ask CodeReviewer_Agent to look at my code",
            "don't list the agents",
            "write a poem about agents",
            "back up the agents",
            "show me the weather for my agents",
            "who is the president",
            "list my files",
            "describe CodeReviewer_Agent and SqlExpert_Agent",
            "what time is it",
            "clear the history of SqlExpert_Agent",
            "set the environment to production",
            "make my setup ok",
            "fix my configuration",
            "show me how to cook",
            "conductor --list --validate",
            "conductor --list; rm -rf /",
            "conductor --restore",
            "--info",
            "--info ../../x",
            "--info \"unclosed",
            "conductor --frobnicate",
            "--lis",
            "what is the configuration of the universe",
            "list agents then wipe the workspace",
            "remove the agents I have",
            "rename CodeReviewer_Agent",
            "tell me a joke",
            "check the weather",
            "is it ok to eat pizza",
            "are you ok?",
            "is the stock market fine",
            "list agents of the CIA",
            "validate my passport",
            "what is the capital of France",
            "describe the sea",
            "show me everything",
            "🤖",
            "????",
            "show me everything about CodeReviewer_Agent and then uninstall it",
            "wipe all",
            "kill all agents",
            "get rid of all agents",
        ] {
            assert_eq!(planned(command), "decline", "{command}");
        }
    }

    #[test]
    fn a_literal_run_is_one() {
        assert_eq!(
            planned("conductor --agent SqlExpert_Agent --input 'select \"x\"; -- and more' --chat"),
            "execute_agent_contextual {\"agent_id\":\"SqlExpert_Agent\",\"clear_history\":false,\"input_text\":\"select \\\"x\\\"; -- and more\"}"
        );
        assert!(planned("--agent SqlExpert_Agent --input=-x --timeout 5").contains("\"timeout\":5"));
    }
}
