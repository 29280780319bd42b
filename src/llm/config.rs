//! A model that was chosen, with everything that is needed to reach it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Api, Price, Provider, provider::Wire};
use crate::secret::Secret;

/// How long each part of a model call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Limit for connecting, in seconds.
    pub connect_seconds: u32,
    /// Limit from the request to the head of the answer, and again from there to its first byte, in seconds. A small
    /// machine needs long to process a long prompt.
    pub first_byte_seconds: u32,
    /// Limit between two reads of the answer, in seconds; comments that the server sends count as reads.
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

/// A model and how to reach it. It is passed to the bundled engine as JSON in one environment variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SelectedModel {
    /// The provider, which determines the protocol.
    pub provider: Provider,
    /// Which of the provider's protocols is used.
    #[serde(default)]
    pub api: Api,
    /// The model's name at that provider.
    pub model: String,
    /// The base URL, without a trailing slash.
    pub base_url: String,
    /// The credential; empty if the server needs none.
    pub api_key: Secret,
    /// Additional headers of every request. Their values are secrets too.
    pub headers: BTreeMap<String, Secret>,
    /// The sampling temperature; `None` leaves it to the provider.
    pub temperature: Option<f64>,
    /// The maximum number of tokens in one answer; `None` leaves it to the provider, or uses a built-in limit per model
    /// where the protocol requires one.
    pub max_tokens: Option<u32>,
    /// How long each part of a call may take.
    pub timeouts: Timeouts,
    /// Whether the constant part of a prompt is marked for the provider's cache, where the provider needs such marks.
    #[serde(default)]
    pub caches_prompts: bool,
    /// The price of its tokens, if one is configured.
    #[serde(skip)]
    pub price: Option<Price>,
}

impl SelectedModel {
    pub(super) fn wire(&self) -> Result<Wire, String> {
        match (self.provider.wire(), self.api) {
            (Wire::ChatCompletions, Api::Responses) => Ok(Wire::Responses),
            (_, Api::Responses) => {
                Err(format!("agent.api: {} has no responses; leave it out", self.provider.name()))
            }
            (wire, Api::Chat) => Ok(wire),
        }
    }

    /// Returns the text with the key, the header values (4 bytes or more) and single words of header and query values (8
    /// bytes or more) masked.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let secrets = std::iter::once(&self.api_key).chain(self.headers.values()).map(Secret::expose);
        // Servers also echo a header's token without its `Bearer ` prefix, and values from the URL's query.
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
        // Masking a secret of one or two characters would mask ordinary text too; no provider issues such short ones.
        for secret in secrets.filter(|secret| secret.len() >= 4) {
            text = text.replace(secret, crate::secret::MASK);
        }
        text
    }
}
