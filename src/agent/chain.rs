//! The order of a command's events, held by types: while a model call is open nothing but its tokens can be written,
//! and what has ended cannot be written to.

use std::time::Duration;

use tokio::time::Instant;

use super::Writer;
use crate::{
    error::Result,
    llm::Turn,
    pb::{ChainEnd, ChainStart, LlmEnd, LlmNewToken, LlmStart, Usage, job_event::Payload},
};

/// A longer text is split over several events.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A command that the agent works on: begun with `on_chain_start`, over with `on_chain_end`.
pub(super) struct Chain<'w> {
    writer: &'w mut Writer,
    usage: Usage,
    steps: u32,
}

impl<'w> Chain<'w> {
    pub(super) async fn start(
        writer: &'w mut Writer,
        planner: &str,
        provider: &str,
        model: &str,
    ) -> Result<Self> {
        let start = ChainStart {
            planner: planner.to_owned(),
            provider: provider.to_owned(),
            model: model.to_owned(),
        };
        writer.append(Payload::OnChainStart(start)).await?;
        Ok(Self { writer, usage: Usage::default(), steps: 0 })
    }

    /// The writer, for the tool calls and questions between two model calls.
    pub(super) fn tools(&mut self) -> &mut Writer {
        self.writer
    }

    /// Counts tool calls that were made.
    pub(super) fn count_tool_calls(&mut self, calls: usize) {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        self.usage.tool_calls = Some(self.usage.tool_calls.unwrap_or(0).saturating_add(calls));
    }

    /// Counts a step of a planner that calls no model.
    pub(super) fn count_step(&mut self) {
        self.steps += 1;
    }

    /// A model call begins.
    pub(super) async fn llm(&mut self, step: u32, attempt: u32) -> Result<LlmCall<'_, 'w>> {
        self.steps = step;
        self.writer.append(Payload::OnLlmStart(LlmStart { step, attempt })).await?;
        Ok(LlmCall { chain: self, step, started: Instant::now(), has_forwarded: false })
    }

    /// What the model has used so far, as far as its provider says so.
    pub(super) fn total_tokens(&self) -> Option<u32> {
        let both = self.usage.input_tokens.zip(self.usage.output_tokens);
        self.usage.total_tokens.or(both.map(|(input, output)| input.saturating_add(output)))
    }

    /// The agent's work is over, however it went.
    pub(super) async fn end(self) -> Result<()> {
        let end = ChainEnd { steps: self.steps, usage: Some(self.usage) };
        self.writer.append(Payload::OnChainEnd(end)).await
    }
}

/// An open model call.
pub(super) struct LlmCall<'c, 'w> {
    chain: &'c mut Chain<'w>,
    step: u32,
    started: Instant,
    has_forwarded: bool,
}

impl LlmCall<'_, '_> {
    /// The model wrote something.
    pub(super) async fn token(&mut self, text: String, is_reasoning: bool) -> Result<()> {
        self.has_forwarded = true;
        let mut rest = text;
        loop {
            let end = rest.floor_char_boundary(MAX_TOKEN_BYTES);
            let tail = rest.split_off(end);
            let token = LlmNewToken { step: self.step, text: rest, is_reasoning };
            self.chain.writer.append(Payload::OnLlmNewToken(token)).await?;
            if tail.is_empty() {
                return Ok(());
            }
            rest = tail;
        }
    }

    /// Whether readers have seen anything of this call: it cannot be tried again then.
    pub(super) fn has_forwarded(&self) -> bool {
        self.has_forwarded
    }

    /// The call ended with an answer.
    pub(super) async fn end(self, turn: &Turn, repaired_calls: u32) -> Result<()> {
        let usage = Usage {
            input_tokens: turn.input_tokens,
            output_tokens: turn.output_tokens,
            total_tokens: turn.total_tokens,
            tool_calls: None,
        };
        // A sum of what is known; unknown stays unknown, and is not zero.
        let add = |sum: Option<u32>, more: Option<u32>| match (sum, more) {
            (None, None) => None,
            (sum, more) => Some(sum.unwrap_or(0).saturating_add(more.unwrap_or(0))),
        };
        let sum = &mut self.chain.usage;
        sum.input_tokens = add(sum.input_tokens, usage.input_tokens);
        sum.output_tokens = add(sum.output_tokens, usage.output_tokens);
        sum.total_tokens = add(sum.total_tokens, usage.total_tokens);
        let (step, started) = (self.step, self.started);
        self.chain
            .writer
            .append(ended(step, turn.finish_reason, Some(usage), started.elapsed(), repaired_calls))
            .await
    }

    /// The call ended without one: "error" or "cancelled".
    pub(super) async fn fail(self, finish_reason: &str) -> Result<()> {
        let (step, started) = (self.step, self.started);
        self.chain.writer.append(ended(step, finish_reason, None, started.elapsed(), 0)).await
    }
}

fn ended(
    step: u32,
    finish_reason: &str,
    usage: Option<Usage>,
    duration: Duration,
    repaired_calls: u32,
) -> Payload {
    let duration_ms = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    Payload::OnLlmEnd(LlmEnd {
        step,
        finish_reason: finish_reason.to_owned(),
        usage,
        duration_ms,
        repaired_calls,
    })
}
