//! Sentences: finds the one read-only tool that a sentence plainly means.
//!
//! Each reading gains by its own words and loses by every word that it cannot explain. The best one counts only above a
//! threshold and with a margin over the next.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::words::*;

/// A reading with a lower score is a guess.
const THRESHOLD: f32 = 2.0;
/// Two readings whose scores differ by less are ambiguous.
const MARGIN: f32 = 0.5;
/// The cost of a word that a reading cannot explain; one is enough to be unsure.
const UNEXPLAINED: f32 = 2.5;
/// The most words of a sentence that is read, because a plain request is short.
const MAX_WORDS: usize = 24;
/// The most bytes of such a sentence, so that the cost of a command does not grow with it.
const MAX_BYTES: usize = 4096;

/// The words by which requests begin. Other beginnings are statements, or orders to somebody else.
const BEGINNINGS: &[&str] = &[
    "any", "are", "browse", "can", "check", "could", "describe", "details", "diagnose", "did", "display",
    "do", "does", "dump", "enumerate", "explain", "fetch", "find", "get", "gimme", "give", "how", "i'd",
    "info", "information", "inspect", "is", "list", "liste", "listar", "listing", "look", "make", "mostre",
    "mostrar", "perform", "please", "print", "quais", "query", "retrieve", "run", "see", "show", "summarise",
    "summarize", "tell", "validate", "verify", "view", "want", "what", "what's", "whats", "which", "who",
    "who's", "would", "will", "conductor", "hey", "hi", "hello", "ok", "overview", "inventory", "examine",
    "are", "pls", "kindly", "introduce", "learn", "test", "onde",
];
/// Verbs: a short sentence with one of them and without a question mark states something and asks nothing.
const VERBS: &[&str] = &[
    "is", "are", "am", "was", "work", "works", "exist", "exists", "have", "has", "like", "love", "use",
    "look", "explain", "describe", "summarize",
];

struct Words {
    /// The words in lower case, without punctuation and without the agent's name.
    all: Vec<String>,
    agent: Option<Mention>,
    is_question: bool,
}

struct Mention {
    agent_id: String,
    /// The number of words before it.
    position: usize,
}

/// Returns the tool that a sentence means, and its arguments.
pub(super) fn meaning(sentence: &str, agents: &[String]) -> Option<(&'static str, Value)> {
    let words = Words::read(sentence, agents)?;
    if !words.is_request() || words.changes_or_negates() || words.has_two_subjects() {
        return None;
    }
    let mut readings = vec![
        (words.list(), "list_available_agents", json!({})),
        (words.validate(), "validate_conductor_system", json!({})),
        (words.config(), "get_system_config", json!({})),
        (words.templates(), "install_agent_templates", json!({})),
    ];
    if let Some(mention) = &words.agent {
        readings.push((words.info(mention), "get_agent_info", json!({"agent_id": mention.agent_id})));
    }
    readings.sort_by(|a, b| b.0.total_cmp(&a.0));
    let next = readings.get(1).map_or(0.0, |reading| reading.0);
    let (best, tool, arguments) = readings.into_iter().next()?;
    (best >= THRESHOLD && best - next >= MARGIN).then_some((tool, arguments))
}

/// Returns whether a word is in a list: as it is, as a plural, or with one typing error.
fn is_in(word: &str, list: &[&str]) -> bool {
    let singular = word.strip_suffix('s').filter(|_| word.len() > 3).unwrap_or(word);
    let slipped = |entry: &str, word: &str| {
        // The distance costs the product of the lengths, and lengths that differ by more than a letter decide it.
        word.len() >= 5
            && entry.len() >= 5
            && word.len().abs_diff(entry.len()) <= char::MAX.len_utf8()
            && strsim::damerau_levenshtein(entry, word) == 1
    };
    is_exactly(word, list) || list.iter().any(|entry| slipped(entry, word) || slipped(entry, singular))
}

/// Returns whether a word is in a list, as it is or as a plural. A misspelt word never counts as a change: it is a word
/// that no reading explains.
fn is_exactly(word: &str, list: &[&str]) -> bool {
    let singular = word.strip_suffix('s').filter(|_| word.len() > 3).unwrap_or(word);
    list.iter().any(|entry| *entry == word || *entry == singular)
}

/// Returns the letters and digits of a name in lower case, without the word `agent` at its end.
fn plain(name: &str) -> String {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    plain.strip_suffix("agent").filter(|rest| !rest.is_empty()).unwrap_or(&plain).to_owned()
}

