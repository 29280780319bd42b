//! Tests of `batch.rs`.

use std::sync::Arc;

use super::*;
use crate::{journal::JobId, pb::EndOfStream};

#[test]
fn joined_batches_hold_the_same_events_under_the_same_numbers() {
    let job_id = JobId::generate().unwrap();
    let event =
        |number: u32| Payload::EndOfStream(EndOfStream { message: "x".repeat(number as usize), state: 4 });
    let batch = |first: u32, count: u32| {
        let events: Vec<Payload> = (first..first + count).map(event).collect();
        Arc::new(EventBatch::encoded(&job_id, first, &events))
    };
    let joined = EventBatch::joined(&[batch(5, 1), batch(6, 3), batch(9, 2)]);
    let whole = batch(5, 6);
    assert_eq!((joined.first_sequence(), joined.last_sequence()), (5, 10));
    assert_eq!((joined.bytes(), joined.ends()), (whole.bytes(), whole.ends()));
    let numbered: Vec<_> = joined.payloads(2).collect();
    assert_eq!(numbered, (7..11).map(|number| (number, event(number))).collect::<Vec<_>>());
}
