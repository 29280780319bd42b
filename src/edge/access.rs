//! From where one may call: exact origins, and host names that are our own.
//!
//! A page of a foreign site must not reach a gateway that asks for no credentials, neither directly (CSRF) nor
//! by a name that it lets resolve to this machine (DNS rebinding).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

use super::form::split_host;
use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
    text::quoted,
};

/// Which headers pages may send and read, by door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Those of gRPC-web, SSE and JSON.
    Api,
    /// Those of MCP; its `Mcp-Param-…` headers are named by tools.
    Mcp,
}

/// The longest name of a caller.
const MAX_CALLER_BYTES: usize = 255;

/// Whether a path asks how the gateway is.
pub(super) fn is_probe(path: &str) -> bool {
    path.starts_with("/health") || path.starts_with("/grpc.health.v1.Health/")
}

/// Who calls: named by the configured header, which a proxy sets; else the one local caller. `None`: a probe, or a preflight,
/// which browsers send without headers of the page; neither has a caller.
///
/// # Errors
/// [`Reason::Unauthenticated`] when the header is missing, is there twice, or holds no name, or the one that the gateway gives
/// to the caller of a gateway without such a header.
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

/// A request that came past the listener's layer: whose it is cannot be known, and it is nobody's.
pub(super) fn no_caller() -> Error {
    Error::internal("a request reached a route without its caller")
}

/// Which origins and host names are allowed.
#[derive(Clone, Debug)]
pub struct Origins {
    exact: Vec<String>,
    allows_loopback: bool,
    hosts: Vec<String>,
    /// Headers that pages may send beside the usual ones.
    headers: Vec<HeaderName>,
}

fn is_loopback_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host and port of an origin that a browser can have (RFC 6454, section 6.2).
fn split_origin(origin: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = split_host(authority)?;
    matches!(scheme, "http" | "https").then_some((scheme, host, port))
}

impl Origins {
    /// The configured ones.
    pub fn new(
        cors_origins: &[String],
        allowed_hosts: &[String],
        cors_headers: &[String],
        host: &str,
    ) -> Self {
        let mut hosts: Vec<String> = allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        if !is_loopback_host(host) && hosts.is_empty() {
            // Bound for others, by words: under which names they come cannot be known.
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

    /// Checks a request before anything is done for it.
    ///
    /// # Errors
    /// [`Reason::OriginNotAllowed`].
    pub fn check<B>(&self, request: &Request<B>) -> Result<()> {
        let headers: &HeaderMap = request.headers();
        // Every name that the request gives: the header, each time it is there, and the target's own.
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

    /// The CORS answers (Fetch standard) for the allowed origins.
    pub fn cors_layer(&self, headers: Headers) -> CorsLayer {
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
            // Cookies of a proxy's login go along from pages that are named, and from no other one.
            .allow_credentials(AllowCredentials::predicate({
                let origins = self.clone();
                move |origin, _| origin.to_str().is_ok_and(|origin| origins.is_exact(origin))
            }))
            .max_age(std::time::Duration::from_secs(3600));
        match headers {
            Headers::Api => layer
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
            // Only allowed origins get this answer.
            Headers::Mcp => layer.allow_headers(AllowHeaders::mirror_request()).expose_headers(names(&[
                "mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after",
            ])),
        }
    }
}

/// Whether a page's origin is the host that it asks, so that it is a page of this very gateway: behind a proxy that ends TLS
/// the scheme is another one, and a default port is not written.
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
        let origins = Origins::new(
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