/// Phrases for "that there are": they name what one may do with agents, and ask for nothing to be done.
const POSSIBLE: &[&[&str]] = &[
    &["can", "i", "use"],
    &["can", "i", "run"],
    &["can", "i", "talk", "to"],
    &["can", "i", "call"],
    &["can", "we", "use"],
    &["i", "can", "use"],
    &["i", "can", "run"],
    &["i", "can", "talk", "to"],
    &["can", "be", "used"],
    &["can", "be", "run"],
    &["can", "be", "executed"],
    &["could", "i", "use"],
    &["may", "i", "use"],
    &["to", "use"],
    &["set", "up"],
    &["are", "ready"],
    &["by", "name"],
];
/// Phrases that ask for a check although they hold a word of change.
const CHECKS: &[&[&str]] = &[
    &["run", "a"],
    &["run", "diagnostics"],
    &["run", "the"],
    &["run", "validation"],
    &["perform", "a"],
    &["make", "sure"],
];

impl Words {
    fn read(sentence: &str, agents: &[String]) -> Option<Self> {
        if sentence.len() > MAX_BYTES {
            return None;
        }
        let names: HashMap<String, &str> =
            agents.iter().rev().map(|agent| (plain(agent), agent.as_str())).collect();
        let trimmed = |word: &str| {
            let word = word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
            word.strip_suffix("'s").filter(|_| word.contains('_')).unwrap_or(word).to_owned()
        };
        let raw: Vec<String> = sentence
            .replace('’', "'")
            .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':' | '/' | '?' | '!' | '(' | ')'))
            .map(trimmed)
            .filter(|word| !word.is_empty())
            .collect();
        if raw.is_empty() || raw.len() > MAX_WORDS {
            return None;
        }
        let mut agent: Option<Mention> = None;
        let mut all: Vec<String> = Vec::new();
        let mut next = 0;
        while next < raw.len() {
            match name_at(&raw, next, &names) {
                Some((_, name)) if agent.as_ref().is_some_and(|other| other.agent_id != name) => return None,
                Some((count, name)) => {
                    agent = Some(Mention { agent_id: name, position: all.len() });
                    next += count;
                }
                None => {
                    all.push(raw[next].to_lowercase());
                    next += 1;
                }
            }
        }
        let is_question = sentence.trim_end().ends_with('?');
        Some(Self { all, agent, is_question })
    }

    fn has(&self, list: &[&str]) -> bool {
        self.all.iter().any(|word| is_in(word, list))
    }

    fn has_exactly(&self, list: &[&str]) -> bool {
        self.all.iter().any(|word| list.contains(&word.as_str()))
    }

    /// Returns the position of a sequence of words.
    fn find(&self, sequence: &[&str]) -> Option<usize> {
        self.all.windows(sequence.len()).position(|window| window.iter().zip(sequence).all(|(a, b)| a == b))
    }

    /// Returns whether something is asked for, and of this gateway.
    fn is_request(&self) -> bool {
        let first = self.all.first().map(String::as_str).unwrap_or_default();
        let second = self.all.get(1).map(String::as_str).unwrap_or_default();
        let is_order_to_another = match first {
            "tell" | "give" => !matches!(second, "me" | "us"),
            "have" | "let" | "use" | "call" | "ask" => true,
            _ => false,
        };
        let starts_with_name = self.agent.as_ref().is_some_and(|mention| mention.position == 0);
        let is_short = self.all.len() <= 4 && !self.has_exactly(VERBS);
        let wants = first == "i"
            && matches!(second, "want" | "would" | "need" | "wish")
            && !self.has_exactly(&["a", "an"]);
        let asks = (is_in(first, BEGINNINGS) && !starts_with_name) || wants;
        !is_order_to_another && (asks || (self.is_question && !starts_with_name) || is_short)
    }

    /// Returns whether a word asks to change something, or negates the request.
    fn changes_or_negates(&self) -> bool {
        let possible = |at: usize, word: &str| {
            POSSIBLE.iter().any(|phrase| {
                phrase.iter().position(|part| *part == word).is_some_and(|offset| {
                    at >= offset
                        && (at > 0 || offset > 0)
                        && self
                            .all
                            .get(at - offset..at - offset + phrase.len())
                            .is_some_and(|part| part == *phrase)
                })
            }) || (self.has(HEALTH) && CHECKS.iter().any(|phrase| self.find(phrase) == Some(at)))
        };
        self.all.iter().enumerate().any(|(at, word)| {
            let is_change = is_exactly(word, CHANGE) && !(word == "install" && self.asks_to_install());
            let is_negation = is_exactly(word, NEGATION) || word.ends_with("n't");
            (is_change && !possible(at, word)) || is_negation
        })
    }

    /// Returns whether the sentence asks for two things, as "list the agents and the templates" does; one alone would
    /// be half an answer.
    fn has_two_subjects(&self) -> bool {
        if !self.has_exactly(&["and", "then", "if", "or", "plus", "also"]) {
            return false;
        }
        let subjects = [
            self.has(AGENTS) || self.agent.is_some(),
            self.has(TEMPLATES),
            self.has(CONFIG) || self.has_exactly(&["setup", "system"]),
        ];
        let shows = self.has_exactly(&["list", "show", "display", "print", "describe"]);
        subjects.into_iter().filter(|is_named| *is_named).count() > 1 || (shows && self.has(HEALTH))
    }

    /// Returns whether it asks what can be installed. "Which templates can I install?" asks; "install the templates"
    /// orders. What "is installed" exists; what "can be installed" is a template.
    fn asks_to_install(&self) -> bool {
        let passive = self.find(&["be", "installed"]).is_some();
        let offered = self.find(&["available", "to", "install"]).is_some()
            || self.find(&["available", "for", "installation"]).is_some();
        let able =
            self.has_exactly(&["can", "could", "possible"]) && (passive || self.has_exactly(&["install"]));
        let asks = self.has_exactly(&["what", "which", "show", "list", "display", "whats", "what's"]);
        asks && (able || offered || self.has_exactly(&["installable"]))
    }

    /// Returns the cost of the words that none of the lists explains.
    fn unexplained(&self, lists: &[&[&str]]) -> f32 {
        let possible: Vec<usize> = POSSIBLE
            .iter()
            .filter_map(|phrase| Some((self.find(phrase)?, phrase.len())))
            .flat_map(|(at, len)| at..at + len)
            .collect();
        let explained = |word: &str| is_in(word, FILLER) || lists.iter().any(|list| is_in(word, list));
        let is_given = |at: usize| {
            let next = self.all.get(at + 1).map(String::as_str);
            self.all[at] == "give" && matches!(next, Some("me" | "us"))
        };
        let count = (0..self.all.len())
            .filter(|at| !explained(&self.all[*at]) && !possible.contains(at) && !is_given(*at))
            .count();
        f32::from(u8::try_from(count).unwrap_or(u8::MAX)) * UNEXPLAINED
    }

    fn list(&self) -> f32 {
        if self.agent.is_some() || !self.has(AGENTS) {
            return 0.0;
        }
        // "An agent" is any agent; "the agents", "every agent" and "an agent list" are the installed ones.
        let is_plural =
            self.all.iter().any(|word| is_in(word, AGENTS) && word.ends_with('s') || word == "agenten");
        let is_all = ["every", "each", "any", "which", "what", "all", "single"]
            .iter()
            .any(|all| self.has_exactly(&[all]))
            || self
                .has_exactly(&["list", "overview", "inventory", "names", "roster", "catalog", "catalogue"]);
        let is_one = self.has_exactly(&["an", "a"]) && !is_plural && !self.has_exactly(&["list", "overview"]);
        if !(is_plural || is_all) || is_one || self.asks_to_install() {
            return 0.0;
        }
        2.0 + weight(self.has(SHOW), 1.0) - self.unexplained(&[AGENTS, SHOW]) - self.foreign_pronouns()
    }

    /// Returns the cost of asking for something else, as "what did the agents do today?" and "are you an agent?" do.
    fn foreign_pronouns(&self) -> f32 {
        let is_other = self.has_exactly(&["did", "doing", "am", "thank", "thanks"])
            && !self.has_exactly(&["please", "list", "show"])
            || self.find(&["are", "you"]).is_some()
            || self.find(&["do", "you", "like"]).is_some()
            || self.find(&["how", "do"]).is_some();
        weight(is_other, UNEXPLAINED)
    }

    fn info(&self, mention: &Mention) -> f32 {
        let before = mention.position.checked_sub(1).map(|at| self.all[at].as_str()).unwrap_or_default();
        // "Tell X to …" is said to the agent; "give X a name" would change it.
        let is_ordered = matches!(
            before,
            "tell" | "have" | "let" | "use" | "call" | "give" | "tag" | "want" | "made" | "like"
        );
        let after = &self.all[mention.position..];
        let continues =
            after.iter().any(|word| matches!(word.as_str(), "to" | "look" | "this" | "it" | "that" | "my"));
        if is_ordered || continues || self.has_exactly(&["agents", "templates", "settings", "setup"]) {
            return 0.0;
        }
        2.5 + weight(self.has(ABOUT), 1.0) - self.unexplained(&[ABOUT, SHOW]) - self.foreign_pronouns()
    }

    fn validate(&self) -> f32 {
        if !self.has(HEALTH) || self.agent.is_some() {
            return 0.0;
        }
        let strong = ["validate", "validation", "verify", "diagnose", "diagnostic", "validity"];
        let is_strong = self.has(&strong)
            || self.find(&["health", "check"]).is_some()
            || self.find(&["system", "status"]).is_some();
        let names_trouble = self.has(&["problem", "error", "issue", "wrong", "broken"]);
        let is_checked = self.has_exactly(&["check", "validate", "verify"]) || names_trouble;
        let names_system = self.has(SYSTEM)
            || self.has_exactly(&["conductor"])
            || self.find(&["all", "is"]).is_some()
            || self.find(&["is", "all"]).is_some()
            || self.find(&["that", "all"]).is_some()
            || (self.has(AGENTS) && is_checked);
        let asks_person = self.has_exactly(&["am", "me"]) && !self.has_exactly(&["tell", "show", "please"])
            || (self.has_exactly(&["you"])
                && !["can", "could", "would"].iter().any(|verb| self.find(&[verb, "you"]).is_some()));
        if asks_person {
            return 0.0;
        }
        let bare_trouble = names_trouble
            && self.all.first().is_some_and(|word| matches!(word.as_str(), "is" | "are" | "any" | "check"));
        1.5 + weight(is_strong, 1.0) + weight(names_system || bare_trouble, 1.5)
            - self.unexplained(&[HEALTH, SYSTEM, SHOW, AGENTS])
    }

    fn config(&self) -> f32 {
        let asks_how = self.has_exactly(&["how"]) && self.has_exactly(&["configured"]) && !self.has(HEALTH);
        if !(self.has(CONFIG) || asks_how) || self.agent.is_some() {
            return 0.0;
        }
        let asked = self.has(SHOW)
            || asks_how
            || self.has_exactly(&["current"])
            || self.all.len() <= 2
            || self.find(&["give", "me"]).is_some();
        let unexplained = self.unexplained(&[CONFIG, CONFIG_BESIDE, SHOW, &["configured", "used"]]);
        2.0 + weight(asked, 1.0) - unexplained - weight(self.has(HEALTH), 2.0)
    }

    fn templates(&self) -> f32 {
        let named = self.has_exactly(&["templates", "blueprints"]);
        if self.agent.is_some() || !(named || self.asks_to_install()) {
            return 0.0;
        }
        let asked = self.has(SHOW) || self.all.len() <= 2 || self.find(&["give", "me"]).is_some();
        weight(asked, 4.0) - self.unexplained(&[TEMPLATES, TEMPLATES_BESIDE, SHOW])
    }
}

