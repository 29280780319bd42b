//! Tests of `output.rs`.

use proptest::prelude::*;

use super::*;

#[test]
fn characters_are_never_cut() {
    let text = "a ação ✅ 🤖 end";
    for size in 1..6 {
        let mut decoder = Decoder::new(Stream::Stdout, 1000);
        let mut seen = String::new();
        for piece in text.as_bytes().chunks(size) {
            if let Some(chunk) = decoder.push(piece) {
                assert_eq!((chunk.byte_offset as usize, chunk.invalid_bytes), (seen.len(), 0));
                seen.push_str(&chunk.text);
            }
        }
        assert!(decoder.finish().is_none());
        assert_eq!(seen, text);
    }
}

#[test]
fn the_limit_is_marked_once() {
    let mut decoder = Decoder::new(Stream::Stderr, 6);
    assert!(!decoder.push(b"abcd").unwrap().is_truncated);
    let last = decoder.push("✅✅".as_bytes()).unwrap();
    assert_eq!((last.text.as_str(), last.is_truncated, last.invalid_bytes), ("", true, 0));
    assert!(decoder.push(b"more").is_none() && decoder.finish().is_none());
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_make_one_text(bytes: Vec<u8>, cuts in proptest::collection::vec(1usize..9, 1..40)) {
        let mut decoder = Decoder::new(Stream::Stdout, u32::MAX);
        let (mut seen, mut invalid, mut rest) = (String::new(), 0, &bytes[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            if let Some(chunk) = decoder.push(piece) { seen.push_str(&chunk.text); invalid += chunk.invalid_bytes; }
        }
        if let Some(chunk) = decoder.finish() { seen.push_str(&chunk.text); invalid += chunk.invalid_bytes; }
        let expected: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
        prop_assert_eq!(invalid as usize, expected);
        prop_assert_eq!(seen.replace('\u{FFFD}', ""), String::from_utf8_lossy(&bytes).replace('\u{FFFD}', ""));
    }
}
