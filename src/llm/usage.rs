//! The usage of a model call: its tokens and their cost.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// The usage of a model call. What its provider does not report is `None`, not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens, including those of the provider's cache.
    pub input: Option<u64>,
    /// Output tokens, including reasoning.
    pub output: Option<u64>,
    /// Input and output tokens together.
    pub total: Option<u64>,
    /// The input tokens that were read from the provider's cache.
    pub cached_input: Option<u64>,
    /// The input tokens that were written to the provider's cache.
    pub cache_write: Option<u64>,
    /// The output tokens that were spent on reasoning.
    pub reasoning: Option<u64>,
    /// The cost, if it is known.
    pub cost: Option<Cost>,
}

/// The cost of a model call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// In US dollars; never negative.
    pub dollars: Decimal,
    /// Whether the provider reported it; otherwise it was computed from the configured prices.
    pub is_providers: bool,
}

impl Usage {
    /// Adds the usage of another request. Known values are summed; what both do not know stays unknown.
    pub fn add(&mut self, other: &Self) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (known, None) | (None, known) => known,
        };
        self.input = sum(self.input, other.input);
        self.output = sum(self.output, other.output);
        self.total = sum(self.total, other.total);
        self.cached_input = sum(self.cached_input, other.cached_input);
        self.cache_write = sum(self.cache_write, other.cache_write);
        self.reasoning = sum(self.reasoning, other.reasoning);
        self.cost = match (self.cost, other.cost) {
            (Some(a), Some(b)) => {
                let dollars = a.dollars.saturating_add(b.dollars);
                Some(Cost { dollars, is_providers: a.is_providers && b.is_providers })
            }
            (known, None) | (None, known) => known,
        };
    }

    /// Takes over the values that a later report of the same request contains.
    pub(super) fn update(&mut self, later: &Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.total = later.total.or(self.total);
        self.cached_input = later.cached_input.or(self.cached_input);
        self.cache_write = later.cache_write.or(self.cache_write);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.cost = later.cost.or(self.cost);
    }

    /// Computes the cost if the provider did not report it and the price is known.
    pub(super) fn priced(mut self, price: Option<&Price>) -> Self {
        self.cost = self.cost.or_else(|| {
            let dollars = price?.dollars(&self)?;
            Some(Cost { dollars, is_providers: false })
        });
        self
    }
}

/// The price of a model's tokens, in US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For input tokens.
    #[schemars(with = "f64")]
    pub input: Decimal,
    /// For output tokens.
    #[schemars(with = "f64")]
    pub output: Decimal,
    /// For tokens read from the provider's cache; unset, they cost as much as other input.
    #[serde(default)]
    #[schemars(with = "Option<f64>")]
    pub cached_input: Option<Decimal>,
    /// For tokens written to the provider's cache; unset, they cost as much as other input.
    #[serde(default)]
    #[schemars(with = "Option<f64>")]
    pub cache_write: Option<Decimal>,
}

impl Price {
    /// Returns the price of a model: the entry with its name, else the one with the longest matching prefix that is
    /// written with a `*`.
    pub(super) fn find(prices: &BTreeMap<String, Self>, model: &str) -> Option<Self> {
        let beginnings = prices.iter().filter_map(|(name, price)| Some((name.strip_suffix('*')?, price)));
        let longest =
            beginnings.filter(|(name, _)| model.starts_with(name)).max_by_key(|(name, _)| name.len());
        prices.get(model).or(longest.map(|(_, price)| price)).copied()
    }

    /// Returns whether one of its parts is negative or higher than any real price.
    pub fn is_unusable(&self) -> bool {
        let parts = [Some(self.input), Some(self.output), self.cached_input, self.cache_write];
        parts.into_iter().flatten().any(|part| part < Decimal::ZERO || part > Decimal::from(1_000_000))
    }

