//! What the model reads before the user's words: who it is, the tools, examples, the conversation so far.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use serde_json::{Value, json};

use super::AgentConfig;
use crate::{
    conversation::Exchange,
    llm::{AssistantMessage, Message, ModelRequest, ToolCall, ToolDefinition, ToolOutcome},
    mcp::ExternalTool,
    tool::{ToolName, catalogue},
};

/// The agent's own tool, which asks its user a question.
pub(super) const ASK_USER: &str = "ask_user";

const INSTRUCTIONS: &str = "You are the agent of a gateway in front of a conductor engine of AI agents. Do what the \
user asks by calling tools; find an agent's id with list_available_agents before you run it, and never make one up. \
When a tool fails, read why, and correct the call or tell the user. Answer with what was done and what came of it, \
shortly. Say nothing that no tool has told you about this system.";

/// What a command may call.
#[derive(Clone, Debug)]
pub(super) enum Callable {
    CatalogueTool(ToolName),
    ExternalTool(Box<ExternalTool>),
    AskUser,
}

/// The gateway's own tools, which every command offers.
static OWN: LazyLock<Vec<(ToolDefinition, Callable)>> = LazyLock::new(|| {
    let own = catalogue().iter().map(|spec| {
        let definition = ToolDefinition {
            name: spec.name.as_str().to_owned(),
            description: spec.description.into(),
            parameters: Arc::new(plain(&spec.input_schema)),
        };
        (definition, Callable::CatalogueTool(spec.name))
    });
    let ask = ToolDefinition {
        name: ASK_USER.to_owned(),
        description: ASK_DESCRIPTION.into(),
        parameters: Arc::new(ask_schema()),
    };
    own.chain([(ask, Callable::AskUser)]).collect()
});

/// The tools of one command, by the name that the model uses.
pub(super) struct OfferedTools {
    pub(super) definitions: Arc<[ToolDefinition]>,
    /// What each of the definitions stands for, in the same order.
    callables: Vec<Callable>,
}

impl OfferedTools {
    pub(super) fn new(config: &AgentConfig, outside: Vec<ExternalTool>) -> Self {
        let is_wanted =
            |name: &str| config.tools.is_empty() || config.tools.iter().any(|wanted| wanted == name);
        let own = OWN.iter().filter(|(definition, _)| is_wanted(&definition.name)).cloned();
        let mut names: BTreeSet<String> = OWN.iter().map(|(definition, _)| definition.name.clone()).collect();
        // The tools of two servers may end up with the same name, and providers refuse a list with duplicates.
        let outside = outside.into_iter().filter(|tool| names.insert(tool.name.clone())).map(|tool| {
            let definition = ToolDefinition {
                name: tool.name.clone(),
                description: tool.description.as_str().into(),
                parameters: Arc::new(tool.input_schema.clone()),
            };
            (definition, Callable::ExternalTool(Box::new(tool)))
        });
        let (definitions, callables): (Vec<_>, Vec<_>) = own.chain(outside).unzip();
        Self { definitions: definitions.into(), callables }
    }

    /// Returns what a name stands for, and the schema of its arguments.
    pub(super) fn find(&self, name: &str) -> Option<(&Callable, &Value)> {
        let mut known = self.definitions.iter().zip(&self.callables);
        known
            .find(|(definition, _)| definition.name == name)
            .map(|(definition, callable)| (callable, &*definition.parameters))
    }

    /// Returns the names, for a model that made one up.
    pub(super) fn names(&self) -> String {
        self.definitions.iter().map(|definition| definition.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

const ASK_DESCRIPTION: &str = "Asks the user and waits for the answer. Use it only when you cannot go on without it; \
the user may not be there.";

fn ask_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["question"],
        "properties": {
            "question": {"type": "string", "minLength": 1, "description": "What you need to know, in one sentence."},
            "choices": {
                "type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 20,
                "description": "The possible answers, where there are only some.",
            },
        },
    })
}

/// Returns a schema without what providers do not accept: its draft, titles, formats.
fn plain(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| {
                let is_mark = matches!(name.as_str(), "$schema" | "title" | "format") && value.is_string();
                !is_mark
            })
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect(),
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// Builds the request of a command's first step.
pub(super) fn request(
    config: &AgentConfig,
    offer: &OfferedTools,
    earlier: &[Exchange],
    command: &str,
) -> ModelRequest {
    let mut system = INSTRUCTIONS.to_owned();
    if !config.instructions.is_empty() {
        system.push_str("\n\n");
        system.push_str(&config.instructions);
    }
    let mut messages = Vec::new();
    for (number, example) in config.few_shot.iter().enumerate() {
        messages.push(Message::User(example.user.clone()));
        if let Some(tool) = &example.tool {
            let call = ToolCall::new(format!("example_{number}"), tool.clone(), example.arguments.clone());
            messages.push(Message::Assistant(AssistantMessage::new("", vec![call.clone()])));
            let outcome = ToolOutcome { call, text: example.result.clone(), is_error: false };
            messages.push(Message::ToolOutcomes(vec![outcome]));
        }
        messages.push(Message::Assistant(AssistantMessage::new(example.answer.clone(), Vec::new())));
    }
    for exchange in earlier {
        messages.push(Message::User(exchange.command.clone()));
        messages.push(Message::Assistant(AssistantMessage::new(exchange.answer.clone(), Vec::new())));
    }
    messages.push(Message::User(command.to_owned()));
    ModelRequest { system, messages, tools: offer.definitions.clone(), trace: None }
}
