//! Tests of `usage_totals.rs`.

use super::*;

fn cost(text: &str, is_providers: bool) -> llm::Usage {
    let cost = llm::Cost { dollars: llm::dollars(text).unwrap(), is_providers };
    llm::Usage { input: Some(1), output: Some(1), cost: Some(cost), ..llm::Usage::default() }
}

#[test]
fn a_sum_says_where_it_comes_from() {
    let said = |parts: &[llm::Usage]| {
        let mut spent = UsageTotals::default();
        parts.iter().for_each(|part| spent.add(part));
        let usage = spent.to_usage();
        let basis = usage.cost_basis.map(|_| usage.cost_basis());
        (usage.cost, basis, spent.cost())
    };
    let dollars = |text: &str| SpentCost::Dollars(llm::dollars(text).unwrap());
    let unknown = llm::Usage { input: Some(1), ..llm::Usage::default() };
    assert_eq!(said(&[]), (None, None, SpentCost::Nothing));
    assert_eq!(said(&[unknown]), (None, None, SpentCost::Unknown));
    let parts = [cost("0.1", true), cost("0.2", true)];
    assert_eq!(said(&parts), (Some("0.3".into()), Some(CostBasis::Provider), dollars("0.3")));
    assert_eq!(said(&[cost("1e-7", false)]).0.as_deref(), Some("0.0000001"));
    assert_eq!(said(&[cost("1", false), cost("1", true)]).1, Some(CostBasis::Mixed));
    let parts = [cost("1", false), unknown];
    assert_eq!(said(&parts), (Some("1".into()), Some(CostBasis::Incomplete), SpentCost::Unknown));
}