    /// Returns the cost of these tokens, or `None` if the input or the output count is unknown.
    fn dollars(&self, usage: &Usage) -> Option<Decimal> {
        let (input, output) = (usage.input?, usage.output?);
        let cached = usage.cached_input.unwrap_or(0).min(input);
        let written = usage.cache_write.unwrap_or(0).min(input - cached);
        let parts = [
            (self.input, input - cached - written),
            (self.cached_input.unwrap_or(self.input), cached),
            (self.cache_write.unwrap_or(self.input), written),
            (self.output, output),
        ];
        let millionths = parts.iter().try_fold(Decimal::ZERO, |sum, (price, tokens)| {
            sum.checked_add(price.checked_mul(Decimal::from(*tokens))?)
        })?;
        Some((millionths / Decimal::from(1_000_000)).normalize())
    }
}

/// Parses an amount of dollars: decimal text, with or without an exponent. `None` if it is not a number, or negative.
pub(crate) fn dollars(text: &str) -> Option<Decimal> {
    let text = text.trim();
    if text.len() > 40 {
        return None;
    }
    let read = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text)).ok()?;
    (!read.is_sign_negative() || read.is_zero()).then(|| read.normalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: &str, output: &str) -> Price {
        Price {
            input: dollars(input).unwrap(),
            output: dollars(output).unwrap(),
            cached_input: None,
            cache_write: None,
        }
    }

    #[test]
    fn what_the_cache_has_has_its_own_price() {
        let usage = Usage {
            input: Some(1_000_000),
            output: Some(1_000),
            cached_input: Some(600_000),
            cache_write: Some(100_000),
            ..Usage::default()
        };
        let known = Price { cached_input: dollars("0.3"), cache_write: dollars("3.75"), ..price("3", "15") };
        let cost = usage.priced(Some(&known)).cost.unwrap();
        // 300,000 tokens at 3, 600,000 at 0.3, 100,000 at 3.75 and 1,000 at 15 dollars per million.
        assert_eq!((cost.dollars.to_string().as_str(), cost.is_providers), ("1.47", false));
        let plain = usage.priced(Some(&price("3", "15"))).cost.unwrap();
        assert_eq!(plain.dollars.to_string(), "3.015");
        // Inconsistent counts never lead to a negative cost.
        let odd = Usage { input: Some(1), output: Some(0), cached_input: Some(u64::MAX), ..Usage::default() };
        assert_eq!(odd.priced(Some(&price("1", "1"))).cost.unwrap().dollars.to_string(), "0.000001");
        assert_eq!(Usage { input: Some(1), ..Usage::default() }.priced(Some(&known)).cost, None);
    }

    #[test]
    fn the_providers_own_figure_goes_before() {
        let said = Cost { dollars: dollars("1e-7").unwrap(), is_providers: true };
        let usage = Usage { input: Some(1), output: Some(1), cost: Some(said), ..Usage::default() };
        assert_eq!(usage.priced(Some(&price("1", "1"))).cost, Some(said));
        assert_eq!(said.dollars.to_string(), "0.0000001");
    }

    #[test]
    fn the_nearest_name_has_the_price() {
        let prices = BTreeMap::from([
            ("claude-*".to_owned(), price("1", "1")),
            ("claude-opus-*".to_owned(), price("2", "2")),
            ("claude-opus-4-5".to_owned(), price("3", "3")),
        ]);
        let found = |model: &str| Price::find(&prices, model).map(|price| price.input.to_string());
        assert_eq!(found("claude-opus-4-5").as_deref(), Some("3"));
        assert_eq!(found("claude-opus-4-6").as_deref(), Some("2"));
        assert_eq!(found("claude-haiku").as_deref(), Some("1"));
        assert_eq!(found("gpt"), None);
    }

    #[test]
    fn amounts_are_read_as_they_are_written() {
        for (text, right) in
            [("0.25", Some("0.25")), (" 1e-3 ", Some("0.001")), ("2.50", Some("2.5")), ("0", Some("0"))]
        {
            assert_eq!(dollars(text).map(|read| read.to_string()).as_deref(), right, "{text}");
        }
        for text in ["", "-1", "NaN", "1,5", "$1", "1e99", "inf"] {
            assert_eq!(dollars(text), None, "{text}");
        }
    }
}
