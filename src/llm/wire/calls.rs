//! Assembles tool calls from fragments, whatever identifies the call that a fragment belongs to.

use serde_json::{Map, Value};

use super::{MAX_CALLS, json::identifier};

/// A call as a server sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RawCall {
    pub(super) id: Option<String>,
    /// Empty if none was sent.
    pub(super) name: String,
    /// JSON text, as far as it has arrived.
    pub(super) arguments: String,
}

/// A fragment of a call.
#[derive(Debug, Default)]
pub(super) struct Fragment<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) name: &'a str,
    pub(super) arguments: Option<&'a Value>,
    /// Whether it has members that only the first fragment of a call has, whatever their values are.
    pub(super) is_beginning: bool,
}

#[derive(Debug)]
struct Draft {
    index: Option<u64>,
    call: RawCall,
}

/// The calls of an answer, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    drafts: Vec<Draft>,
}

/// Parses the arguments in a text; returns the text itself as the error if it is not a JSON object.
pub(super) fn arguments(text: &str) -> Result<Map<String, Value>, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed == "null" {
        return Ok(Map::new());
    }
    match serde_json::from_str(trimmed) {
        Ok(Value::Object(members)) => Ok(members),
        // Some servers encode the JSON once more as a JSON string.
        Ok(Value::String(inner)) if inner.trim_start().starts_with('{') => {
            serde_json::from_str(&inner).map_err(|_| text.to_owned())
        }
        Ok(Value::String(inner)) if inner.trim().is_empty() => Ok(Map::new()),
        _ => Err(text.to_owned()),
    }
}

fn is_whole(text: &str) -> bool {
    // A cheap check before parsing, because there are many fragments.
    text.trim_end().ends_with(['}', '"', 'l']) && arguments(text).is_ok()
}

/// Returns whether a named fragment that no id ties to a call begins another: the call has all of its arguments, or is
/// for another tool.
fn begins_another(known: &RawCall, fragment: &Fragment<'_>) -> bool {
    let is_another_tools = known.arguments.is_empty() && known.name != fragment.name && fragment.is_beginning;
    is_whole(&known.arguments) || is_another_tools
}

impl<'a> Fragment<'a> {
    /// Reads a fragment of chat completions: `{index, id, function: {name, arguments}}`, or the older form without `function`.
    /// The value of its `type` is ignored.
    pub(super) fn read(fragment: &'a Value) -> Self {
        let function = fragment.get("function").filter(|function| function.is_object()).unwrap_or(fragment);
        let index = fragment.get("index");
        Self {
            index: index.and_then(|index| index.as_u64().or_else(|| index.as_str()?.parse().ok())),
            id: identifier(fragment.get("id")),
            name: function.get("name").and_then(Value::as_str).unwrap_or_default(),
            is_beginning: fragment.get("id").or_else(|| fragment.get("type")).is_some(),
            arguments: ["arguments", "parameters", "args", "input"]
                .iter()
                .find_map(|member| function.get(*member)),
        }
    }
}

impl Assembly {
    pub(super) fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Adds a fragment, which begins a call or continues one.
    pub(super) fn push(&mut self, fragment: &Fragment<'_>) {
        let says_nothing = fragment.id.is_none() && fragment.name.is_empty();
        if says_nothing && fragment.arguments.is_none_or(super::json::says_nothing) && self.drafts.is_empty()
        {
            return;
        }
        if self.drafts.len() > MAX_CALLS {
            // There are too many calls already; the answer will be ended.
            return;
        }
        let at = match self.belongs_to(fragment) {
            Some(at) => at,
            None => {
                self.drafts.push(Draft { index: fragment.index, call: RawCall::default() });
                self.drafts.len() - 1
            }
        };
        let Some(draft) = self.drafts.get_mut(at) else { return };
        let call = &mut draft.call;
        if call.id.is_none() {
            call.id.clone_from(&fragment.id);
        }
        if call.name.is_empty() {
            call.name.push_str(fragment.name);
        } else if fragment.name != call.name && call.arguments.is_empty() {
            // The name arrives in pieces.
            call.name.push_str(fragment.name);
        }
        match fragment.arguments {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => call.arguments.push_str(text),
            Some(Value::Object(members)) if members.is_empty() => {}
            Some(value) => call.arguments.push_str(&value.to_string()),
        }
    }

