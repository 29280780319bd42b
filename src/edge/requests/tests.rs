//! Tests of `requests.rs`.

use super::*;

fn requests(most: usize, most_per_caller: Option<usize>) -> RequestLimiter {
    RequestLimiter::new(Bounds { most, most_per_caller })
}

/// Whoever has most gives up one reader for each request of a caller who has fewer; whoever has most itself is refused.
#[test]
fn readers_of_whoever_has_most_give_way() {
    let requests = requests(8, None);
    let [a, b] = ["a", "b"].map(Principal::from_proxy);
    let mut held = Vec::new();
    while let Ok(request) = requests.begin(&a, false) {
        held.push((request.preemptible(), request));
    }
    assert_eq!(held.len(), 6);
    let first = requests.begin(&b, false).unwrap();
    assert!(held.iter().all(|(ends, _)| !ends.is_cancelled()), "there was one left for b");
    let second = requests.begin(&b, false).unwrap();
    assert!(held[0].0.is_cancelled() && !held[1].0.is_cancelled());
    drop((first, second, held));
    assert_eq!(lock(&requests.0).quota.total(), 0);
    assert!(lock(&requests.0).readers.is_empty());
}

/// Requests that cannot be resumed are never ended for others.
#[test]
fn what_cannot_be_read_on_stays() {
    let requests = requests(8, Some(7));
    let [a, b] = ["a", "b"].map(Principal::from_proxy);
    let held: Vec<_> = std::iter::from_fn(|| requests.begin(&a, false).ok()).collect();
    let _first = requests.begin(&b, false).unwrap();
    let refused = requests.begin(&b, false).unwrap_err();
    assert_eq!((refused.reason(), held.len()), (Reason::TooManyStreams, 6));
}
