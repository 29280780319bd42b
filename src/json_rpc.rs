//! JSON-RPC 2.0 messages as MCP clients send them, converted to what the protocol's library reads, or refused.
//!
//! The library does not respond to a line that it cannot parse, and its client waits forever. Here messages are read leniently:
//! lone halves of surrogate pairs and bytes that are not UTF-8 become U+FFFD, empty lists stand for no parameters, whole floats
//! for integer ids. What cannot be accepted is refused under its own id, with the reason. (`json_rpc::tests`)
//!
//! *May import:* rank 0.

use serde_json::{Value, json};

use crate::{lenient_json::parse_noting, text::bounded};

pub(crate) const PARSE_ERROR: i32 = -32700;
pub(crate) const INVALID_REQUEST: i32 = -32600;
pub(crate) const INVALID_PARAMS: i32 = -32602;

/// The version that a client which names none is assumed to speak (MCP 2025-06-18, transports).
const UNNAMED_VERSION: &str = "2025-03-26";

/// From this version on, there are no batches.
pub(crate) const WITHOUT_BATCHES: &str = "2025-06-18";
/// The maximum number of messages in a batch.
pub(crate) const MAX_BATCH: usize = 100;
/// How many bytes of a message that is too long are searched for its id.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What was received.
#[derive(Debug, PartialEq)]
pub(crate) enum ParsedMessages {
    /// One message.
    Message(Value),
    /// Several messages, which versions up to 2025-03-26 may send.
    Batch(Vec<Value>),
}

/// The error response to what cannot be accepted.
#[derive(Debug, PartialEq)]
pub(crate) struct JsonRpcRefusal {
    /// The id of the message; null if it has none that can be repeated.
    pub(crate) id: Value,
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl JsonRpcRefusal {
    fn new(id: Value, code: i32, message: impl Into<String>) -> Self {
        Self { id, code, message: message.into() }
    }

    /// Creates the refusal of a message longer than `most` bytes; `head` is its beginning.
    pub(crate) fn too_long(head: &[u8], most: usize) -> Self {
        let message = format!("the message is longer than {most} bytes");
        Self::new(find_id(&String::from_utf8_lossy(head)), INVALID_REQUEST, message)
    }

    /// Creates the refusal of a batch that is not allowed or too large.
    pub(crate) fn no_batch(version: &str) -> Self {
        let message = match version {
            "" => "the first message is `initialize`, alone".to_owned(),
            version if version < WITHOUT_BATCHES => format!("a batch has at most {MAX_BATCH} messages"),
            version => format!("version {version} has no batches; send each message alone"),
        };
        Self::new(Value::Null, INVALID_REQUEST, message)
    }

    /// Creates the refusal of a message that does not belong to the protocol.
    pub(crate) fn unread(id: Option<Value>, error: &serde_json::Error) -> Self {
        let message = format!("this is no message of MCP: {}", bounded(&error.to_string(), 300));
        Self::new(id.filter(is_valid_id).unwrap_or_default(), INVALID_REQUEST, message)
    }

    /// Creates the refusal of a request to which there was only a response in plain words.
    pub(crate) fn in_words(id: Option<Value>, words: &str) -> Self {
        Self::new(id.filter(is_valid_id).unwrap_or_default(), INVALID_REQUEST, bounded(words, 300))
    }

    /// Returns the JSON-RPC response to send.
    pub(crate) fn to_value(&self) -> Value {
        json!({"jsonrpc": "2.0", "id": self.id, "error": {"code": self.code, "message": self.message}})
    }
}

/// Returns whether a message may have the id `null`, which the library takes for a notification that nobody answers. Such a
/// message is to be parsed here first.
pub(crate) fn may_have_null_id(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    let behind_name = head.windows(4).enumerate().filter(|(_, name)| name == b"\"id\"").map(|(at, _)| at + 4);
    let is_null = |behind: &[u8]| {
        let value = behind.trim_ascii_start().strip_prefix(b":");
        value.is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
    };
    behind_name.map(|at| &head[at..]).any(is_null)
}

/// Parses what was received.
///
/// # Errors
/// The response to its sender.
pub(crate) fn read(bytes: &[u8]) -> Result<ParsedMessages, JsonRpcRefusal> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}');
    let Some((value, loss)) = parse_noting(text) else {
        return Err(JsonRpcRefusal::new(
            find_id(text),
            PARSE_ERROR,
            "this is not one JSON-RPC 2.0 message: it is no JSON",
        ));
    };
    if let Value::Array(messages) = value {
        return match (messages.is_empty(), loss) {
            (false, None) => Ok(ParsedMessages::Batch(messages)),
            (true, _) => {
                Err(JsonRpcRefusal::new(Value::Null, INVALID_REQUEST, "a batch has at least one message"))
            }
            (_, Some(loss)) => Err(JsonRpcRefusal::new(Value::Null, INVALID_PARAMS, loss)),
        };
    }
    let message = normalize_message(value)?;
    match loss {
        Some(loss) => {
            Err(JsonRpcRefusal::new(message.get("id").cloned().unwrap_or_default(), INVALID_PARAMS, loss))
        }
        None => Ok(ParsedMessages::Message(message)),
    }
}