    /// Returns the position of the call that a fragment continues, or `None` if it begins one.
    fn belongs_to(&self, fragment: &Fragment<'_>) -> Option<usize> {
        let last = self.drafts.len().checked_sub(1)?;
        let with_index =
            fragment.index.and_then(|index| self.drafts.iter().rposition(|draft| draft.index == Some(index)));
        let with_id = fragment
            .id
            .as_ref()
            .and_then(|id| self.drafts.iter().rposition(|draft| draft.call.id.as_ref() == Some(id)));
        let at = match (fragment.index, with_index, with_id) {
            (Some(_), Some(at), _) => at,
            (None, _, Some(at)) => at,
            // A new index or id without a name, while the last call's arguments are incomplete: some servers number
            // their fragments.
            _ if fragment.name.is_empty()
                && !self.drafts[last].call.arguments.is_empty()
                && !is_whole(&self.drafts[last].call.arguments) =>
            {
                last
            }
            (None, _, None) if fragment.name.is_empty() => last,
            _ => return None,
        };
        let known = &self.drafts[at].call;
        let other_id =
            fragment.id.as_ref().is_some_and(|id| known.id.as_ref().is_some_and(|known| known != id));
        // A name after complete arguments, or with another id, begins a call: some servers number every call 0.
        let is_same_id = fragment.id.is_some() && fragment.id == known.id;
        let is_new = !fragment.name.is_empty()
            && !known.name.is_empty()
            && (other_id || (!is_same_id && begins_another(known, fragment)));
        (!is_new).then_some(at)
    }

    pub(super) fn take(&mut self) -> Vec<RawCall> {
        std::mem::take(&mut self.drafts).into_iter().map(|draft| draft.call).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assembled(fragments: &[Value]) -> Vec<(String, String)> {
        let mut assembly = Assembly::default();
        for fragment in fragments {
            assembly.push(&Fragment::read(fragment));
        }
        assembly.take().into_iter().map(|call| (call.name, call.arguments)).collect()
    }

    fn pair(name: &str, arguments: &str) -> (String, String) {
        (name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn fragments_find_their_calls() {
        let whole = |index: Value, id: &str, name: &str| json!({"index": index, "id": id, "function": {"name": name, "arguments": "{\"a\":1}"}});
        let three = [whole(json!(0), "", "x"), whole(json!(0), "", "y"), whole(json!(0), "", "x")];
        assert_eq!(
            assembled(&three),
            [pair("x", "{\"a\":1}"), pair("y", "{\"a\":1}"), pair("x", "{\"a\":1}")]
        );
        let counted = [
            json!({"index": 0, "id": "a", "function": {"name": "x", "arguments": "{\"a\":"}}),
            json!({"index": 1, "id": "b", "function": {"name": "", "arguments": "1}"}}),
        ];
        assert_eq!(assembled(&counted), [pair("x", "{\"a\":1}")]);
        let without_index = [
            json!({"id": "a", "function": {"name": "x", "arguments": "{\"a\":"}}),
            json!({"function": {"arguments": "1}"}}),
            json!({"id": "b", "function": {"name": "y", "arguments": {"b": 2}}}),
        ];
        assert_eq!(assembled(&without_index), [pair("x", "{\"a\":1}"), pair("y", "{\"b\":2}")]);
        let named_in_pieces = [
            json!({"index": 0, "type": "", "function": {"name": "get_", "arguments": ""}}),
            json!({"index": 0, "function": {"name": "info", "arguments": "{}"}}),
        ];
        assert_eq!(assembled(&named_in_pieces), [pair("get_info", "{}")]);
        let interleaved = [
            json!({"index": 3, "id": "a", "function": {"name": "x", "arguments": "{\"a\":"}}),
            json!({"index": "7", "id": 9, "function": {"name": "y", "arguments": "{\"b\":"}}),
            json!({"index": 3, "function": {"arguments": "1}"}}),
            json!({"index": 7, "function": {"arguments": "2}"}}),
        ];
        assert_eq!(assembled(&interleaved), [pair("x", "{\"a\":1}"), pair("y", "{\"b\":2}")]);
        assert_eq!(assembled(&[json!({"index": 0, "function": null})]), []);
    }

    #[test]
    fn arguments_are_read_in_every_form() {
        let object = json!({"a": 1}).as_object().cloned().unwrap();
        for text in ["{\"a\": 1}", " {\"a\":1} ", "\"{\\\"a\\\": 1}\""] {
            assert_eq!(arguments(text), Ok(object.clone()), "{text}");
        }
        for text in ["", "null", "\"\"", "{}"] {
            assert_eq!(arguments(text), Ok(Map::new()), "{text}");
        }
        for text in ["{\"a\": 1}}", "[1]", "{\"a\":", "x"] {
            assert_eq!(arguments(text), Err(text.to_owned()));
        }
    }
}
