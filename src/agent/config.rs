//! The `agent` section: which model plans commands, and within which limits.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    conversation::RememberLimits,
    llm::{Api, ModelPreferences, Price, Provider, Timeouts},
    mcp::ExternalServer,
    secret::Secret,
};

/// What is done about model servers that run on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Autodetect {
    /// Do not look for them.
    Off,
    /// Look for them, and name them in the log and in `/health`; no prompt is sent to them.
    #[default]
    Offer,
    /// Use the first one that is found when nothing else is configured.
    Use,
}

/// An example that precedes every conversation, for small models that need to see how it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FewShot {
    /// What a user says.
    pub user: String,
    /// The tool that is then called, if one is.
    pub tool: Option<String>,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// The tool's result.
    pub result: String,
    /// The final answer.
    pub answer: String,
}

/// Which model plans commands, and within which limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// openai, anthropic, gemini, groq, openrouter, ollama, llamacpp, vllm, or none. Unset: the provider whose key is
    /// in the environment.
    pub provider: Option<Provider>,
    /// chat, or responses: OpenAI's responses API, which carries a model's reasoning from one call to the next.
    pub api: Api,
    /// The model's name at its provider. Unset: the hosted provider's default, which can call tools.
    pub model: Option<String>,
    /// The address of the model's server. Unset: the provider's own.
    pub base_url: Option<String>,
    /// The provider's key. Unset: the provider's usual environment variable is read.
    pub api_key: Secret,
    /// A file that holds the key; read where `api_key` is not set.
    pub api_key_file: Option<PathBuf>,
    /// Additional headers of every request to the model. Their values are secrets.
    pub headers: BTreeMap<String, Secret>,
    /// The sampling temperature. Unset: the provider's own.
    pub temperature: Option<f64>,
    /// The most tokens of one answer. Unset: the provider's own limit.
    pub max_tokens: Option<u32>,
    /// Whether the constant part of a prompt is marked for the provider's cache, where the protocol has marks
    /// (Anthropic).
    pub prompt_caching: bool,
    /// The prices of models, by name or by a prefix followed by `*`, in US dollars per million tokens.
    pub prices: BTreeMap<String, Price>,
    /// What is done about model servers on this machine.
    pub autodetect: Autodetect,
    /// Instructions for the model in addition to the gateway's own.
    pub instructions: String,
    /// Examples before every conversation.
    pub few_shot: Vec<FewShot>,
    /// The only tools of the catalogue, and `ask_user`, that are offered to the model; empty means all.
    pub tools: Vec<String>,
    /// Outside MCP servers, by name, whose tools are offered to the model as well.
    pub mcp_servers: BTreeMap<String, ExternalServer>,
    /// The most steps of one command, each one answer of the model, failed attempts not counted; a task may ask for
    /// less.
    pub max_steps: u32,
    /// The most tool calls that run at the same time.
    pub parallel_tool_calls: u32,
    /// A run ends when the model has called tools wrongly, or made the same calls, this often in a row.
    pub max_tool_errors: u32,
    /// A tool's result is cut to this many bytes before the model reads it.
    pub max_result_bytes: u32,
    /// How often one model call is attempted, including the first time.
    pub max_attempts: u32,
    /// A pause before another attempt that is longer than this, in seconds, is not waited for.
    pub max_retry_wait_seconds: u32,
    /// The time limit for connecting to the model, in seconds.
    pub connect_timeout_seconds: u32,
    /// The time limit for the first byte of an answer, in seconds.
    pub first_byte_timeout_seconds: u32,
    /// The longest silence within an answer, in seconds.
    pub idle_timeout_seconds: u32,
    /// The time limit of one step, in seconds, all its attempts and pauses included.
    pub step_timeout_seconds: u32,
    /// How long the user has to answer a question of the model, in seconds.
    pub input_timeout_seconds: u32,
    /// The most exchanges of a conversation that are remembered.
    pub history_exchanges: u32,
    /// The most bytes of a conversation that are remembered.
    pub history_bytes: u32,
}

impl Default for AgentConfig {
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

impl AgentConfig {
    /// Returns what the configuration asks of the model.
    ///
    /// # Errors
    /// A sentence when the key's file cannot be read.
    pub fn wanted(&self) -> Result<ModelPreferences, String> {
        let api_key = match &self.api_key_file {
            Some(path) if self.api_key.is_empty() => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("agent.api_key_file: {}: {error}", path.display()))?;
                Secret::from(text.trim().to_owned())
            }
            _ => self.api_key.clone(),
        };
        Ok(ModelPreferences {
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