/// Converts one message to the form that the library reads.
///
/// # Errors
/// The response to its sender.
pub(crate) fn normalize_message(value: Value) -> Result<Value, JsonRpcRefusal> {
    let Value::Object(mut message) = value else {
        return Err(JsonRpcRefusal::new(Value::Null, INVALID_REQUEST, "a message is a JSON object"));
    };
    let id = message.get("id").cloned();
    let refuse = |code, text: String| {
        Err(JsonRpcRefusal::new(id.clone().filter(is_valid_id).unwrap_or_default(), code, text))
    };
    match message.get("jsonrpc") {
        None => drop(message.insert("jsonrpc".to_owned(), "2.0".into())),
        Some(version) if version == "2.0" => {}
        Some(_) => return refuse(INVALID_REQUEST, "jsonrpc must be \"2.0\"".to_owned()),
    }
    match &id {
        None | Some(Value::String(_)) => {}
        Some(Value::Number(number)) if number.is_i64() => {}
        Some(Value::Number(number))
            if number.as_f64().is_some_and(|id| id.fract() == 0.0 && id.abs() < 9e15) =>
        {
            message.insert("id".to_owned(), json!(number.as_f64().unwrap_or_default() as i64));
        }
        // An error that responds to no request has no id.
        Some(Value::Null) if message.contains_key("error") => {}
        Some(_) => {
            return refuse(INVALID_REQUEST, "id must be a string, or an integer within 64 bits".to_owned());
        }
    }
    let method = match message.get("method") {
        Some(Value::String(method)) => method.clone(),
        None if message.contains_key("result") || message.contains_key("error") => {
            return Ok(Value::Object(message));
        }
        _ => return refuse(INVALID_REQUEST, "method must be a string".to_owned()),
    };
    match message.get("params") {
        None | Some(Value::Object(_)) => {}
        Some(Value::Null) => drop(message.remove("params")),
        Some(Value::Array(items)) if items.is_empty() => drop(message.remove("params")),
        Some(_) => return refuse(INVALID_PARAMS, "params must be an object".to_owned()),
    }
    if method == "initialize" {
        let params = message.entry("params").or_insert_with(|| json!({}));
        if let Err(wrong) = complete_initialize(params) {
            return refuse(INVALID_PARAMS, wrong);
        }
    }
    Ok(Value::Object(message))
}

/// Adds what a client has left out when it opens a session.
fn complete_initialize(params: &mut Value) -> Result<(), String> {
    let Some(params) = params.as_object_mut() else { return Ok(()) };
    params.retain(|_, member| !member.is_null());
    let client = params.entry("clientInfo").or_insert_with(|| json!({}));
    let client = client.as_object_mut().ok_or("clientInfo must be an object")?;
    client.retain(|_, member| !member.is_null());
    for name in ["name", "version"] {
        match client.entry(name).or_insert_with(|| "unknown".into()) {
            Value::String(_) => {}
            other @ Value::Number(_) => *other = other.to_string().into(),
            _ => return Err(format!("clientInfo.{name} must be a string")),
        }
    }
    if !params.entry("capabilities").or_insert_with(|| json!({})).is_object() {
        return Err("capabilities must be an object".to_owned());
    }
    if !params.entry("protocolVersion").or_insert_with(|| UNNAMED_VERSION.into()).is_string() {
        return Err("protocolVersion must be a string".to_owned());
    }
    Ok(())
}

/// Returns whether an id can be repeated in a response.
fn is_valid_id(id: &Value) -> bool {
    match id {
        Value::Number(_) => true,
        Value::String(text) => text.len() <= 1024,
        _ => false,
    }
}

