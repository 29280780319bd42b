//! The providers: their protocols, default addresses, and the environment variables that usually hold their keys.

use serde::{Deserialize, Serialize};

/// A model's provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI, and every server that implements its chat completions under `base_url`.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Groq.
    Groq,
    /// OpenRouter.
    OpenRouter,
    /// A local Ollama.
    Ollama,
    /// A local llama.cpp server.
    LlamaCpp,
    /// A local vLLM.
    Vllm,
    /// No model, whatever the environment holds: commands are planned directly.
    None,
}

/// Which protocol is used with a provider that has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Chat completions, which every compatible server has.
    #[default]
    Chat,
    /// Responses, which carry a model's reasoning from one call to the next.
    Responses,
}

/// Which protocol a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// `POST /chat/completions`.
    ChatCompletions,
    /// `POST /responses`.
    Responses,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1beta/models/…:streamGenerateContent`.
    GenerateContent,
}

impl Provider {
    /// The providers that are chosen if their key is in the environment, in order of precedence.
    pub(super) const WITH_KEYS: &[Self] =
        &[Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Groq, Self::OpenRouter];

    /// Returns the name that configuration, events and pages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Groq => "groq",
            Self::OpenRouter => "openrouter",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llamacpp",
            Self::Vllm => "vllm",
            Self::None => "none",
        }
    }

    pub(super) fn wire(self) -> Wire {
        match self {
            Self::Anthropic => Wire::Messages,
            Self::Gemini => Wire::GenerateContent,
            _ => Wire::ChatCompletions,
        }
    }

    /// Returns the base URL that is used if none is configured.
    pub(super) fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Gemini => "https://generativelanguage.googleapis.com",
            Self::Groq => "https://api.groq.com/openai/v1",
            Self::OpenRouter => "https://openrouter.ai/api/v1",
            Self::Ollama => "http://127.0.0.1:11434/v1",
            Self::LlamaCpp => "http://127.0.0.1:8080/v1",
            Self::Vllm => "http://127.0.0.1:8000/v1",
            Self::None => "",
        }
    }

    /// Returns the environment variables that usually hold its key.
    pub(super) fn key_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_API_KEY"],
            Self::Anthropic => &["ANTHROPIC_API_KEY"],
            Self::Gemini => &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            Self::Groq => &["GROQ_API_KEY"],
            Self::OpenRouter => &["OPENROUTER_API_KEY"],
            Self::Ollama | Self::LlamaCpp | Self::Vllm | Self::None => &[],
        }
    }

    /// Returns the environment variable that usually holds its address.
    pub(super) fn url_variable(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_BASE_URL"),
            Self::Anthropic => Some("ANTHROPIC_BASE_URL"),
            _ => None,
        }
    }

    /// Returns a model that can call tools, for when none is named. Local servers have no default: the first model
    /// that they list is used.
    pub(super) fn default_model(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("gpt-4.1-mini"),
            Self::Anthropic => Some("claude-sonnet-4-5"),
            Self::Gemini => Some("gemini-2.5-flash"),
            Self::Groq => Some("openai/gpt-oss-120b"),
            Self::OpenRouter => Some("openai/gpt-4.1-mini"),
            Self::Ollama | Self::LlamaCpp | Self::Vllm | Self::None => None,
        }
    }

    /// Returns whether it runs on this machine by default and needs no key.
    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::Ollama | Self::LlamaCpp | Self::Vllm)
    }
}
