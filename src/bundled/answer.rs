//! The answer of an agent without a model: a simulation that says so.

use std::{env, time::Duration};

use crate::engine::workspace::Definition;

/// The pause between two words, in milliseconds, so that a reader sees what streaming looks like.
const PACE_VARIABLE: &str = "CONDUCTOR_SIMULATE_PACE_MS";
const DEFAULT_PACE_MS: u64 = 10;

/// What a simulated agent answers.
pub(super) fn simulated(agent_id: &str, definition: &Definition, input: &str, earlier: usize) -> String {
    let excerpt: String = input.chars().take(500).collect();
    let remembered = match earlier {
        0 => String::new(),
        1 => " It remembers 1 earlier interaction.".to_owned(),
        count => format!(" It remembers {count} earlier interactions."),
    };
    format!(
        "[simulated: no model is configured]\n\
         {agent_id} received an input of {} bytes.{remembered}\n\
         With a model it would answer as: {}.\n\
         It was told: {excerpt}\n",
        input.len(),
        definition.description,
    )
}

/// Words with the white space behind them.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

pub(super) fn pace() -> Duration {
    let pace = env::var(PACE_VARIABLE).ok().and_then(|pace| pace.parse().ok()).unwrap_or(DEFAULT_PACE_MS);
    Duration::from_millis(pace)
}
