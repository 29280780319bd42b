//! Why an answer stopped, in the vocabulary of any server.

/// Why an answer stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FinishReason {
    /// It is complete, with or without calls.
    Natural,
    /// It calls tools.
    Calls,
    /// It reached its token limit.
    Length,
    /// The provider filtered it.
    Filtered(String),
    /// The model refused.
    Refused,
    /// The server paused and expects a request to continue.
    Paused,
    /// The server could not use the model's output; a retry may succeed.
    Unusable(String),
    /// Any other reason, which is not a success.
    Other(String),
}

impl FinishReason {
    /// Returns the worse of two reasons, or the more specific one.
    pub(super) fn or_worse(self, other: Self) -> Self {
        let rank = |finish: &Self| match finish {
            Self::Natural => 0,
            Self::Calls => 1,
            Self::Paused => 2,
            Self::Length => 3,
            Self::Other(_) => 4,
            Self::Unusable(_) => 5,
            Self::Refused => 6,
            Self::Filtered(_) => 7,
        };
        if rank(&other) > rank(&self) { other } else { self }
    }
}

/// Parses a finish reason, ignoring letter case; `None` if it gives no reason.
pub(super) fn read(reason: &str) -> Option<FinishReason> {
    let word = reason.trim().to_ascii_lowercase();
    // The model's own end token: <|eot_id|>, <|im_end|>, </s>, <end_of_turn>.
    let ends = ["eot", "end", "eos", "eom", "/s", "stop"];
    let is_token = word.starts_with('<') && word.ends_with('>') && ends.iter().any(|end| word.contains(end));
    Some(match word.as_str() {
        "" | "null" | "none" | "finish_reason_unspecified" => return None,
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "stop_token" | "end" | "complete"
        | "completed" | "done" | "finished" => FinishReason::Natural,
        _ if is_token => FinishReason::Natural,
        "tool_calls" | "tool_call" | "toolcalls" | "function_call" | "function_calls" | "tool_use" => {
            FinishReason::Calls
        }
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "model_length"
        | "max_length"
        | "model_context_window_exceeded" => FinishReason::Length,
        "content_filter"
        | "content_filtered"
        | "safety"
        | "recitation"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "image_safety"
        | "language"
        | "guardrail_intervened" => FinishReason::Filtered(reason.trim().to_owned()),
        "refusal" => FinishReason::Refused,
        "pause_turn" => FinishReason::Paused,
        "malformed_function_call"
        | "unexpected_tool_call"
        | "malformed_response"
        | "missing_thought_signature" => FinishReason::Unusable(reason.trim().to_owned()),
        _ => FinishReason::Other(reason.trim().to_owned()),
    })
}
