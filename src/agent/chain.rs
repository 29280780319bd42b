//! The order of a command's events, enforced by types: while a model call is open only its tokens can be written, and
//! nothing can be written to what has ended.

use tokio::time::Instant;

use super::{
    Writer,
    usage_totals::{UsageTotals, tokens_of},
};
use crate::{
    error::Result,
    llm::{self, ModelTurn},
    pb::{ChainEnd, ChainStart, LlmEnd, LlmNewToken, LlmStart, job_event::Payload},
    telemetry::{TokenKind, count_tokens},
};

/// A longer text is split over several events.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A command that the agent works on, from `on_chain_start` to `on_chain_end`.
pub(super) struct Chain<'w> {
    writer: &'w mut Writer,
    spent: UsageTotals,
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
        Ok(Self { writer, spent: UsageTotals::default(), steps: 0 })
    }

    /// Returns the writer, for the tool calls and questions between two model calls.
    pub(super) fn tools(&mut self) -> &mut Writer {
        self.writer
    }

    /// Counts tool calls that were made.
    pub(super) fn count_tool_calls(&mut self, calls: usize) {
        self.spent.count_tool_calls(calls);
    }

    /// Counts a step of a planner that calls no model.
    pub(super) fn count_step(&mut self) {
        self.steps += 1;
    }

    /// Begins a model call.
    pub(super) async fn llm(&mut self, step: u32, attempt: u32) -> Result<LlmCall<'_, 'w>> {
        self.steps = step;
        self.writer.append(Payload::OnLlmStart(LlmStart { step, attempt })).await?;
        Ok(LlmCall { chain: self, step, started: Instant::now(), has_forwarded: false, used: None })
    }

    /// Returns what the model calls have used so far.
    pub(super) fn spent(&self) -> &UsageTotals {
        &self.spent
    }

    /// Ends the agent's work, however it went.
    pub(super) async fn end(self) -> Result<()> {
        let end = ChainEnd { steps: self.steps, usage: Some(self.spent.to_usage()) };
        self.writer.append(Payload::OnChainEnd(end)).await
    }
}

/// An open model call.
pub(super) struct LlmCall<'c, 'w> {
    chain: &'c mut Chain<'w>,
    step: u32,
    started: Instant,
    has_forwarded: bool,
    used: Option<llm::Usage>,
}

impl LlmCall<'_, '_> {
    /// Writes text that came from the model.
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

    /// Stores the usage of a call that yields no answer.
    pub(super) fn used(&mut self, usage: llm::Usage) {
        self.used = (usage != llm::Usage::default()).then_some(usage);
    }

    /// Returns whether readers have seen anything of this call, so that it cannot be tried again.
    pub(super) fn has_forwarded(&self) -> bool {
        self.has_forwarded
    }

    /// Ends the call with an answer.
    pub(super) async fn end(self, turn: &ModelTurn, repaired_calls: u32) -> Result<()> {
        self.ended(turn.finish_reason, Some(&turn.usage), repaired_calls).await
    }

    /// Ends the call without an answer, as "error" or "cancelled". Its usage is counted nevertheless.
    pub(super) async fn fail(self, finish_reason: &str) -> Result<()> {
        let used = self.used;
        if used.is_none() && self.has_forwarded {
            // Readers saw words of it, so its provider has counted it, whatever it says of that.
            self.chain.spent.add(&llm::Usage::default());
        }
        self.ended(finish_reason, used.as_ref(), 0).await
    }

    async fn ended(self, finish_reason: &str, used: Option<&llm::Usage>, repaired_calls: u32) -> Result<()> {
        if let Some(used) = used {
            self.chain.spent.add(used);
            count_tokens(TokenKind::Input, used.input.unwrap_or(0));
            count_tokens(TokenKind::Output, used.output.unwrap_or(0));
        }
        let end = LlmEnd {
            step: self.step,
            finish_reason: finish_reason.to_owned(),
            usage: used.map(tokens_of),
            duration_ms: u32::try_from(self.started.elapsed().as_millis()).unwrap_or(u32::MAX),
            repaired_calls,
        };
        self.chain.writer.append(Payload::OnLlmEnd(end)).await
    }
}
