//! Tests of `result.rs`.

use super::*;

#[test]
fn ranges_are_read_as_the_standard_has_them() {
    for (range, read) in [
        (None, RequestedRange::Whole),
        (Some("bytes=0-9"), RequestedRange::Part(0, 9)),
        (Some("bytes=90-"), RequestedRange::Part(90, 99)),
        (Some("bytes=90-500"), RequestedRange::Part(90, 99)),
        (Some("bytes=-10"), RequestedRange::Part(90, 99)),
        (Some("bytes=-500"), RequestedRange::Part(0, 99)),
        (Some("bytes=100-"), RequestedRange::Nothing),
        (Some("bytes=-0"), RequestedRange::Nothing),
        (Some("bytes=9-1"), RequestedRange::Whole),
        (Some("bytes=0-1,5-6"), RequestedRange::Whole),
        (Some("lines=1-2"), RequestedRange::Whole),
    ] {
        assert_eq!(wanted(range, 100), read, "{range:?}");
    }
    assert_eq!(wanted(Some("bytes=0-"), 0), RequestedRange::Nothing);
}
