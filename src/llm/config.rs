//! A model that was chosen, with everything that is needed to reach it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Api, Price, Provider, provider::Wire};
use crate::secret::Secret;

/// How long each part of a model call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// To connect, in seconds.
    pub connect_seconds: u32,
    /// From the request to the answer's head, and from there to its first byte, in seconds. A small machine reads a long
    /// prompt slowly.
    pub first_byte_seconds: u32,
    /// Between two reads of the answer, in seconds; a server's comments count as signs of life.
    pub idle_seconds: u32,
}

impl Timeouts {
    pub(super) fn connect(&self) -> Duration {
        Duration::from_secs(self.connect_seconds.into())
    }

    pub(super) fn first_byte(&self) -> Duration {
        Duration::from_secs(self.first_byte_seconds.into())
    }

    pub(super) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds.into())
    }
}

/// A model and the way to it. It is handed to the bundled engine as one JSON variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    /// Whose wire it speaks.
    pub provider: Provider,
    /// By which of its protocols.
    #[serde(default)]
    pub api: Api,
    /// The model's name at that provider.
    pub model: String,
    /// Where it is, without a trailing slash.
    pub base_url: String,
    /// The credential; empty where the server wants none.
    pub api_key: Secret,
    /// Further headers of every request. Their values are secrets too.
    pub headers: BTreeMap<String, Secret>,
    /// The sampling temperature; unset, the provider's own.
    pub temperature: Option<f64>,
    /// The most tokens of one answer; unset, the provider's own.
    pub max_tokens: Option<u32>,
    /// How long each part may take.
    pub timeouts: Timeouts,
    /// Whether the part of a prompt that stays the same is marked for the provider's cache, where it wants marks.
    #[serde(default)]
    pub caches_prompts: bool,
    /// What its tokens cost, where that is configured.
    #[serde(skip)]
    pub price: Option<Price>,
}

impl Selected {
    pub(super) fn wire(&self) -> Result<Wire, String> {
        match (self.provider.wire(), self.api) {
            (Wire::ChatCompletions, Api::Responses) => Ok(Wire::Responses),
            (_, Api::Responses) => {
                Err(format!("agent.api: {} has no responses; leave it out", self.provider.name()))
            }
            (wire, Api::Chat) => Ok(wire),
        }
    }

    /// Hides every secret that is in a text.
    pub fn scrub(&self, text: &str) -> String {
        let secrets = std::iter::once(&self.api_key).chain(self.headers.values()).map(Secret::expose);
        // Servers repeat what stands behind `Bearer `, and what an address carries.
        let words = self
            .headers
            .values()
            .flat_map(|value| value.expose().split_whitespace())
            .filter(|word| word.len() >= 8);
        let query = self.base_url.split_once('?').map_or("", |(_, query)| query);
        let in_query = query
            .split('&')
            .filter_map(|pair| Some(pair.split_once('=')?.1))
            .filter(|value| value.len() >= 8);
        let secrets = secrets.chain(words).chain(in_query);
        let mut text = text.to_owned();
        // A secret of a character or two would turn the text into stars; no provider gives such.
        for secret in secrets.filter(|secret| secret.len() >= 4) {
            text = text.replace(secret, crate::secret::MASK);
        }
        text
    }
}
