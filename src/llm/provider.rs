//! The providers: their wires, where they are, and the variables that people keep their keys in.

use serde::{Deserialize, Serialize};

/// A model's provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI, and every server that speaks its chat completions under `base_url`.
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
    /// None, whatever the environment holds: commands are planned directly.
    None,
}

/// Which of its protocols a provider is spoken to by, where it has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Those whose key in the environment is enough to be chosen, in the order in which they are looked for.
    pub(super) const WITH_KEYS: &[Self] =
        &[Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Groq, Self::OpenRouter];

    /// The name that configuration, events and pages print.
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

    /// Where it is when nothing else is said.
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

    /// The variables that its key is usually kept in.
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

    /// The variable that its address is usually kept in.
    pub(super) fn url_variable(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_BASE_URL"),
            Self::Anthropic => Some("ANTHROPIC_BASE_URL"),
            _ => None,
        }
    }

    /// A model that can call tools, for whoever names none. Local servers have no such: theirs is what they list.
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

    /// Whether it runs on this machine when nothing else is said, and asks for no key.
    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::Ollama | Self::LlamaCpp | Self::Vllm)
    }
}
