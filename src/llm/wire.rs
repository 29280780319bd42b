//! The one file that knows the library of wires. It is used for these only: the loop, the retries, the choice of what
//! an ending means are the gateway's own.

use std::sync::Arc;

use crate::secret::masked_url;

use futures_util::{StreamExt, stream};
use rig_core::{
    DynModel,
    completion::{self, CompletionRequest, CompletionResponse, FinishReason},
    error::ProviderError,
    http_client,
    message::{
        self as wire, AssistantContent, CallId, ToolFunction, ToolName, ToolResultContent, UserContent,
    },
    operation::Completion,
    providers::{
        anthropic::wire::{self as anthropic, AnthropicConfig},
        gemini::GeminiConfig,
        openai::{
            OpenAIConfig,
            wire::{self as openai, Dialect, Quirks},
        },
    },
    streaming::{Item, PartKind, StreamEvent},
};

use super::{
    AssistantMessage, Failure, FailureKind, Identity, Message, Model, Piece, Pieces, Provider, Request,
    Selected, ToolCall, ToolOutcome, Turn,
    connection::Connection,
    failure::retry_after,
    message::{MAX_CALLS, TOO_MANY_CALLS},
    provider::Wire,
    thinking::{Part, Splitter},
};

/// So much of a server's own words is shown.
const MAX_SHOWN_CHARACTERS: usize = 500;

/// A server that speaks the chat completions of OpenAI, whatever it leaves out.
const COMPATIBLE: Dialect = {
    let mut quirks = Quirks::openai().done_without_finish_reason();
    quirks.auth = openai::OLLAMA.quirks.auth; // a key is sent only where there is one
    Dialect::gateway("openai-compatible", "", "").with_quirks(quirks)
};

/// A model behind a provider's wire.
#[derive(Debug)]
pub(super) struct WireModel {
    identity: Identity,
    selected: Arc<Selected>,
    model: DynModel<Completion>,
}

impl WireModel {
    pub(super) fn new(selected: &Selected) -> Result<Self, String> {
        let http = Connection::new(selected)?;
        let url: http::Uri = selected.base_url.parse().map_err(|error| {
            format!("agent.base_url: `{}` is no URL: {error}", masked_url(&selected.base_url))
        })?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(format!(
                "agent.base_url: `{}` must begin with http:// or https://",
                masked_url(&selected.base_url)
            ));
        }
        let key = selected.api_key.expose();
        let name = selected.model.clone();
        let base_url = selected.base_url.clone();
        let model = match selected.provider.wire() {
            Wire::Messages => {
                let config = AnthropicConfig::new(key).with_base_url(base_url);
                config.connect(http).completion(name).erase()
            }
            Wire::GenerateContent => {
                let config = GeminiConfig::new(key).with_base_url(base_url);
                config.connect(http).completion(name).erase()
            }
            Wire::ChatCompletions => {
                let is_official = selected.base_url == Provider::OpenAi.default_base_url();
                let dialect = match selected.provider {
                    Provider::OpenAi if is_official => openai::OPENAI,
                    Provider::Groq => openai::GROQ,
                    Provider::OpenRouter => openai::OPENROUTER,
                    Provider::LlamaCpp => openai::LLAMACPP,
                    _ => COMPATIBLE,
                };
                let config = OpenAIConfig::with_key(&dialect, key).with_base_url(base_url);
                config.connect(http).chat(name).erase()
            }
        };
        let identity =
            Identity { provider: selected.provider.name().to_owned(), model: selected.model.clone() };
        Ok(Self { identity, selected: Arc::new(selected.clone()), model })
    }

    /// Anthropic's wire wants a limit always; the library knows that of the models it knows.
    fn default_max_tokens(&self) -> Option<u64> {
        let is_needed = self.selected.provider.wire() == Wire::Messages
            && anthropic::ANTHROPIC.default_max_tokens(&self.selected.model).is_none();
        is_needed.then_some(4096)
    }

    fn request(&self, request: &Request) -> CompletionRequest {
        let messages: Vec<wire::Message> = request.messages.iter().map(to_wire).collect();
        let tools = request
            .tools
            .iter()
            .filter_map(|tool| {
                let name = ToolName::new(tool.name.clone()).ok()?;
                Some(completion::ToolDefinition::new(name, tool.description.clone(), tool.parameters.clone()))
            })
            .collect();
        // The first message is replaced by the whole conversation.
        let mut wire = CompletionRequest::new("").tools(tools);
        wire.chat_history = messages;
        let wire = if request.system.is_empty() { wire } else { wire.preamble(request.system.clone()) };
        let max_tokens = self.selected.max_tokens.map(u64::from).or_else(|| self.default_max_tokens());
        wire.temperature(self.selected.temperature).max_tokens(max_tokens)
    }
}

