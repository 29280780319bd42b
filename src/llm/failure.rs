//! How a model call fails.

use std::time::Duration;

/// The kind of a failure, which decides whether the call is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection, or it broke before the answer was complete.
    Unreachable,
    /// The server is overloaded or failed: 408, 425, 429, 5xx, or an error of that kind within an answer.
    Unavailable,
    /// The server took too long.
    TimedOut,
    /// The server rejects the request: its key, model name or form.
    Refused,
    /// The answer cannot be used: it is not the protocol, empty, cut off or filtered.
    Malformed,
}

/// A failed model call. Its text contains no secrets.
#[derive(Clone, Debug)]
pub struct ModelFailure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// What went wrong, in a sentence.
    pub message: String,
    /// How long the server asks to wait before the next attempt.
    pub retry_after: Option<Duration>,
    /// Whether a retry may well succeed although the server is healthy, for example after an empty answer or a call that the
    /// server itself could not parse.
    pub is_chance: bool,
    /// Whether the bytes could not be parsed at all; at the end of an answer this means that it was cut off.
    pub(super) is_syntax: bool,
}

impl ModelFailure {
    /// Creates a failure without a retry delay.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, is_chance: false, is_syntax: false }
    }

    /// Creates a failure for an unusable answer that a retry may improve.
    pub(super) fn chance(message: impl Into<String>) -> Self {
        Self { is_chance: true, ..Self::new(FailureKind::Malformed, message) }
    }

    /// Returns whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.is_chance
            || matches!(
                self.kind,
                FailureKind::Unreachable | FailureKind::Unavailable | FailureKind::TimedOut
            )
    }
}

/// Returns the retry delay that the headers ask for (RFC 9110, section 10.2.3, and the `retry-after-ms` that some servers send).
pub(super) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(milliseconds) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(milliseconds / 1000.0).ok();
    }
    let text = text("retry-after")?;
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_retry_after_is_read() {
        let with = |name: &'static str, value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(with("retry-after", "3"), Some(Duration::from_secs(3)));
        assert_eq!(with("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        let later = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(90));
        let wait = with("retry-after", &later).unwrap();
        assert!(wait > Duration::from_secs(80) && wait <= Duration::from_secs(90), "{wait:?}");
        assert_eq!(with("retry-after", "soon"), None);
        assert_eq!(with("retry-after", "-1"), None);
    }
}
