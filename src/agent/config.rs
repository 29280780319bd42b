//! The `agent` section: which model plans commands, and within which limits.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    conversation::RememberLimits,
    llm::{Api, Price, Provider, Timeouts, Wanted},
    mcp::OutsideServer,
    secret::Secret,
};

/// What is done about model servers that run on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autodetect {
    /// They are not looked for.
    Off,
    /// They are looked for and named in the log and in `/health`; nothing is sent to them.
    #[default]
    Offer,
    /// The first one that is found is used when nothing else is configured.
    Use,
}

/// An example that goes before every conversation, for small models that need to see how it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FewShot {
    /// What a user says.
    pub user: String,
    /// The tool that is called then, if one is.
    pub tool: Option<String>,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// What the tool answers.
    pub result: String,
    /// What is said at the end.
    pub answer: String,
}

/// Which model plans commands, and within which limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// openai, anthropic, gemini, groq, openrouter, ollama, llamacpp, vllm, or none. Unset: whose key is in the
    /// environment.
    pub provider: Option<Provider>,
    /// chat, or responses: OpenAI's responses API, which carries a model's reasoning from one call to the next.
    pub api: Api,
    /// The model's name at its provider. Unset: one that can call tools.
    pub model: Option<String>,
    /// Where the model is. Unset: the provider's own address.
    pub base_url: Option<String>,
    /// The provider's key. Unset: the provider's usual variable.
    pub api_key: Secret,
    /// A file that holds the key.
    pub api_key_file: Option<PathBuf>,
    /// Further headers of every request to the model. Their values are secrets.
    pub headers: BTreeMap<String, Secret>,
    /// The sampling temperature. Unset: the provider's own.
    pub temperature: Option<f64>,
    /// The most tokens of one answer. Unset: the provider's own limit.
    pub max_tokens: Option<u32>,
    /// Whether the part of a prompt that stays the same is marked for the provider's cache, where the wire has marks (Anthropic).
    pub prompt_caching: bool,
    /// What models cost, by name or by its beginning with a `*`, in US dollars for a million tokens.
    pub prices: BTreeMap<String, Price>,
    /// What is done about model servers on this machine.
    pub autodetect: Autodetect,
    /// Said to the model beside the gateway's own instructions.
    pub instructions: String,
    /// Examples before every conversation.
    pub few_shot: Vec<FewShot>,
    /// Only these tools of the catalogue are offered to the model; empty means all.
    pub tools: Vec<String>,
    /// Outside MCP servers whose tools are offered to the model too, by name.
    pub mcp_servers: BTreeMap<String, OutsideServer>,
    /// The most model calls of one command; a task may ask for less.
    pub max_steps: u32,
    /// The most tool calls at the same time.
    pub parallel_tool_calls: u32,
    /// A run ends when the model has called tools wrongly this often in a row.
    pub max_tool_errors: u32,
    /// A tool's result is cut to this many bytes before the model reads it.
    pub max_result_bytes: u32,
    /// How often one model call is tried, the first time included.
    pub max_attempts: u32,
    /// A server that wants to be left alone for longer than this is not waited for, in seconds.
    pub max_retry_wait_seconds: u32,
    /// The longest time to connect to the model, in seconds.
    pub connect_timeout_seconds: u32,
    /// The longest time to the first byte of an answer, in seconds.
    pub first_byte_timeout_seconds: u32,
    /// The longest silence within an answer, in seconds.
    pub idle_timeout_seconds: u32,
    /// The longest time of one model call, in seconds.
    pub step_timeout_seconds: u32,
    /// How long the user has to answer a question of the model, in seconds.
    pub input_timeout_seconds: u32,
    /// How many exchanges of a conversation are remembered.
    pub history_exchanges: u32,
    /// How many bytes of a conversation are remembered.
    pub history_bytes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: None,
            api: Api::default(),
            model: None,
            base_url: None,
            api_key: Secret::default(),
            api_key_file: None,
            headers: BTreeMap::new(),
            temperature: None,
            max_tokens: None,
            prompt_caching: true,
            prices: BTreeMap::new(),
            autodetect: Autodetect::default(),
            instructions: String::new(),
            few_shot: Vec::new(),
            tools: Vec::new(),
            mcp_servers: BTreeMap::new(),
            max_steps: 30,
            parallel_tool_calls: 4,
            max_tool_errors: 5,
            max_result_bytes: 64 * 1024,
            max_attempts: 4,
            max_retry_wait_seconds: 60,
            connect_timeout_seconds: 10,
            first_byte_timeout_seconds: 300,
            idle_timeout_seconds: 60,
            step_timeout_seconds: 600,
            input_timeout_seconds: 300,
            history_exchanges: 20,
            history_bytes: 64 * 1024,
        }
    }
}

impl Config {
    /// What is wanted of the model.
    ///
    /// # Errors
    /// When the key's file cannot be read.
    pub fn wanted(&self) -> Result<Wanted, String> {
        let api_key = match &self.api_key_file {
            Some(path) if self.api_key.is_empty() => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("agent.api_key_file: {}: {error}", path.display()))?;
                Secret::from(text.trim().to_owned())
            }
            _ => self.api_key.clone(),
        };
        Ok(Wanted {
            provider: self.provider,
            api: self.api,
            model: self.model.clone(),
            base_url: self.base_url.clone(),
            api_key,
            headers: self.headers.clone(),
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            caches_prompts: self.prompt_caching,
            prices: self.prices.clone(),
            timeouts: Timeouts {
                connect_seconds: self.connect_timeout_seconds,
                first_byte_seconds: self.first_byte_timeout_seconds,
                idle_seconds: self.idle_timeout_seconds,
            },
            uses_detected: self.autodetect == Autodetect::Use,
        })
    }

    pub(super) fn remember(&self) -> RememberLimits {
        RememberLimits {
            max_exchanges: self.history_exchanges as usize,
            max_bytes: self.history_bytes as usize,
        }
    }

    pub(super) fn step_timeout(&self) -> Duration {
        Duration::from_secs(self.step_timeout_seconds.into())
    }

    pub(super) fn input_timeout(&self) -> Duration {
        Duration::from_secs(self.input_timeout_seconds.into())
    }
}