/// Returns the agent that is named at a position, and by how many words.
///
/// `names` holds the agents by their plain names.
fn name_at(raw: &[String], at: usize, names: &HashMap<String, &str>) -> Option<(usize, String)> {
    // A name may be written as several words: "code reviewer agent" is CodeReviewer_Agent. Without the word "agent" it
    // has to be a role with an article, or capitalised: "a commit message" is no agent.
    for count in (1..=4.min(raw.len() - at)).rev() {
        let parts = &raw[at..at + count];
        let joined = plain(&parts.concat());
        let Some(found) = names.get(&joined).filter(|_| joined.len() > 3) else { continue };
        let last = parts[count - 1].to_lowercase();
        let article = at.checked_sub(1).map(|before| raw[before].to_lowercase()).unwrap_or_default();
        let is_role =
            ["er", "or", "ist", "ert", "yst"].iter().any(|end| last.ends_with(end)) && article == "the";
        let is_name =
            count == 1 || last == "agent" || parts.iter().all(|part| part.starts_with(char::is_uppercase));
        if is_name || is_role {
            return Some((count, (*found).to_owned()));
        }
    }
    // A name that is not installed: the tool reports that, and names the most similar one.
    let word = &raw[at];
    let looks_like_one = word.to_lowercase().ends_with("_agent") && crate::engine::is_id(word);
    looks_like_one.then(|| (1, word.clone()))
}

fn weight(holds: bool, weight: f32) -> f32 {
    if holds { weight } else { 0.0 }
}