fn to_wire(message: &Message) -> wire::Message {
    match message {
        Message::User(text) => wire::Message::user(text.clone()),
        Message::Assistant(message) => {
            // As the provider sent it, where one did: it may have signed a part.
            let native = message.native.as_ref().and_then(|native| native.downcast_ref::<wire::Message>());
            native.cloned().unwrap_or_else(|| {
                let text = (!message.text.is_empty()).then(|| AssistantContent::text(message.text.clone()));
                let calls = message.calls.iter().filter_map(call_to_wire).map(AssistantContent::ToolCall);
                wire::Message::Assistant(wire::AssistantMessage::new(text.into_iter().chain(calls).collect()))
            })
        }
        Message::ToolOutcomes(outcomes) => wire::Message::User {
            content: outcomes.iter().filter_map(outcome_to_wire).map(UserContent::ToolResult).collect(),
        },
    }
}

fn call_to_wire(call: &ToolCall) -> Option<wire::ToolCall> {
    let native = call.native.as_ref().and_then(|native| native.downcast_ref::<wire::ToolCall>());
    if let Some(native) = native {
        return Some(native.clone());
    }
    let name = ToolName::new(call.name.clone()).ok()?;
    let arguments = call.arguments.clone().unwrap_or_default();
    let function = ToolFunction::new(name, serde_json::Value::Object(arguments));
    Some(wire::ToolCall::new(CallId::from_wire(call.id.clone()), function))
}

fn outcome_to_wire(outcome: &ToolOutcome) -> Option<wire::ToolResult> {
    let call = call_to_wire(&outcome.call)?;
    let content = vec![ToolResultContent::text(outcome.text.clone())];
    Some(if outcome.is_error { call.error_result(content) } else { call.result(content) })
}

impl Model for WireModel {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn ask(&self, request: Request) -> Pieces {
        let selected = self.selected.clone();
        let opened = self.model.stream(self.request(&request));
        let mut answer = match opened {
            Ok(answer) => answer,
            Err(error) => return stream::iter([Err(to_failure(&error, &selected))]).boxed(),
        };
        let pieces = async_stream::stream! {
            let mut splitter = Splitter::default();
            let (mut calls, mut said) = (0, String::new());
            while let Some(item) = answer.next().await {
                match item {
                    Ok(Item::Event(StreamEvent::Start { kind: PartKind::ToolCall, .. })) => {
                        calls += 1;
                        if calls > MAX_CALLS {
                            // Ended here: the rest is neither read nor kept.
                            let message = AssistantMessage { text: said, calls: Vec::new(), native: None };
                            yield Ok(Piece::End(Turn { message, finish_reason: TOO_MANY_CALLS, ..Turn::default() }));
                            return;
                        }
                    }
                    Ok(Item::Event(StreamEvent::Text { text, .. })) => {
                        for (part, text) in splitter.push(&text) {
                            if part == Part::Answer {
                                said.push_str(&text);
                            }
                            yield Ok(piece(part, text));
                        }
                    }
                    Ok(Item::Event(StreamEvent::Reasoning { text, .. })) if !text.is_empty() => {
                        yield Ok(Piece::Reasoning(text));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        yield Err(to_failure(&error, &selected));
                        return;
                    }
                }
            }
            if let Some((part, text)) = splitter.finish() {
                yield Ok(piece(part, text));
            }
            match answer.finish().await {
                Ok(response) => yield to_turn(&response, &selected).map(Piece::End),
                Err(error) => yield Err(to_failure(&error, &selected)),
            }
        };
        pieces.boxed()
    }
}

fn piece(part: Part, text: String) -> Piece {
    match part {
        Part::Answer => Piece::Text(text),
        Part::Reasoning => Piece::Reasoning(text),
    }
}

/// What a complete answer means. Everything that is no clear success is a failure, so that a cut call is never run and
/// an empty answer never looks like one.
fn to_turn(response: &CompletionResponse, selected: &Selected) -> Result<Turn, Failure> {
    let malformed = |message: String| Err(Failure::new(FailureKind::Malformed, message));
    if let Some(error) = &response.error {
        return malformed(format!("the model reported: {}", shown(error, selected)));
    }
    let calls: Vec<ToolCall> = response.tool_calls().map(from_wire).collect();
    let (mut splitter, mut text) = (Splitter::default(), String::new());
    let parts = splitter.push(&response.text()).into_iter().chain(splitter.finish());
    parts.filter(|(part, _)| *part == Part::Answer).for_each(|(_, part)| text.push_str(&part));
    let finish_reason = match response.finish_reason() {
        Some(FinishReason::ContentFilter) => {
            return malformed("the provider filtered the answer; say it in other words".to_owned());
        }
        Some(FinishReason::Length) if !calls.is_empty() => {
            return malformed(
                "the answer was cut at its token limit in the middle of a tool call, which was not run; raise agent.max_tokens".to_owned(),
            );
        }
        Some(FinishReason::ToolCalls) if calls.is_empty() => {
            return malformed("the model said that it calls a tool and named none".to_owned());
        }
        Some(FinishReason::Other(reason)) => {
            return malformed(format!(
                "the model stopped for a reason that is no success: {}",
                shown(&reason, selected)
            ));
        }
        Some(FinishReason::Length) => "length",
        _ if calls.is_empty() => "stop",
        _ => "tool_calls",
    };
    if calls.is_empty() && text.trim().is_empty() {
        return malformed("the model's answer was empty".to_owned());
    }
    let count = |tokens: Option<u64>| tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    let usage = &response.usage;
    let native = response.message().map(|message| Arc::new(message) as Arc<_>);
    Ok(Turn {
        message: AssistantMessage { text, calls, native },
        finish_reason,
        input_tokens: count(usage.input_tokens),
        output_tokens: count(usage.output_tokens),
        total_tokens: count(usage.total_tokens),
    })
}

