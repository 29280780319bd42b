//! The HTTP layer below the wires: a deadline for each part of an answer, and bounds on what a server may send.

use std::{error::Error as _, io, pin::Pin, sync::Once, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::time::{Instant, Sleep};

use super::{
    FailureKind, ModelFailure, SelectedModel, Timeouts,
    failure::retry_after,
    reported::{self, shown},
};
use crate::{loopback::is_loopback_host, secret::masked_url};

/// Larger answers are refused, however they are split.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How many bytes are read of a refusal's body, or of a body that is not an event stream.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

const THROUGH_PROXY: &str = " through the proxy that the environment names";

/// A connection pool to one provider.
#[derive(Clone, Debug)]
pub(super) struct ProviderConnection {
    client: reqwest::Client,
    timeouts: Timeouts,
    /// The base URL with its secrets masked, for messages.
    place: String,
    /// Whether requests go through a proxy that the environment names.
    has_proxy: bool,
    /// Whether such a proxy sees the requests, so that an answer may be its own. It only carries what is encrypted.
    may_proxy_answer: bool,
}

/// Installs the cryptography provider that TLS needs, once per process.
pub(crate) fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that a provider is installed already, which is just as good.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
    });
}

impl ProviderConnection {
    pub(super) fn new(selected: &SelectedModel, url: &http::Uri) -> Result<Self, String> {
        install_tls_provider();
        let mut headers = HeaderMap::new();
        for (name, value) in &selected.headers {
            let name: HeaderName =
                name.parse().map_err(|_| format!("agent.headers: `{name}` is no header's name"))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
                format!("agent.headers: the value of `{name}` holds characters that no header may")
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(selected.timeouts.connect())
            .default_headers(headers)
            .tcp_nodelay(true)
            // The headers hold keys, which are meant for this server only.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("conductor-gateway/", env!("CARGO_PKG_VERSION")));
        let is_loopback = url.host().is_some_and(is_loopback_host);
        if is_loopback {
            // A proxy cannot reach the loopback interface of this machine.
            builder = builder.no_proxy();
        }
        let client =
            builder.build().map_err(|error| format!("no connection to models can be made: {error}"))?;
        let has_proxy = !is_loopback && Matcher::from_env().intercept(url).is_some();
        Ok(Self {
            client,
            timeouts: selected.timeouts,
            place: masked_url(&selected.base_url),
            has_proxy,
            may_proxy_answer: has_proxy && url.scheme_str() == Some("http"),
        })
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// When the server cannot be reached, is silent for too long, refuses the request, or compresses its answer.
    pub(super) async fn open(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        selected: &SelectedModel,
    ) -> Result<Body, ModelFailure> {
        let request = self
            .client
            .post(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "text/event-stream")
            .header(http::header::ACCEPT_ENCODING, "identity")
            .headers(headers)
            .body(body);
        let opened = tokio::time::timeout(self.timeouts.first_byte(), request.send()).await;
        let opened = opened.map_err(|_| silent(self.timeouts.first_byte()))?;
        let response = opened.map_err(|error| self.broken(error, selected))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            let body = beginning(response, self.timeouts.idle()).await;
            let refusal = refusal(status, &headers, &body, selected);
            return Err(match self.may_proxy_answer {
                true => ModelFailure {
                    message: format!(
                        "{} (the request went{THROUGH_PROXY}, whose answer this may be)",
                        refusal.message
                    ),
                    ..refusal
                },
                false => refusal,
            });
        }
        let header = |name: http::HeaderName| {
            let value = headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
            value.trim().to_ascii_lowercase()
        };
        let encoding = header(http::header::CONTENT_ENCODING);
        if !matches!(encoding.as_str(), "" | "identity" | "none") {
            let message = format!(
                "the model's server answered with Content-Encoding {}, which was not asked for; switch its compression off",
                shown(&encoding, selected)
            );
            return Err(ModelFailure::new(FailureKind::Malformed, message));
        }
        let content_type = header(http::header::CONTENT_TYPE);
        let connection = self.clone();
        let selected = selected.clone();
        let bytes = response
            .bytes_stream()
            .map(move |chunk| chunk.map_err(|error| connection.broken(error, &selected)));
        let wait = self.timeouts.first_byte();
        Ok(Body {
            bytes: Box::pin(bytes),
            content_type,
            place: self.place.clone(),
            idle: self.timeouts.idle(),
            wait,
            silence: Box::pin(tokio::time::sleep(wait)),
            read: 0,
        })
    }

    /// Converts a connection error to a failure. The URL is not printed, because it may hold a key.
    fn broken(&self, error: reqwest::Error, selected: &SelectedModel) -> ModelFailure {
        let error = error.without_url();
        let mut reasons = vec![error.to_string()];
        let mut is_late = error.is_timeout();
        let mut source = error.source();
        while let Some(cause) = source {
            is_late |= cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
            reasons.push(cause.to_string());
            source = cause.source();
        }
        reasons.dedup();
        let kind = if is_late { FailureKind::TimedOut } else { FailureKind::Unreachable };
        let way = if self.has_proxy { THROUGH_PROXY } else { "" };
        let reasons = shown(&reasons.join(": "), selected);
        ModelFailure::new(kind, format!("the model at {}{way} could not be used: {reasons}", self.place))
    }
}

fn silent(after: Duration) -> ModelFailure {
    let message = format!("the model's server sent nothing for {} seconds", after.as_secs());
    ModelFailure::new(FailureKind::TimedOut, message)
}

/// Converts an HTTP error status and its body to a failure.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &str, selected: &SelectedModel) -> ModelFailure {
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = serde_json::Value::from(body);
    let error = reported::in_document("", &document).unwrap_or(match &document {
        serde_json::Value::Object(_) => &document,
        _ => &text,
    });
    let failure = reported::failure(error, Some(status.as_u16()), selected);
    ModelFailure { retry_after: retry_after(headers).or(failure.retry_after), ..failure }
}

