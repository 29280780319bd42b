//! Access control by exact origin and by the gateway's own host names, and the identity of callers.
//!
//! A page of a foreign site must not reach a gateway that asks for no credentials, neither directly (CSRF) nor by a name that
//! it lets resolve to this machine (DNS rebinding).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

use super::form::split_host;
use crate::{
    error::{Error, Reason, Result},
    loopback::is_loopback_host,
    principal::Principal,
    text::quoted,
};

/// Selects which headers pages may send and read, by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderPolicy {
    /// The headers of gRPC-web, SSE and JSON.
    Api,
    /// The headers of MCP; tools define the names of the `Mcp-Param-…` ones.
    Mcp,
}

/// The longest name of a caller, in bytes.
const MAX_CALLER_BYTES: usize = 255;

/// Returns whether a path is that of a health probe.
pub(super) fn is_probe(path: &str) -> bool {
    path.starts_with("/health") || path.starts_with("/grpc.health.v1.Health/")
}

/// Returns the caller that the configured header names, which a proxy sets, or the one local caller if no header is
/// configured. `None` for a probe or a CORS preflight without a valid name: browsers send preflights without the page's
/// headers.
///
/// # Errors
/// [`Reason::Unauthenticated`] when the header is missing, repeated, or not a valid name, or is the name reserved for the
/// caller of a gateway without such a header.
pub(super) fn caller_of<B>(request: &Request<B>, header: Option<&HeaderName>) -> Result<Option<Principal>> {
    let Some(header) = header else { return Ok(Some(Principal::local())) };
    let mut values = request.headers().get_all(header).iter();
    let named = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let is_name = |name: &&str| {
        !name.is_empty()
            && name.len() <= MAX_CALLER_BYTES
            && name.bytes().all(|byte| byte.is_ascii_graphic())
            && *name != Principal::local().name()
    };
    match named.filter(is_name) {
        Some(name) => Ok(Some(Principal::from_proxy(name))),
        None if is_probe(request.uri().path()) || request.method() == Method::OPTIONS => Ok(None),
        None => Err(Error::new(
            Reason::Unauthenticated,
            format!(
                "the request names no caller in `{header}`; send it through the proxy that sets the header"
            ),
        )),
    }
}

/// Returns the error for a request that bypassed the listener's checks, so that its caller is unknown.
pub(super) fn no_caller() -> Error {
    Error::internal("a request reached a route without its caller")
}

/// The allowed origins and host names.
#[derive(Clone, Debug)]
pub struct OriginPolicy {
    exact: Vec<String>,
    allows_loopback: bool,
    hosts: Vec<String>,
    /// Additional headers that pages may send.
    headers: Vec<HeaderName>,
}

/// Returns the scheme, host and port of an origin that a browser can send (RFC 6454, section 6.2).
fn split_origin(origin: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = split_host(authority)?;
    matches!(scheme, "http" | "https").then_some((scheme, host, port))
}

impl OriginPolicy {
    /// Creates the rules from the configuration; `host` is the address that the gateway binds.
    pub fn new(
        cors_origins: &[String],
        allowed_hosts: &[String],
        cors_headers: &[String],
        host: &str,
    ) -> Self {
        let mut hosts: Vec<String> = allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        if !is_loopback_host(host) && hosts.is_empty() {
            // A remote bind was allowed explicitly, and the names under which clients reach it are unknown.
            hosts.push("*".to_owned());
        }
        Self {
            exact: cors_origins.iter().filter(|origin| *origin != "loopback").cloned().collect(),
            allows_loopback: cors_origins.iter().any(|origin| origin == "loopback"),
            hosts,
            headers: cors_headers.iter().filter_map(|name| name.parse().ok()).collect(),
        }
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let is_loopback = || split_origin(origin).is_some_and(|(_, host, _)| is_loopback_host(host));
        self.is_exact(origin) || (self.allows_loopback && is_loopback())
    }

    fn is_exact(&self, origin: &str) -> bool {
        self.exact.iter().any(|exact| exact == origin)
    }

    fn allows_host(&self, host: &str) -> bool {
        let Some((name, _)) = split_host(host) else { return false };
        let name = name.to_ascii_lowercase();
        is_loopback_host(&name) || self.hosts.iter().any(|allowed| allowed == "*" || *allowed == name)
    }

