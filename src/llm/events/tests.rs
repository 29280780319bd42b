//! Tests of `events.rs`.

use super::*;

fn read(stream: &[u8], size: usize) -> Vec<(String, String)> {
    let (mut reader, mut events) = (EventReader::default(), Vec::new());
    let mut each = |name: &str, data: &str| {
        events.push((name.to_owned(), data.to_owned()));
        Ok(())
    };
    for piece in stream.chunks(size) {
        reader.push(piece, &mut each).unwrap();
    }
    reader.finish(&mut each).unwrap();
    events
}

#[test]
fn events_are_the_same_however_they_are_cut_and_ended() {
    let text = "\u{feff}: hello\n\ndata:a\ndata: b\n\nevent: x\nid: 7\ndata: {\"é\": \"✅\"}\n\nretry: 3\n\ndata\n\ndata: last";
    let expected = [("", "a\nb"), ("x", "{\"é\": \"✅\"}"), ("", ""), ("", "last")];
    for text in [text.to_owned(), text.replace('\n', "\r\n"), text.replace('\n', "\r")] {
        for size in 1..=text.len() {
            let events = read(text.as_bytes(), size);
            let events: Vec<_> = events.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
            assert_eq!(events, expected, "{text:?} in pieces of {size}");
        }
    }
}

#[test]
fn what_has_no_end_is_refused() {
    for stream in [vec![b'x'; MAX_EVENT_BYTES + 1], b"data: x\n".repeat(MAX_EVENT_BYTES / 2 + 2)] {
        let mut reader = EventReader::default();
        assert!(reader.push(&stream, &mut |_, _| Ok(())).is_err());
    }
}
