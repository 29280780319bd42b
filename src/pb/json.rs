//! The JSON form of types that pbjson does not render: open JSON, and enum names without their prefix.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use super::{CostBasis, Door, JobState, Json, OnDisconnect, OutputStream, StatusReason};

/// The text is not one JSON value.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON value: {0}")]
pub struct CompactError(#[from] serde_json::Error);

impl Json {
    /// Parses `text`, which must be one JSON value, and drops the white space around its tokens.
    pub fn compact(text: &str) -> Result<Self, CompactError> {
        let value = crate::text::read_json(text)?;
        Ok(Self::from_value(&value))
    }

    /// Converts a value to text.
    pub fn from_value(value: &serde_json::Value) -> Self {
        Self { text: value.to_string() }
    }

    /// Returns the value; `null` for the empty text. Text that was created by [`Json::compact`] always parses.
    pub fn to_value(&self) -> Result<serde_json::Value, CompactError> {
        if self.text.is_empty() {
            Ok(serde_json::Value::Null)
        } else {
            Ok(crate::text::read_json(&self.text)?)
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.text.is_empty() {
            return serializer.serialize_unit();
        }
        // Compact text has no control characters. What an earlier build stored may be anything and is printed nevertheless:
        // as the value that it is, or else as text.
        let is_compact = !self.text.bytes().any(|byte| byte < b' ');
        match serde_json::from_str::<&RawValue>(&self.text) {
            Ok(raw) if is_compact => raw.serialize(serializer),
            Ok(_) => {
                crate::text::read_json(&self.text).map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
            Err(_) => serializer.serialize_str(&self.text),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(|value| Self::from_value(&value))
    }
}

macro_rules! enum_names_without_prefix {
    ($($type:ident, $prefix:literal;)*) => {$(
        impl $type {
            /// Returns the name as JSON prints it: without the prefix that proto style requires.
            pub fn short_name(self) -> &'static str {
                let name = self.as_str_name();
                name.strip_prefix($prefix).unwrap_or(name)
            }

            /// Returns every name but the one of the unspecified value.
            pub fn short_names() -> Vec<&'static str> {
                (1..64).map_while(|number| Self::try_from(number).ok()).map(Self::short_name).collect()
            }

            /// Parses a name with or without its prefix, ignoring letter case.
            pub fn from_short_name(name: &str) -> Option<Self> {
                let upper = name.to_ascii_uppercase();
                Self::from_str_name(&upper).or_else(|| Self::from_str_name(&format!("{}{upper}", $prefix)))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.short_name())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                Self::from_short_name(&name)
                    .ok_or_else(|| de::Error::custom(format!("unknown name `{}`", crate::text::quoted(&name))))
            }
        }
    )*};
}

enum_names_without_prefix! {
    JobState, "JOB_STATE_";
    Door, "DOOR_";
    StatusReason, "STATUS_REASON_";
    OutputStream, "OUTPUT_STREAM_";
    OnDisconnect, "ON_DISCONNECT_";
    CostBasis, "COST_BASIS_";
}

impl JobState {
    /// Returns whether the state is final, so that no further event follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_inlined_and_states_print_bare() {
        let json = Json::compact("{ \"b\": [1, 2.50, \"ação\"] }").unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), "{\"b\":[1,2.5,\"ação\"]}");
        assert_eq!(serde_json::to_string(&Json::default()).unwrap(), "null");
        assert_eq!(serde_json::to_string(&JobState::InputRequired).unwrap(), "\"INPUT_REQUIRED\"");
        assert_eq!(JobState::from_short_name("queued"), Some(JobState::Queued));
        assert!(Json::compact("{").is_err());
        // Text that earlier builds accepted.
        let print = |text: &str| serde_json::to_string(&Json { text: text.into() }).unwrap();
        assert_eq!(print("{\n\n\"a\" : 1}"), "{\"a\":1}");
        assert_eq!(print("{} x"), "\"{} x\"");
    }
}
