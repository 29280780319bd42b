//! Credentials, and the one place that decides what counts as one: they are printed as `***` in arguments, configurations and
//! addresses alike.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The text printed in place of a secret.
pub(crate) const MASK: &str = "***";

/// Words that mark a name as secret wherever they occur in it; separators and letter case are ignored.
const SECRET_WORDS: &[&str] = &[
    "password", "passwd", "passphrase", "secret", "authorization", "credential", "apikey", "privatekey",
    "accesskey", "connectionstring", "cookie",
];

/// A credential, masked by `Debug` and `Display`. Serialisation yields the plain value, because configuration is loaded, and
/// passed to the bundled engine, through serde; serialised configuration must never be logged.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the plain credential. Every call is a place where it can leak.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether the credential is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Returns whether a member of this name holds a credential: `api_key`, `accessToken`, `Authorization`. Token counts
/// (`max_tokens`) and file paths (`api_key_file`) do not.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let is_path = ["_file", "_path"].iter().any(|end| name.ends_with(end));
    let joined: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    !is_path && (SECRET_WORDS.iter().any(|word| joined.contains(word)) || joined.ends_with("token"))
}

/// Replaces every non-null value whose name marks it as a credential by [`MASK`], at any depth.
pub(crate) fn mask_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if is_secret_name(name) && !field.is_null() {
                    *field = Value::from(MASK);
                } else {
                    mask_secrets(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_secrets),
        _ => {}
    }
}

/// Returns an address that is safe to print: the user information and the query, which may hold keys, are masked.
pub(crate) fn masked_url(url: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, ""), |(address, _)| (address, "?***"));
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("{MASK}@{host}"));
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{host}{path}{query}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_secret_is_masked_and_what_is_not_is_shown() {
        for name in [
            "api_key", "API-KEY", "accessToken", "token", "Authorization", "client_secret", "db.password",
            "Set-Cookie",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "max_tokens", "max_total_tokens", "api_key_file", "key", "idempotency_key", "tokenizer",
            "keyboard",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
        let mut value = json!({"max_tokens": 5, "nested": [{"apiKey": "canary", "token": null}]});
        mask_secrets(&mut value);
        assert_eq!(value, json!({"max_tokens": 5, "nested": [{"apiKey": "***", "token": null}]}));
        for (url, shown) in [
            ("https://h/v1?key=canary&x=1", "https://h/v1?***"),
            ("http://u:canary@h:1/v1", "http://***@h:1/v1"),
            ("http://h/v1", "http://h/v1"),
            ("h:1/v1?canary", "h:1/v1?***"),
        ] {
            assert_eq!(masked_url(url), shown);
        }
    }
}
