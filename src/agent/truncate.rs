//! Cuts texts and documents that are too large for one event.

use serde_json::Value;

/// Cuts text to at most `max_bytes`, at a character boundary. Returns whether it was cut.
pub(super) fn cut_text(text: &mut String, max_bytes: usize) -> bool {
    if text.len() <= max_bytes {
        return false;
    }
    text.truncate(text.floor_char_boundary(max_bytes));
    true
}

/// Cuts a document to at most `max_bytes` of JSON by shortening its strings and lists, or to `null` where that is not
/// enough. Returns its text and whether it was cut.
pub(super) fn cut_json(mut value: Value, max_bytes: usize) -> (String, bool) {
    let text = value.to_string();
    if text.len() <= max_bytes {
        return (text, false);
    }
    // A document that has a flag for being cut must agree with the cut.
    if let Some(flag @ Value::Bool(_)) = value.get_mut("is_truncated") {
        *flag = Value::Bool(true);
    }
    let mut limit = max_bytes / 2;
    while limit > 16 {
        shorten(&mut value, limit);
        let text = value.to_string();
        if text.len() <= max_bytes {
            return (text, true);
        }
        limit /= 4;
    }
    ("null".to_owned(), true)
}

fn shorten(value: &mut Value, limit: usize) {
    match value {
        Value::String(text) => {
            cut_text(text, limit);
        }
        Value::Array(items) => {
            items.truncate(limit / 8);
            items.iter_mut().for_each(|item| shorten(item, limit));
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| shorten(field, limit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_cut_and_stays_json() {
        let value = json!({"output": "ação ".repeat(100_000), "agents": vec!["x"; 50_000], "ok": true});
        let (text, is_cut) = cut_json(value, 10_000);
        assert!(is_cut && text.len() <= 10_000);
        let cut: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(cut["ok"], true);
        let (text, _) = cut_json(json!({"output": "x".repeat(1000), "is_truncated": false}), 500);
        assert!(text.contains("\"is_truncated\":true"), "{text}");
        assert_eq!(cut_json(json!([1]), 10), ("[1]".to_owned(), false));
    }
}
