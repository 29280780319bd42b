//! The turn loop: the model is asked, its calls are made, it reads their results, until it answers.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    TaskExecutor,
    calls::{ExecutedCall, PlannedCall},
    chain::Chain,
    prompt::{self, Callable, OfferedTools},
    truncate::cut_text,
    usage_totals::{SpentCost, UsageTotals},
};
use crate::{
    conversation::Exchange,
    error::{Error, Reason, Result},
    llm::{MAX_CALLS, Message, Model, ModelRequest, ModelTurn, TOO_MANY_CALLS, ToolCall, ToolOutcome},
    text::{bounded, quoted},
    tool::{ToolResult, read_as_written},
};

/// The time limit for checking a value against an outside server's schema.
const CHECK_TIME: Duration = Duration::from_secs(1);
/// Appended to the results of a model that makes the same calls again.
const CIRCLE_MARK: &str =
    "\n[You made this call before and this is the same answer. Do not make it again: answer the user now.]";

/// Appended to a result that was cut for the model.
const CUT_MARK: &str = "\n[… cut: the rest is too long]";

impl TaskExecutor<'_> {
    /// Lets the model work on a command, and returns its answer.
    pub(super) async fn run_with_model(
        &self,
        model: &dyn Model,
        command: &str,
        chain: &mut Chain<'_>,
    ) -> Result<ToolResult> {
        let config = &self.planner.config;
        let offer = OfferedTools::new(config, self.planner.tools.outside().await);
        let (_in_use, earlier) = match &self.named_conversation {
            None => (None, Vec::new()),
            Some(id) => {
                let (in_use, earlier) =
                    self.toolbox.conversations().recall(&self.caller, id, config.remember()).await?;
                (Some(in_use), earlier)
            }
        };
        let request = prompt::request(config, &offer, &earlier, command);
        let answer = self.turns(model, request, &offer, chain).await?;
        if let Some(id) = &self.named_conversation {
            let exchange = Exchange { command: command.to_owned(), answer: answer.message.text.clone() };
            // The answer exists and is paid for, whether or not it can be remembered.
            if let Err(error) =
                self.toolbox.conversations().remember(&self.caller, id, exchange, config.remember()).await
            {
                tracing::warn!(job_id = %self.job_id, %error, "an exchange could not be kept in its conversation");
            }
        }
        let is_truncated = answer.finish_reason == "length";
        Ok(ToolResult { text: answer.message.text, value: Value::Null, is_truncated })
    }

    async fn turns(
        &self,
        model: &dyn Model,
        mut request: ModelRequest,
        offer: &OfferedTools,
        chain: &mut Chain<'_>,
    ) -> Result<ModelTurn> {
        let config = &self.planner.config;
        let max_steps = match self.max_steps {
            0 => config.max_steps,
            asked => asked.min(config.max_steps),
        };
        let (mut mistakes, mut circles) = (0, 0);
        let (mut earlier, mut earlier_texts): (Vec<ToolCall>, Vec<String>) = (Vec::new(), Vec::new());
        for step in 1..=max_steps {
            let turn = self.step(model, step, &request, chain).await?;
            if turn.finish_reason == TOO_MANY_CALLS {
                mistakes += 1;
                if mistakes >= config.max_tool_errors {
                    return Err(too_many_errors(mistakes));
                }
                if !turn.message.text.trim().is_empty() {
                    request.messages.push(Message::Assistant(turn.message));
                }
                request.messages.push(Message::User(format!(
                    "[Your answer began more than {MAX_CALLS} tool calls. None of them was made. Make at most {MAX_CALLS} in one answer.]"
                )));
                continue;
            }
            if turn.message.calls.is_empty() {
                return Ok(turn);
            }
            // Checked before another step, which costs more; an answer that exists already does not.
            self.check_spent(chain.spent())?;
            let calls = distinct(&turn.message.calls);
            let mut wishes = Vec::with_capacity(calls.len());
            for call in &calls {
                wishes.push(self.resolve_call(call, step, offer).await);
            }
            let made = self.run_calls(wishes, step, chain.tools()).await?;
            chain.count_tool_calls(made.len());
            for made in &made {
                mistakes = if made.is_models_mistake { mistakes + 1 } else { 0 };
            }
            // A model that goes round in circles is told so, and stopped if it continues.
            let texts: Vec<String> = made.iter().map(|made| made.text.clone()).collect();
            let is_circle = are_same(&calls, &earlier) && texts == earlier_texts;
            circles = if is_circle { circles + 1 } else { 0 };
            let errors_in_a_row = mistakes.max(circles);
            if errors_in_a_row >= config.max_tool_errors {
                return Err(too_many_errors(errors_in_a_row));
            }
            let mut outcomes = outcomes(&turn.message.calls, &calls, &made, config.max_result_bytes as usize);
            if is_circle && let Some(last) = outcomes.last_mut() {
                last.text.push_str(CIRCLE_MARK);
            }
            (earlier, earlier_texts) = (calls, texts);
            request.messages.push(Message::Assistant(turn.message));
            request.messages.push(Message::ToolOutcomes(outcomes));
        }
        let message = format!(
            "the agent took {max_steps} steps and had no answer; give it less to do, or raise agent.max_steps"
        );
        Err(Error::new(Reason::StepLimit, message))
    }

    /// Checks whether another step may be taken after what the steps so far have used.
    fn check_spent(&self, spent: &UsageTotals) -> Result<()> {
        let most = self.max_total_tokens;
        if most > 0 && spent.total_tokens().is_some_and(|used| used >= most) {
            let message = format!("the command used its {most} tokens and had no answer yet");
            return Err(Error::new(Reason::TokenLimit, message));
        }
        let Some(most) = self.max_cost else { return Ok(()) };
        match spent.cost() {
            SpentCost::Dollars(dollars) if dollars >= most => {
                let message =
                    format!("the command has cost {dollars} of its {most} dollars and had no answer yet");
                Err(Error::new(Reason::CostLimit, message))
            }
            SpentCost::Unknown => {
                let message = "what the command costs is not known, and max_cost was asked for: the model's server does not say it, and agent.prices has no price for the model";
                Err(Error::new(Reason::CostLimit, message))
            }
            SpentCost::Dollars(_) | SpentCost::Nothing => Ok(()),
        }
    }

    /// Converts a call of the model's to one that can be made. A mistake is reported to the model, and becomes visible
    /// like any call.
    async fn resolve_call(&self, call: &ToolCall, step: u32, offer: &OfferedTools) -> PlannedCall {
        let refuse = |error: Error, arguments: &Map<String, Value>| PlannedCall::Mistake {
            tool: call.name.chars().take(128).collect(),
            arguments: Value::Object(arguments.clone()).to_string(),
            error,
        };
        let Some((callable, schema)) = offer.find(&call.name) else {
            let message = format!("there is no tool `{}`; there are {}", quoted(&call.name), offer.names());
            let arguments = call.arguments.clone().unwrap_or_default();
            return refuse(Error::new(Reason::UnknownTool, message), &arguments);
        };
        let arguments = match &call.arguments {
            Ok(arguments) => arguments.clone(),
            Err(raw) => {
                let message = format!("are no JSON object: {}", bounded(raw, 200));
                return refuse(Error::invalid("arguments", message), &Map::new());
            }
        };
        let mut value = Value::Object(arguments);
        read_as_written(&mut value, schema);
        let arguments = value.as_object().cloned().unwrap_or_default();
        let error = match callable {
            // An outside server's schema is checked off the runtime and within a time limit. What is not checked by
            // then is left to its server.
            Callable::ExternalTool(tool) => match tool.checked_schema.clone() {
                Some(schema) => {
                    let checked =
                        self.planner.checks.run(CHECK_TIME, move || schema_violation(&schema, &value)).await;
                    checked.unwrap_or_default()
                }
                None => None,
            },
            Callable::CatalogueTool(_) | Callable::AskUser => schema_violation(schema, &value),
        };
        if let Some(error) = error {
            return refuse(error, &arguments);
        }
        match callable {
            Callable::CatalogueTool(tool) => PlannedCall::CatalogueTool(*tool, arguments),
            Callable::ExternalTool(tool) => {
                // The step is part of the key, because some servers number their calls anew in each answer.
                PlannedCall::ExternalTool(
                    tool.clone(),
                    arguments,
                    format!("{}:{step}:{}", self.job_id, call.id),
                )
            }
            Callable::AskUser => PlannedCall::AskUser(arguments),
        }
    }
}

