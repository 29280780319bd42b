//! From where one may call: exact origins, and host names that are our own.
//!
//! A page of a foreign site must not reach a gateway that asks for no credentials, neither directly (CSRF) nor
//! by a name that it lets resolve to this machine (DNS rebinding).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::{
    caller::Caller,
    error::{Error, Reason, Result},
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

fn is_probe(path: &str) -> bool {
    path.starts_with("/health") || path.starts_with("/grpc.health.v1.Health/")
}

/// Who calls: named by the configured header, which a proxy sets; else the one local caller.
///
/// # Errors
/// [`Reason::Unauthenticated`] when the header is missing, is there twice, or holds no name. Probes need none, and neither do
/// preflights, which browsers send without headers of the page.
pub(super) fn caller_of<B>(request: &Request<B>, header: Option<&HeaderName>) -> Result<Caller> {
    let Some(header) = header else { return Ok(Caller::local()) };
    let mut values = request.headers().get_all(header).iter();
    let named = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let is_name = |name: &&str| {
        !name.is_empty() && name.len() <= MAX_CALLER_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match named.filter(is_name) {
        Some(name) => Ok(Caller::named(name)),
        None if is_probe(request.uri().path()) || request.method() == Method::OPTIONS => Ok(Caller::local()),
        None => Err(Error::new(
            Reason::Unauthenticated,
            format!(
                "the request names no caller in `{header}`; send it through the proxy that sets the header"
            ),
        )),
    }
}

/// Which origins and host names are allowed.
#[derive(Clone, Debug)]
pub struct Origins {
    exact: Vec<String>,
    allows_loopback: bool,
    hosts: Vec<String>,
}

fn is_loopback_host(host: &str) -> bool {
    let name = if let Some(rest) = host.strip_prefix('[') {
        rest.split(']').next().unwrap_or_default()
    } else {
        host.split(':').next().unwrap_or_default()
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Origins {
    /// The configured ones.
    pub fn new(cors_origins: &[String], allowed_hosts: &[String], host: &str) -> Self {
        let mut hosts: Vec<String> = allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        if !is_loopback_host(host) && hosts.is_empty() {
            // Bound for others, by words: under which names they come cannot be known.
            hosts.push("*".to_owned());
        }
        Self {
            exact: cors_origins.iter().filter(|origin| *origin != "loopback").cloned().collect(),
            allows_loopback: cors_origins.iter().any(|origin| origin == "loopback"),
            hosts,
        }
    }

    fn allows_origin(&self, origin: &str) -> bool {
        let is_loopback = || {
            origin
                .split_once("://")
                .is_some_and(|(scheme, host)| matches!(scheme, "http" | "https") && is_loopback_host(host))
        };
        self.exact.iter().any(|exact| exact == origin) || (self.allows_loopback && is_loopback())
    }

    fn allows_host(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name).to_ascii_lowercase();
        is_loopback_host(host) || self.hosts.iter().any(|allowed| allowed == "*" || *allowed == name)
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
            let shown: String = host.chars().take(100).collect();
            let message = format!(
                "the host name `{shown}` is not one of this gateway's; add it to server.allowed_hosts"
            );
            return Err(Error::new(Reason::OriginNotAllowed, message));
        }
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        let is_preflight = request.method() == Method::OPTIONS;
        match origin {
            Some(origin) if !is_preflight && !self.allows_origin(origin) => {
                let shown: String = origin.chars().take(100).collect();
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
            .max_age(std::time::Duration::from_secs(3600));
        match headers {
            Headers::Api => layer
                .allow_headers(names(&[
                    "content-type",
                    "authorization",
                    "idempotency-key",
                    "last-event-id",
                    "cache-control",
                    "x-grpc-web",
                    "x-user-agent",
                    "grpc-timeout",
                    "connect-protocol-version",
                ]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_and_loopback_origins_and_hosts() {
        let origins = Origins::new(
            &["loopback".into(), "https://app.example".into()],
            &["gw.example".into()],
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
        ] {
            assert!(!origins.allows_origin(bad), "{bad}");
        }
        for (host, is_good) in
            [("127.0.0.1:5006", true), ("[::1]:5006", true), ("gw.example:80", true), ("evil.example", false)]
        {
            assert_eq!(origins.allows_host(host), is_good, "{host}");
        }
    }
}