/// Returns the id of a message that is not valid JSON as a whole: the value of the first `"id":` that is not within
/// a deeper object.
fn find_id(text: &str) -> Value {
    let (mut depth, mut rest) = (0usize, text);
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let found = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match found {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {
                let Some(end) = string_end(rest) else { return Value::Null };
                let (name, behind) = rest.split_at(end);
                rest = &behind[1..];
                let value = rest.trim_start().strip_prefix(':').map(str::trim_start);
                if depth != 1 || name != "id" {
                    continue;
                }
                let Some(value) = value else { continue };
                let end = match value.strip_prefix('"') {
                    Some(inner) => string_end(inner).map_or(value.len(), |end| end + 2),
                    None => value.find([',', '}', ' ', '\n', '\r', '\t']).unwrap_or(value.len()),
                };
                return serde_json::from_str(&value[..end]).ok().filter(is_valid_id).unwrap_or_default();
            }
        }
    }
    Value::Null
}

/// Returns where a string ends whose opening quote has been consumed.
fn string_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// Describes a deserialization error for the sender of what was read.
pub(crate) fn wrong_params(method: &str, error: &serde_json::Error) -> String {
    format!("{method}: {}", bounded(&error.to_string(), 300))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> Value {
        match read(text.as_bytes()) {
            Ok(ParsedMessages::Message(message)) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refused(bytes: &[u8]) -> (Value, i32) {
        let refusal = read(bytes).unwrap_err();
        assert!(!refusal.message.is_empty() && refusal.message.len() < 400);
        (refusal.id, refusal.code)
    }

    #[test]
    fn what_clients_send_is_read() {
        let cut = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"text":"cut \ud83d"}}"#);
        assert_eq!(cut["params"]["text"], "cut \u{fffd}");
        assert_eq!(
            message(r#"{"id":2.0,"method":"ping","params":[]}"#),
            json!({"jsonrpc": "2.0", "id": 2, "method": "ping"})
        );
        assert_eq!(message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)["result"], json!({}));
        let Ok(ParsedMessages::Message(bytes)) =
            read(b"{\"id\":\"a\",\"method\":\"ping\",\"params\":{\"x\":\"\xff\"}}")
        else {
            panic!()
        };
        assert_eq!(bytes["params"]["x"], "\u{fffd}");
        let opened = message(
            r#"{"id":0,"method":"initialize","params":{"clientInfo":{"name":"x","version":1},"capabilities":null}}"#,
        );
        assert_eq!(
            opened["params"],
            json!({"clientInfo": {"name": "x", "version": "1"}, "capabilities": {}, "protocolVersion": "2025-03-26"})
        );
        assert!(matches!(read(b"[{}, {}]"), Ok(ParsedMessages::Batch(two)) if two.len() == 2));
    }

    #[test]
    fn what_cannot_be_taken_is_refused_under_its_own_id() {
        let call = |arguments: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"arguments":{arguments}}}}}"#
            )
        };
        assert_eq!(refused(call("{\"x\":NaN}").as_bytes()), (json!("a"), INVALID_PARAMS));
        let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
        assert_eq!(refused(call(&deep).as_bytes()), (json!("a"), INVALID_PARAMS));
        assert_eq!(
            refused(br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"id":9,]}"#),
            (json!(7), PARSE_ERROR)
        );
        assert_eq!(refused(br#"{"params":{"id":9},"id":"x\"y","method":"#), (json!("x\"y"), PARSE_ERROR));
        assert_eq!(refused(br#"{"id":3,"method":"ping","params":[1]}"#), (json!(3), INVALID_PARAMS));
        assert_eq!(refused(br#"{"id":3,"method":5}"#), (json!(3), INVALID_REQUEST));
        assert_eq!(
            refused(br#"{"id":9223372036854775808,"method":"ping"}"#),
            (json!(9223372036854775808_u64), INVALID_REQUEST)
        );
        assert_eq!(refused(br#"{"id":[1],"method":"ping"}"#), (Value::Null, INVALID_REQUEST));
        assert_eq!(
            refused(br#"{"id":1,"method":"initialize","params":{"clientInfo":5}}"#),
            (json!(1), INVALID_PARAMS)
        );
        for nothing in ["", "5", "\"id\"", "[]", "{\"id\":", "null"] {
            assert_eq!(refused(nothing.as_bytes()).0, Value::Null, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _read = read(&bytes);
        }

        #[test]
        fn any_text_is_answered(text in "[\\[\\]{}\",:\\\\udidmethoparsN0-9. é\n]{0,80}") {
            let _read = read(text.as_bytes());
        }
    }
}
