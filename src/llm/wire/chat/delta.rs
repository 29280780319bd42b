//! The fast path for most chunks: a piece of text and nothing else, read without building a JSON document.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Returns the text of a chunk that has no other content, or `None`.
pub(super) fn only_text(data: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<ChunkText<'_>>(data).ok().and_then(|chunk| chunk.0)
}

struct ChunkText<'a>(Option<Cow<'a, str>>);
struct Choices<'a>(Option<Cow<'a, str>>);
struct ChoiceText<'a>(Option<Cow<'a, str>>);
struct Delta<'a>(Option<Cow<'a, str>>);
struct Text<'a>(Cow<'a, str>);
/// Whether a value is null.
struct IsNull(bool);

/// Implements `Deserialize` for an object: `member` consumes each member's value and returns whether the object is still simple.
macro_rules! object {
    ($name:ident, $expects:literal, |$key:ident, $map:ident, $found:ident| $member:expr) => {
        impl<'de> Deserialize<'de> for $name<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> Visitor<'de> for Reader {
                    type Value = $name<'de>;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expects)
                    }

                    fn visit_map<M: MapAccess<'de>>(self, mut $map: M) -> Result<Self::Value, M::Error> {
                        let (mut $found, mut is_simple) = (None, true);
                        while let Some($key) = $map.next_key::<Text<'de>>()? {
                            is_simple &= $member;
                        }
                        Ok($name($found.filter(|_| is_simple)))
                    }
                }
                deserializer.deserialize_map(Reader)
            }
        }
    };
}

object!(ChunkText, "a chunk", |key, map, found| match &*key.0 {
    "choices" => {
        found = map.next_value::<Choices<'de>>()?.0;
        found.is_some()
    }
    // These members are not part of the answer.
    "id" | "object" | "created" | "model" | "system_fingerprint" | "service_tier" | "provider"
    | "obfuscation" => {
        map.next_value::<IgnoredAny>()?;
        true
    }
    _ => map.next_value::<IsNull>()?.0,
});

object!(ChoiceText, "a choice", |key, map, found| match &*key.0 {
    "delta" => {
        found = map.next_value::<Delta<'de>>()?.0;
        found.is_some()
    }
    "index" => map.next_value::<serde_json::Value>()? == 0,
    _ => map.next_value::<IsNull>()?.0,
});

object!(Delta, "a delta", |key, map, found| match &*key.0 {
    "content" => {
        found = Some(map.next_value::<Text<'de>>()?.0);
        true
    }
    "role" => {
        map.next_value::<IgnoredAny>()?;
        true
    }
    _ => map.next_value::<IsNull>()?.0,
});

impl<'de> Deserialize<'de> for Choices<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Choices<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("choices")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut choices: S) -> Result<Self::Value, S::Error> {
                let Some(ChoiceText(first)) = choices.next_element()? else { return Ok(Choices(None)) };
                let is_alone = choices.next_element::<IgnoredAny>()?.is_none();
                while choices.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Choices(first.filter(|_| is_alone)))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

impl<'de> Deserialize<'de> for IsNull {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<IgnoredAny>::deserialize(deserializer)?.is_none()))
    }
}

#[cfg(test)]
mod tests;
