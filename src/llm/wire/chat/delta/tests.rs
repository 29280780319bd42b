//! Tests of `delta.rs`.

use super::*;

#[test]
fn only_the_simple_chunk_is_taken() {
    let chunk = |delta: &str, rest: &str| {
        format!(
            "{{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]{rest}}}"
        )
    };
    let text = |chunk: &str| only_text(chunk).map(Cow::into_owned);
    assert_eq!(text(&chunk("{\"content\":\"a\\nb\"}", "")).as_deref(), Some("a\nb"));
    assert_eq!(
        text(&chunk("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", ",\"usage\":null"))
            .as_deref(),
        Some("")
    );
    for other in [
        chunk("{\"content\":\"a\",\"tool_calls\":[]}", ""),
        chunk("{\"content\":[\"a\"]}", ""),
        chunk("{\"content\":\"a\"}", ",\"usage\":{\"total_tokens\":1}"),
        chunk("{\"content\":\"a\"}", ",\"error\":{\"code\":500}"),
        chunk("{}", ""),
        "{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}".to_owned(),
        "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"a\"}}]}".to_owned(),
        "{\"choices\":[{\"delta\":{\"content\":\"a\"}},{\"delta\":{\"content\":\"b\"}}]}".to_owned(),
        "{\"choices\":[]}".to_owned(),
        "[DONE]".to_owned(),
    ] {
        assert_eq!(text(&other), None, "{other}");
    }
}
