//! An agent's answer: streamed from a model or, without one, simulated, which the answer says.

use std::{env, path::Path, time::Duration};

use futures_util::StreamExt;

use super::output::{CommandFailure, Printer};
use crate::{
    engine::workspace::{Definition, Workspace},
    llm::{
        self, Api, AssistantMessage, MODEL_VARIABLE, Message, ModelPreferences, ModelRequest, Piece,
        SelectedModel, Timeouts,
    },
    secret::Secret,
    sync::back_off,
    telemetry::TraceContext,
};

/// The environment variable with the pause between two simulated words, in milliseconds, so that a reader sees
/// what streaming looks like.
const PACE_VARIABLE: &str = "CONDUCTOR_SIMULATE_PACE_MS";
const DEFAULT_PACE_MS: u64 = 10;
/// The maximum size of a persona, in bytes.
const MAX_PERSONA_BYTES: u64 = 1024 * 1024;
/// How often a call is attempted, as long as nothing of its answer has been shown.
const MAX_ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A model's server that wants to be left alone for longer is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The input of an agent and its context.
pub(super) struct AgentPrompt<'a> {
    pub(super) agent_id: &'a str,
    pub(super) definition: &'a Definition,
    pub(super) input: &'a str,
    /// Earlier interactions, the oldest first: input and answer.
    pub(super) earlier: &'a [(String, String)],
    pub(super) timeout: Duration,
}

/// What produces the answer.
pub(super) enum Answerer {
    Model(Box<SelectedModel>),
    Simulation,
}

impl Answerer {
    /// Chooses the simulation if it is requested, else the model that the gateway passes, else the one that the
    /// environment's keys select.
    pub(super) fn choose(is_simulated: bool) -> Result<Self, CommandFailure> {
        if is_simulated {
            return Ok(Self::Simulation);
        }
        if let Ok(json) = env::var(MODEL_VARIABLE) {
            let selected = serde_json::from_str(&json)
                .map_err(|_| CommandFailure::failed(format_args!("{MODEL_VARIABLE} holds no model")))?;
            return Ok(Self::Model(Box::new(selected)));
        }
        let wanted = ModelPreferences {
            provider: None,
            api: Api::default(),
            model: env::var("AGENT_MODEL").ok(),
            base_url: env::var("AGENT_BASE_URL").ok(),
            api_key: Secret::from(env::var("AGENT_API_KEY").unwrap_or_default()),
            headers: Default::default(),
            temperature: None,
            max_tokens: None,
            caches_prompts: true,
            prices: Default::default(),
            timeouts: Timeouts { connect_seconds: 10, first_byte_seconds: 300, idle_seconds: 60 },
            uses_detected: false,
        };
        let choice = llm::choose(&wanted, |name| env::var(name).ok(), &[]).map_err(CommandFailure::failed)?;
        Ok(choice.selected.map_or(Self::Simulation, |selected| Self::Model(Box::new(selected))))
    }

    pub(super) fn is_simulated(&self) -> bool {
        matches!(self, Self::Simulation)
    }

    /// Returns the answer. Unless JSON is requested, it is also printed as it arrives.
    pub(super) fn answer(
        &self,
        workspace: &Workspace,
        asked: &AgentPrompt<'_>,
        printer: &Printer,
    ) -> Result<String, CommandFailure> {
        match self {
            Self::Simulation => simulate(asked, printer),
            Self::Model(selected) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(CommandFailure::failed)?;
                let root = workspace.agent_root(asked.agent_id);
                let persona =
                    root.and_then(|root| root.read_text(Path::new("persona.md"), MAX_PERSONA_BYTES));
                let persona = persona.unwrap_or_default();
                let request = request(&persona, asked);
                let answered = async {
                    let answering = ask(selected, request, printer);
                    let late = || format!("the model took longer than {} seconds", asked.timeout.as_secs());
                    tokio::time::timeout(asked.timeout, answering)
                        .await
                        .map_err(|_| CommandFailure::failed(late()))?
                };
                runtime.block_on(answered)
            }
        }
    }
}

fn request(persona: &str, asked: &AgentPrompt<'_>) -> ModelRequest {
    let mut messages = Vec::new();
    for (input, answer) in asked.earlier {
        messages.push(Message::User(input.clone()));
        messages.push(Message::Assistant(AssistantMessage::new(answer.clone(), Vec::new())));
    }
    messages.push(Message::User(asked.input.to_owned()));
    let system = match persona.trim() {
        "" => format!("You are {}: {}", asked.definition.name, asked.definition.description),
        persona => persona.to_owned(),
    };
    ModelRequest { system, messages, tools: Vec::new().into(), trace: TraceContext::of_process() }
}

async fn ask(
    selected: &SelectedModel,
    request: ModelRequest,
    printer: &Printer,
) -> Result<String, CommandFailure> {
    let model = llm::connect(selected).map_err(CommandFailure::failed)?;
    let mut attempt = 1;
    loop {
        let mut text = String::new();
        let mut pieces = model.ask(request.clone());
        let failure = loop {
            match pieces.next().await {
                Some(Ok(Piece::Text(piece))) => {
                    if !printer.is_json() {
                        printer.text(&piece)?;
                    }
                    text.push_str(&piece);
                }
                Some(Ok(Piece::Reasoning(_) | Piece::Used(_))) => {}
                Some(Ok(Piece::End(_))) => {
                    if !printer.is_json() && !text.ends_with('\n') {
                        printer.text("\n")?;
                    }
                    return Ok(text);
                }
                Some(Err(failure)) => break failure,
                None => return Err(CommandFailure::failed("the model's answer ended without an end")),
            }
        };
        let wait = failure.retry_after.unwrap_or_else(|| back_off(attempt, FIRST_WAIT, LONGEST_WAIT));
        if !failure.is_retryable() || !text.is_empty() || attempt >= MAX_ATTEMPTS || wait > LONGEST_WAIT {
            return Err(CommandFailure::failed(failure.message));
        }
        printer.remark(&format!("{}; trying again in {:.1} seconds", failure.message, wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own with one thread; the pause is the point")]
fn simulate(asked: &AgentPrompt<'_>, printer: &Printer) -> Result<String, CommandFailure> {
    let answer = simulated(asked);
    if !printer.is_json() {
        let pace = pace();
        for word in answer.split_inclusive(char::is_whitespace) {
            printer.text(word)?;
            std::thread::sleep(pace);
        }
    }
    Ok(answer)
}

/// Returns the answer of a simulated agent.
fn simulated(asked: &AgentPrompt<'_>) -> String {
    let excerpt: String = asked.input.chars().take(500).collect();
    let remembered = match asked.earlier.len() {
        0 => String::new(),
        1 => " It remembers 1 earlier interaction.".to_owned(),
        count => format!(" It remembers {count} earlier interactions."),
    };
    format!(
        "[simulated: no model is configured]\n\
         {} received an input of {} bytes.{remembered}\n\
         With a model it would answer as: {}.\n\
         It was told: {excerpt}\n",
        asked.agent_id,
        asked.input.len(),
        asked.definition.description,
    )
}

fn pace() -> Duration {
    let pace = env::var(PACE_VARIABLE).ok().and_then(|pace| pace.parse().ok()).unwrap_or(DEFAULT_PACE_MS);
    Duration::from_millis(pace)
}