fn from_wire(call: &wire::ToolCall) -> ToolCall {
    let arguments = match &call.function.invalid_arguments {
        Some(raw) => Err(raw.clone()),
        None => Ok(call.function.arguments.clone()),
    };
    ToolCall {
        id: call.id.wire().into_owned(),
        has_own_id: !call.id.is_local(),
        name: call.function.name.as_str().to_owned(),
        arguments,
        native: Some(Arc::new(call.clone())),
    }
}

/// A server's own words, short and without secrets.
fn shown(text: &str, selected: &Selected) -> String {
    let text = selected.scrub(text);
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let short: String = plain.trim().chars().take(MAX_SHOWN_CHARACTERS).collect();
    if short.len() < plain.trim().len() { format!("{short}…") } else { short }
}

fn to_failure(error: &ProviderError, selected: &Selected) -> Failure {
    let failure = match error {
        ProviderError::Http(error) => transport_failure(error, selected),
        ProviderError::Truncated => Failure::new(
            FailureKind::Unreachable,
            "the model's server closed the connection in the middle of its answer",
        ),
        ProviderError::Json(_) | ProviderError::Response(_) => Failure::new(
            FailureKind::Malformed,
            format!("the model's server answered with something that is not its protocol: {error}"),
        ),
        _ => match error.provider_response() {
            Some(response) => response_failure(error, response.status, &response.body, selected),
            None => Failure::new(FailureKind::Refused, error.to_string()),
        },
    };
    let mut failure = Failure { message: shown(&failure.message, selected), ..failure };
    failure.retry_after = error.provider_response_headers().and_then(retry_after);
    failure
}

fn transport_failure(error: &http_client::Error, selected: &Selected) -> Failure {
    let place = masked_url(&selected.base_url);
    if let http_client::Error::InvalidContentType(kind) = error {
        let kind = kind.to_str().unwrap_or("?");
        let message =
            format!("{place} answered with {kind} and not with a stream of events; is it a model's server?");
        return Failure::new(FailureKind::Malformed, message);
    }
    let mut reasons = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    let mut is_late = false;
    while let Some(cause) = source {
        is_late |= cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut);
        reasons.push(cause.to_string());
        source = cause.source();
    }
    if let http_client::Error::Instance(inner) = error {
        is_late |= inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut);
        is_late |= inner.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout);
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::Other
        {
            return Failure::new(FailureKind::Malformed, io.to_string());
        }
    }
    reasons.dedup();
    let kind = if is_late { FailureKind::TimedOut } else { FailureKind::Unreachable };
    Failure::new(kind, format!("the model at {place} could not be used: {}", reasons.join(": ")))
}

fn response_failure(
    error: &ProviderError,
    status: Option<http::StatusCode>,
    body: &str,
    selected: &Selected,
) -> Failure {
    // An error within an answer of status 200 carries its own code.
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let inner = document.get("error").unwrap_or(&document);
    let inner_code = inner.get("code").and_then(|code| {
        code.as_u64().or_else(|| code.as_str()?.parse().ok()).filter(|code| (400..600).contains(code))
    });
    let status =
        status.filter(|status| !status.is_success()).map(|status| u64::from(status.as_u16())).or(inner_code);
    let kind = match status {
        Some(408 | 425 | 429 | 500..=599) => FailureKind::Unavailable,
        Some(_) => FailureKind::Refused,
        None if error.is_retryable() => FailureKind::Unavailable,
        // Anthropic names the kind: overloaded_error, rate_limit_error, api_error.
        None => match inner.get("type").and_then(serde_json::Value::as_str) {
            Some("overloaded_error" | "rate_limit_error" | "api_error" | "server_error") => {
                FailureKind::Unavailable
            }
            _ => FailureKind::Malformed,
        },
    };
    let said = inner.get("message").and_then(serde_json::Value::as_str).unwrap_or(body);
    let said = shown(said, selected);
    let message = match (kind, status) {
        (FailureKind::Refused, Some(401 | 403)) => {
            format!(
                "the model's server does not accept the key (HTTP {}); check agent.api_key: {said}",
                status.unwrap_or_default()
            )
        }
        (FailureKind::Refused, Some(404)) => {
            format!(
                "the model's server has no model `{}` or no such path (HTTP 404); check agent.model and agent.base_url: {said}",
                selected.model
            )
        }
        (_, Some(status)) => format!("the model's server answered HTTP {status}: {said}"),
        (_, None) => format!("the model's server reported an error: {said}"),
    };
    Failure::new(kind, message)
}