    /// Checks a request's host names and origins before anything else is done for it.
    ///
    /// # Errors
    /// [`Reason::OriginNotAllowed`].
    pub fn check<B>(&self, request: &Request<B>) -> Result<()> {
        let headers: &HeaderMap = request.headers();
        // Checks every name that the request gives: each Host header, and the authority of the target.
        let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        let target = request.uri().authority().map(http::uri::Authority::as_str);
        if let Some(host) = named.chain(target).find(|host| !self.allows_host(host)) {
            let shown = quoted(host);
            let message = format!(
                "the host name `{shown}` is not one of this gateway's; add it to server.allowed_hosts"
            );
            return Err(Error::new(Reason::OriginNotAllowed, message));
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(target);
        let mut origins =
            headers.get_all(header::ORIGIN).iter().map(|origin| origin.to_str().unwrap_or_default());
        let is_preflight = request.method() == Method::OPTIONS;
        let is_foreign = |origin: &str| !self.allows_origin(origin) && !is_same(origin, host);
        match origins.find(|origin| is_foreign(origin)) {
            Some(origin) if !is_preflight => {
                let shown = quoted(origin);
                let message =
                    format!("pages of `{shown}` may not use this gateway; add it to server.cors_origins");
                Err(Error::new(Reason::OriginNotAllowed, message))
            }
            _ => Ok(()),
        }
    }

    /// Returns the CORS layer (Fetch standard) for the allowed origins.
    pub fn cors_layer(&self, headers: HeaderPolicy) -> CorsLayer {
        let origins = self.clone();
        let predicate = move |origin: &HeaderValue, _: &http::request::Parts| {
            origin.to_str().is_ok_and(|origin| origins.allows_origin(origin))
        };
        let names = |names: &[&'static str]| -> Vec<HeaderName> {
            names.iter().map(|name| HeaderName::from_static(name)).collect()
        };
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(predicate))
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            // Credentials, such as the cookies of a proxy's login, are allowed only from pages of exactly configured origins.
            .allow_credentials(AllowCredentials::predicate({
                let origins = self.clone();
                move |origin, _| origin.to_str().is_ok_and(|origin| origins.is_exact(origin))
            }))
            .max_age(std::time::Duration::from_secs(3600));
        match headers {
            HeaderPolicy::Api => layer
                .allow_headers(
                    [
                        names(&[
                            "content-type",
                            "authorization",
                            "idempotency-key",
                            "last-event-id",
                            "cache-control",
                            "x-grpc-web",
                            "x-user-agent",
                            "grpc-timeout",
                            "connect-protocol-version",
                            "traceparent",
                            "tracestate",
                            "baggage",
                            "x-api-key",
                        ]),
                        self.headers.clone(),
                    ]
                    .concat(),
                )
                .expose_headers(names(&[
                    "grpc-status",
                    "grpc-message",
                    "grpc-status-details-bin",
                    "grpc-encoding",
                    "retry-after",
                    "location",
                ])),
            // Safe, because only allowed origins get this response.
            HeaderPolicy::Mcp => {
                layer.allow_headers(AllowHeaders::mirror_request()).expose_headers(names(&[
                    "mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after",
                ]))
            }
        }
    }
}

/// Returns whether a page's origin is the host that it calls, which makes it a page of this gateway. The schemes may differ,
/// because a proxy may terminate TLS, and default ports may be omitted.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let Some((scheme, name, port)) = split_origin(origin) else { return false };
    let default = if scheme == "https" { 443 } else { 80 };
    let asked = host.and_then(split_host);
    asked.is_some_and(|(asked, asked_port)| {
        asked.eq_ignore_ascii_case(name) && asked_port.unwrap_or(default) == port.unwrap_or(default)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_and_loopback_origins_and_hosts() {
        let origins = OriginPolicy::new(
            &["loopback".into(), "https://app.example".into()],
            &["gw.example".into()],
            &[],
            "127.0.0.1",
        );
        for good in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443", "https://app.example"]
        {
            assert!(origins.allows_origin(good), "{good}");
        }
        for bad in [
            "null",
            "",
            "https://app.example.evil",
            "http://localhost.evil",
            "file://localhost",
            "http://app.example",
            "http://localhost:x",
            "http://[::1].evil.com",
            "http://localhost@evil.com",
        ] {
            assert!(!origins.allows_origin(bad), "{bad}");
        }
        for (host, is_good) in [
            ("127.0.0.1:5006", true),
            ("[::1]:5006", true),
            ("GW.example:80", true),
            ("evil.example", false),
            ("[::1].evil.com", false),
            ("localhost:x", false),
        ] {
            assert_eq!(origins.allows_host(host), is_good, "{host}");
        }
        for (origin, host, is_good) in [
            ("https://gw.example", "gw.example", true),
            ("https://gw.example", "gw.example:443", true),
            ("http://GW.example:81", "gw.example:81", true),
            ("http://gw.example:82", "gw.example:81", false),
            ("https://gw.example.evil", "gw.example", false),
            ("null", "gw.example", false),
        ] {
            assert_eq!(is_same(origin, Some(host)), is_good, "{origin} {host}");
        }
    }
}
