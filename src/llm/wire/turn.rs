//! Converts a complete answer to a turn. Everything that is not clearly a success is a failure, so that a call that was cut off
//! is never made and an empty answer is never taken for a success.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    AnswerEnd, AssistantMessage, Decoder, FailureKind, FinishReason, ModelFailure, ModelTurn, RawCall,
    SelectedModel, ToolCall, Usage, calls::arguments, closed,
};
use crate::llm::{reported::shown, surrogates::SurrogateJoiner};

pub(super) fn to_turn(
    answer: AnswerEnd,
    text: &str,
    decoder: &dyn Decoder,
    usage: Usage,
    selected: &SelectedModel,
) -> Result<ModelTurn, ModelFailure> {
    let malformed = |message: &str| Err(ModelFailure::new(FailureKind::Malformed, message));
    let AnswerEnd { calls, finish, refusal } = answer;
    let Some(finish) = finish else { return Err(closed()) };
    if !refusal.is_empty() || finish == FinishReason::Refused {
        let words = if refusal.trim().is_empty() { text } else { &refusal };
        let message =
            format!("the model refuses: {}", shown(&SurrogateJoiner::whole(words.to_owned()), selected));
        return Err(ModelFailure::new(FailureKind::Refused, message));
    }
    let finish_reason = match finish {
        FinishReason::Filtered(reason) => {
            return malformed(&format!(
                "the provider filtered the answer ({}); say it in other words",
                shown(&reason, selected)
            ));
        }
        FinishReason::Unusable(reason) => {
            return Err(ModelFailure::chance(format!(
                "the model's server could not use what the model said: {}",
                shown(&reason, selected)
            )));
        }
        FinishReason::Other(reason) => {
            return malformed(&format!(
                "the model stopped for a reason that is no success: {}",
                shown(&reason, selected)
            ));
        }
        FinishReason::Length if !calls.is_empty() => {
            return malformed(
                "the answer was cut at its token limit in the middle of a tool call, which was not run; raise agent.max_tokens",
            );
        }
        FinishReason::Length => "length",
        // The calls may be in the text.
        FinishReason::Calls if !text.trim().is_empty() => "tool_calls",
        FinishReason::Calls if calls.is_empty() => {
            return malformed("the model said that it calls a tool and named none");
        }
        _ if calls.is_empty() => "stop",
        _ => "tool_calls",
    };
    if calls.iter().any(|call| call.name.trim().is_empty()) {
        return malformed("the model made a call without a name, which cannot be made");
    }
    if calls.is_empty() && text.trim().is_empty() {
        if finish_reason == "length" {
            return malformed("the model used all of its tokens before it answered; raise agent.max_tokens");
        }
        return Err(ModelFailure::chance("the model's answer was empty"));
    }
    let calls = identified(calls);
    let native = decoder.native(text, &calls);
    Ok(ModelTurn { message: AssistantMessage::of_wire(text, calls, native), finish_reason, usage })
}

/// Returns a new id for a call that has none from its provider.
pub(in crate::llm) fn local_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("call_gw{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Gives each call an id: the provider's, if it gave one and gave it to no other call.
fn identified(calls: Vec<RawCall>) -> Vec<ToolCall> {
    let mut made: Vec<ToolCall> = Vec::with_capacity(calls.len());
    for call in calls {
        let arguments = match arguments(&call.arguments) {
            Ok(read) => Ok(read
                .into_iter()
                .map(|(name, value)| (SurrogateJoiner::whole(name), whole(value)))
                .collect()),
            Err(raw) => Err(SurrogateJoiner::whole(raw)),
        };
        let is_other = |earlier: &ToolCall| {
            Some(&earlier.id) == call.id.as_ref()
                && (earlier.name != call.name || earlier.arguments != arguments)
        };
        let is_repeated = |earlier: &ToolCall| {
            Some(&earlier.id) == call.id.as_ref()
                && earlier.name == call.name
                && earlier.arguments == arguments
        };
        // The call was sent twice, and providers reject a message in which an id occurs twice.
        if made.iter().any(is_repeated) {
            continue;
        }
        let own = call.id.clone().filter(|_| !made.iter().any(is_other));
        let has_own_id = own.is_some();
        let id = own.unwrap_or_else(local_id);
        made.push(ToolCall { id, has_own_id, name: call.name.trim().to_owned(), arguments });
    }
    made
}

/// Joins or replaces the surrogate halves in all texts of a value.
fn whole(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(SurrogateJoiner::whole(text)),
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (SurrogateJoiner::whole(name), whole(value))).collect()
        }
        other => other,
    }
}
