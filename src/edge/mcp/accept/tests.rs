//! Tests of `accept.rs`.

use super::*;

#[test]
fn ranges_and_weights_are_read() {
    let takes = |accept: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        let AcceptedFormats { json, stream } = AcceptedFormats::of(&headers);
        (json, stream)
    };
    for both in [
        &[][..],
        &["*/*"],
        &["application/*, text/*"],
        &["Application/JSON", "text/event-stream;q=0.1"],
        &[""],
    ] {
        assert_eq!(takes(both), (true, true), "{both:?}");
    }
    assert_eq!(takes(&["application/json"]), (true, false));
    assert_eq!(takes(&["text/event-stream"]), (false, true));
    assert_eq!(takes(&["*/*;q=0.5, text/event-stream;q=0"]), (true, false));
    assert_eq!(takes(&["text/html, image/*"]), (false, false));
}
