//! The usage and cost of a command's model calls, added up.

use rust_decimal::Decimal;

use crate::{
    llm,
    pb::{CostBasis, Usage},
};

/// The sum over a command's model calls. What no provider reports stays unknown, and is not zero.
#[derive(Debug, Default)]
pub(super) struct UsageTotals {
    tokens: llm::Usage,
    tool_calls: Option<u32>,
    dollars: Decimal,
    has_providers: bool,
    has_computed: bool,
    has_unknown: bool,
}

/// What the calls have cost so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpentCost {
    /// No call was made.
    Nothing,
    /// The sum, in US dollars.
    Dollars(Decimal),
    /// The cost of at least one call is not known.
    Unknown,
}

impl UsageTotals {
    pub(super) fn add(&mut self, used: &llm::Usage) {
        self.tokens.add(used);
        match used.cost {
            Some(cost) => {
                self.dollars = self.dollars.saturating_add(cost.dollars);
                self.has_providers |= cost.is_providers;
                self.has_computed |= !cost.is_providers;
            }
            None => self.has_unknown = true,
        }
    }

    pub(super) fn count_tool_calls(&mut self, calls: usize) {
        self.tool_calls = Some(self.tool_calls.unwrap_or(0).saturating_add(count(calls)));
    }

    /// Returns the tokens read and written, as far as providers report them.
    pub(super) fn total_tokens(&self) -> Option<u32> {
        let both = self.tokens.input.zip(self.tokens.output);
        self.tokens.total.or(both.map(|(input, output)| input.saturating_add(output))).map(count)
    }

    pub(super) fn cost(&self) -> SpentCost {
        match (self.has_unknown, self.has_providers || self.has_computed) {
            (true, _) => SpentCost::Unknown,
            (false, true) => SpentCost::Dollars(self.dollars),
            (false, false) => SpentCost::Nothing,
        }
    }

    pub(super) fn to_usage(&self) -> Usage {
        let basis = match (self.has_providers, self.has_computed) {
            (false, false) => None,
            _ if self.has_unknown => Some(CostBasis::Incomplete),
            (true, false) => Some(CostBasis::Provider),
            (false, true) => Some(CostBasis::Prices),
            (true, true) => Some(CostBasis::Mixed),
        };
        Usage {
            tool_calls: self.tool_calls,
            cost: basis.map(|_| self.dollars.normalize().to_string()),
            cost_basis: basis.map(|basis| basis as i32),
            ..tokens_of(&self.tokens)
        }
    }
}

/// Converts the usage of one call.
pub(super) fn tokens_of(used: &llm::Usage) -> Usage {
    let basis = |cost: &llm::Cost| if cost.is_providers { CostBasis::Provider } else { CostBasis::Prices };
    Usage {
        input_tokens: used.input.map(count),
        output_tokens: used.output.map(count),
        total_tokens: used.total.map(count),
        tool_calls: None,
        cached_input_tokens: used.cached_input.map(count),
        cache_write_tokens: used.cache_write.map(count),
        reasoning_tokens: used.reasoning.map(count),
        cost: used.cost.map(|cost| cost.dollars.normalize().to_string()),
        cost_basis: used.cost.as_ref().map(basis).map(|basis| basis as i32),
    }
}

fn count(many: impl TryInto<u32>) -> u32 {
    many.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
