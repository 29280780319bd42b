//! Tests of `inputs.rs`.

use serde_json::json;

use super::*;

#[test]
fn only_a_fitting_answer_to_the_open_question_is_taken_and_once() {
    let inputs = QuestionSlot::default();
    let reason = |result: Result<oneshot::Receiver<()>>| result.unwrap_err().reason();
    assert_eq!(reason(inputs.answer("input_1", json!(true), "a")), Reason::NoOpenQuestion);
    let mut receiver = inputs.open("input_1", &json!({"type": "boolean"}), &Value::Null);
    assert_eq!(reason(inputs.answer("input_2", json!(true), "a")), Reason::NoOpenQuestion);
    assert_eq!(reason(inputs.answer("input_1", json!("yes"), "a")), Reason::InvalidArgument);
    inputs.answer("input_1", json!(true), "a").unwrap();
    assert_eq!(receiver.try_recv().unwrap().value, json!(true));
    assert_eq!(reason(inputs.answer("input_1", json!(true), "a")), Reason::NoOpenQuestion);
    // The asking side is gone.
    drop(inputs.open("input_3", &json!({}), &Value::Null));
    assert_eq!(reason(inputs.answer("input_3", json!(1), "a")), Reason::NoOpenQuestion);
}