/// Returns the body of a refusal, as far as it arrives within `time` and the size limit.
async fn beginning(mut response: reqwest::Response, time: Duration) -> String {
    let mut body = Vec::new();
    let until = Instant::now() + time;
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(until, response.chunk()).await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_REFUSAL_BYTES {
            body.truncate(MAX_REFUSAL_BYTES);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// The body of an answer. Reading it fails when the server falls silent or sends too much.
pub(super) struct Body {
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, ModelFailure>> + Send>>,
    /// The Content-Type that the server declares, in lower case.
    pub(super) content_type: String,
    /// The base URL with its secrets masked, for messages.
    pub(super) place: String,
    idle: Duration,
    wait: Duration,
    silence: Pin<Box<Sleep>>,
    read: usize,
}

impl Body {
    /// Returns the next bytes, or `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, nothing arrives within the time limit, or the answer exceeds its size limit.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ModelFailure> {
        let chunk = tokio::select! {
            // Data that has arrived takes precedence over the timeout; dropping either future loses nothing.
            biased;
            chunk = self.bytes.next() => chunk,
            () = self.silence.as_mut() => return Err(silent(self.wait)),
        };
        let Some(chunk) = chunk.transpose()? else { return Ok(None) };
        self.wait = self.idle;
        let until = Instant::now() + self.wait;
        self.silence.as_mut().reset(until);
        self.read += chunk.len();
        if self.read > MAX_ANSWER_BYTES {
            let message = "the model's server sent more than any answer holds";
            return Err(ModelFailure::new(FailureKind::Malformed, message));
        }
        Ok(Some(chunk))
    }

    /// Reads the rest of a body that is not an event stream and returns the failure: the server's own error, or a
    /// note of what arrived instead.
    pub(super) async fn document(mut self, mut beginning: Vec<u8>, selected: &SelectedModel) -> ModelFailure {
        while beginning.len() < MAX_REFUSAL_BYTES {
            match self.next().await {
                Ok(Some(chunk)) => beginning.extend_from_slice(&chunk),
                Ok(None) => break,
                // What has arrived so far may explain the failure.
                Err(failure) if beginning.is_empty() => return failure,
                Err(_) => break,
            }
        }
        let document = serde_json::from_slice::<serde_json::Value>(&beginning);
        if let Ok(document) = &document
            && let Some(error) = reported::in_document("", document)
        {
            return reported::failure(error, None, selected);
        }
        let kind = match self.content_type.as_str() {
            "" if document.is_ok() => "JSON",
            "" => "something",
            known => known,
        };
        let message = format!(
            "{} answered with {} and not with a stream of events; is it a model's server?",
            self.place,
            shown(kind, selected)
        );
        ModelFailure::new(FailureKind::Malformed, message)
    }
}
