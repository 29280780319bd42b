//! The members in which providers report usage. One reader serves OpenAI and everything compatible with it.

use rust_decimal::Decimal;
use serde_json::Value;

use super::json::count;
use crate::llm::usage::{Cost, Usage, dollars};

/// xAI reports its cost in ticks; this many are a dollar.
const TICKS: u64 = 10_000_000_000;

/// Reads the `usage` object of chat completions or responses.
pub(super) fn read(usage: &Value) -> Usage {
    let own = |names: &[&str]| names.iter().find_map(|name| count(usage.get(*name)));
    let detail = |objects: [&str; 2], name: &str| {
        objects.iter().find_map(|object| count(usage.get(*object)?.get(name)))
    };
    let of_input = |name: &str| detail(["prompt_tokens_details", "input_tokens_details"], name);
    let of_output = |name: &str| detail(["completion_tokens_details", "output_tokens_details"], name);
    let mut read = Usage {
        input: own(&["prompt_tokens", "input_tokens"]),
        output: own(&["completion_tokens", "output_tokens"]),
        total: own(&["total_tokens"]),
        // The last three are DeepSeek's, Kimi's and LiteLLM's.
        cached_input: of_input("cached_tokens")
            .or_else(|| own(&["prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens"])),
        cache_write: of_input("cache_write_tokens").or_else(|| own(&["cache_creation_input_tokens"])),
        reasoning: of_output("reasoning_tokens").or_else(|| own(&["reasoning_tokens"])),
        cost: cost(usage),
    };
    // xAI counts reasoning separately from the output; where the total shows that, it is added to the output.
    if let (Some(input), Some(output), Some(total), Some(reasoning)) =
        (read.input, read.output, read.total, read.reasoning)
        && reasoning > 0
        && input.checked_add(output).and_then(|sum| sum.checked_add(reasoning)) == Some(total)
    {
        read.output = Some(output + reasoning);
    }
    read
}

/// Returns the cost that the provider reports.
fn cost(usage: &Value) -> Option<Cost> {
    let amount = |value: Option<&Value>| match value? {
        Value::Number(number) => dollars(&number.to_string()),
        Value::String(text) => dollars(text),
        _ => None,
    };
    let said = usage.get("cost");
    let told = match said.filter(|cost| cost.is_object()) {
        Some(parts) => amount(parts.get("total_cost")),
        None => amount(said),
    };
    // With the user's own key, OpenRouter's cost is only its fee, and the provider's charge is reported separately.
    let is_own_key = usage.get("is_byok") == Some(&Value::Bool(true));
    let upstream =
        amount(usage.get("cost_details").and_then(|details| details.get("upstream_inference_cost")));
    let total = match (told, upstream.filter(|_| is_own_key)) {
        (Some(fee), Some(upstream)) => Some(fee.saturating_add(upstream)),
        (known, None) | (None, known) => known,
    };
    let ticks = || {
        let ticks = count(usage.get("cost_in_usd_ticks"))?;
        Some((Decimal::from(ticks) / Decimal::from(TICKS)).normalize())
    };
    Some(Cost { dollars: total.or_else(ticks)?, is_providers: true })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_providers_members() {
        let counts = |usage: Value| {
            let read = read(&usage);
            (read.input, read.output, read.cached_input, read.cache_write, read.reasoning)
        };
        // OpenAI, vLLM.
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3}});
        assert_eq!(counts(usage), (Some(9), Some(5), Some(4), None, Some(3)));
        // The responses API.
        let usage = json!({"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 3}});
        assert_eq!(counts(usage), (Some(9), Some(5), Some(4), None, Some(3)));
        // DeepSeek, Kimi, LiteLLM.
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4});
        assert_eq!(counts(usage), (Some(9), Some(5), Some(4), None, None));
        assert_eq!(counts(json!({"prompt_tokens": 9, "cached_tokens": 4})).2, Some(4));
        let usage = json!({"cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "prompt_tokens_details": null});
        assert_eq!(counts(usage), (None, None, Some(4), Some(2), None));
        // xAI counts reasoning separately from the output.
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 17,
            "completion_tokens_details": {"reasoning_tokens": 3}});
        assert_eq!(counts(usage).1, Some(8));
    }

    #[test]
    fn each_providers_cost() {
        for (usage, right) in [
            (json!({"cost": 0.00014}), Some("0.00014")),
            (
                json!({"cost": 1.4e-6, "is_byok": false, "cost_details": {"upstream_inference_cost": 9}}),
                Some("0.0000014"),
            ),
            (
                json!({"cost": 0, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.5}}),
                Some("0.5"),
            ),
            (json!({"cost": {"total_cost": 0.006, "input_tokens_cost": 0.001}}), Some("0.006")),
            (json!({"cost": "0.25"}), Some("0.25")),
            (json!({"cost_in_usd_ticks": 37_756_000}), Some("0.0037756")),
            (json!({"cost": null}), None),
            (json!({"cost": -1}), None),
            (json!({"cost": {}}), None),
        ] {
            let cost = read(&usage).cost;
            assert_eq!(cost.map(|cost| cost.dollars.to_string()).as_deref(), right, "{usage}");
            assert!(cost.is_none_or(|cost| cost.is_providers));
        }
    }
}