fn too_many_errors(errors_in_a_row: u32) -> Error {
    let message = format!(
        "the model called tools wrongly, or made the same call, {errors_in_a_row} times in a row; try a larger one, or give it examples in agent.few_shot"
    );
    Error::new(Reason::TooManyToolErrors, message)
}

/// Checks a value against a schema. Returns where and why it does not fit; `None` where it fits or the schema is
/// invalid.
fn schema_violation(schema: &Value, value: &Value) -> Option<Error> {
    let validator = jsonschema::validator_for(schema).ok()?;
    let error = validator.validate(value).err()?;
    let place = error.instance_path().to_string().replace('/', ".");
    Some(Error::invalid(bounded(&format!("arguments{place}"), 200), bounded(&error.to_string(), 300)))
}

/// Returns whether two calls of a turn are one call that was sent twice: by its id, or word for word without an id of
/// its own.
fn is_repeated(call: &ToolCall, earlier: &ToolCall) -> bool {
    let is_same = || call.name == earlier.name && call.arguments == earlier.arguments;
    call.id == earlier.id || (!call.has_own_id && is_same())
}

/// Returns whether two turns make the same calls, whatever their ids.
fn are_same(calls: &[ToolCall], earlier: &[ToolCall]) -> bool {
    let is_same = |(a, b): (&ToolCall, &ToolCall)| a.name == b.name && a.arguments == b.arguments;
    calls.len() == earlier.len() && calls.iter().zip(earlier).all(is_same)
}

/// Returns the calls of a turn without the repeated ones.
fn distinct(calls: &[ToolCall]) -> Vec<ToolCall> {
    let mut distinct: Vec<ToolCall> = Vec::with_capacity(calls.len());
    for call in calls {
        if !distinct.iter().any(|earlier| is_repeated(call, earlier)) {
            distinct.push(call.clone());
        }
    }
    distinct
}

/// Returns what the model reads, in the order of its calls; a repeated call gets the result of the first one.
fn outcomes(
    calls: &[ToolCall],
    distinct: &[ToolCall],
    made: &[ExecutedCall],
    max_bytes: usize,
) -> Vec<ToolOutcome> {
    let outcome = |call: &ToolCall| {
        let same = |known: &ToolCall| known.id == call.id || is_repeated(call, known);
        let made = distinct.iter().position(same).and_then(|index| made.get(index))?;
        let mut text = made.text.clone();
        if cut_text(&mut text, max_bytes) {
            text.push_str(CUT_MARK);
        }
        Some(ToolOutcome { call: call.clone(), text, is_error: made.is_error })
    };
    calls.iter().filter_map(outcome).collect()
}
