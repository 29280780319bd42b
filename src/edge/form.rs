//! Checks the form of requests and completes the form of responses as the standards require (RFC 9110, RFC 9112), for every
//! door.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;

use super::problem;
use crate::{
    error::{Error, Reason, Result},
    pb::Door,
    text::quoted,
};

/// The most bytes of a library's error text that are copied into a problem document.
const MAX_TEXT_BYTES: usize = 2048;

/// Splits a host name and its port as `Host` and `Origin` write them (RFC 3986, section 3.2.2); `None` if it is not a host.
/// An IPv6 address is returned without its brackets.
pub(super) fn split_host(authority: &str) -> Option<(&str, Option<u16>)> {
    let (name, rest) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, rest)
        }
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'));
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    is_name.then_some((name, port))
}

/// Checks the form of a request, whichever door it is for, before anything of its body is read.
///
/// # Errors
/// The error, and the HTTP status to respond with.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), (Error, StatusCode)> {
    let headers = request.headers();
    let refuse =
        |status: StatusCode, message: String| Err((Error::new(Reason::InvalidArgument, message), status));
    let mut hosts = headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    // RFC 9112, section 3.2: exactly one on HTTP/1.1. HTTP/2 has a pseudo-header instead.
    if second.is_some() || (first.is_none() && request.version() == Version::HTTP_11) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "a request names its host in exactly one Host header".to_owned(),
        );
    }
    let target = request.uri().authority().map(|authority| authority.as_str());
    for host in first.map(|host| host.to_str().unwrap_or_default()).into_iter().chain(target) {
        if split_host(host).is_none() {
            return refuse(StatusCode::BAD_REQUEST, format!("`{}` is no host", quoted(host)));
        }
    }
    // RFC 9112, section 6.1: refuses unknown codings, and chunked applied twice, on one line or on two.
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let codings = lines.collect::<Vec<_>>().join(&b", "[..]);
    if !codings.is_empty() && !codings.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        let coding = quoted(&String::from_utf8_lossy(&codings));
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            format!("the transfer coding `{coding}` is not understood; send chunked, or the length"),
        );
    }
    Ok(())
}

/// Returns the refusal of a body with a content coding; `None` if it has none.
pub(super) fn refuse_content_encoding(headers: &HeaderMap) -> Option<Response<Body>> {
    let coding = headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let coding = coding.into_iter().find(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"identity"))?;
    let message = format!(
        "the body is coded as `{}`, which is not decoded here; send it as it is",
        quoted(&String::from_utf8_lossy(coding))
    );
    let mut response = problem::to_response(&Error::new(Reason::UnsupportedMediaType, message));
    // RFC 9110, section 15.5.16: names the coding that would be accepted.
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Some(response)
}

/// Returns the door that a request is for, by its media type alone (RFC 9110, section 8.3.1: letter case and parameters are
/// ignored).
pub(super) fn door_of(headers: &HeaderMap) -> Door {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(|kind| kind.as_bytes().to_ascii_lowercase())
        .unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    // Protobuf is the only message format here; a media type that only starts like gRPC's is not a call.
    match kind.strip_suffix(b"+proto").unwrap_or(kind) {
        b"application/grpc-web" | b"application/grpc-web-text" => Door::GrpcWeb,
        b"application/grpc" => Door::Grpc,
        _ => Door::Http,
    }
}

/// Normalises a gRPC media type to the form that the libraries compare with: lower case, without parameters.
pub(super) fn plain_media_type(headers: &mut HeaderMap) {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return };
    let plain = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if plain != kind
        && let Ok(plain) = HeaderValue::from_str(&plain)
    {
        headers.insert(header::CONTENT_TYPE, plain);
    }
}

/// Removes a header name from those that a CORS preflight asks for, because pages must not send it.
pub(super) fn remove_from_preflight(headers: &mut HeaderMap, name: &HeaderName) {
    let Some(asked) =
        headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|asked| asked.to_str().ok())
    else {
        return;
    };
    let left: Vec<&str> =
        asked.split(',').map(str::trim).filter(|asked| !asked.eq_ignore_ascii_case(name.as_str())).collect();
    if let Ok(left) = HeaderValue::from_str(&left.join(",")) {
        headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, left);
    }
}

/// Completes a response of the HTTP door: adds the charset to text formats, and turns errors without a document of their own,
/// such as a library's, into problem documents.
pub(super) async fn finalize(mut response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let kind =
        response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let charset = match kind {
        "application/json" => Some("application/json; charset=utf-8"),
        "application/problem+json" => Some("application/problem+json; charset=utf-8"),
        "text/event-stream" => Some("text/event-stream; charset=utf-8"),
        _ => None,
    };
    let is_bare = kind.is_empty() || kind.starts_with("text/plain");
    if let Some(charset) = charset {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(charset));
    } else if is_bare && (status.is_client_error() || status.is_server_error()) {
        return as_problem(response).await;
    }
    response
}

/// Converts a library's own refusal into a problem document; its other headers stay.
async fn as_problem(response: Response<Body>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let text = http_body_util::Limited::new(body, MAX_TEXT_BYTES).collect().await;
    let text =
        text.map(|text| String::from_utf8_lossy(&text.to_bytes()).trim().to_owned()).unwrap_or_default();
    let reason = match parts.status.as_u16() {
        401 => Reason::Unauthenticated,
        403 => Reason::OriginNotAllowed,
        404 => Reason::RouteNotFound,
        405 => Reason::MethodNotAllowed,
        408 => Reason::RequestTimedOut,
        413 => Reason::TooLarge,
        415 => Reason::UnsupportedMediaType,
        422 => Reason::MalformedBody,
        400..500 => Reason::InvalidArgument,
        _ => Reason::Internal,
    };
    let words =
        if text.is_empty() { parts.status.canonical_reason().unwrap_or("refused").to_owned() } else { text };
    let mut problem =
        problem::with_status(&Error::new(reason, words), parts.status.as_u16(), &problem::NothingFurther {});
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json; charset=utf-8"));
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_they_are_written_and_no_further() {
        for (host, read) in [
            ("localhost", Some(("localhost", None))),
            ("localhost:5006", Some(("localhost", Some(5006)))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("a.example:", Some(("a.example", None))),
            ("[::1].evil.com", None),
            ("[::1]x", None),
            ("[evil.com]", None),
            ("localhost:x", None),
            ("localhost:99999", None),
            ("localhost:80:80", None),
            ("", None),
            ("a b", None),
            ("u@localhost", None),
            ("localhost/x", None),
        ] {
            assert_eq!(split_host(host), read, "{host}");
        }
    }

    #[test]
    fn media_types_are_compared_without_case_and_parameters() {
        let door = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            let door = door_of(&headers);
            plain_media_type(&mut headers);
            (door, headers[header::CONTENT_TYPE].to_str().unwrap().to_owned())
        };
        assert_eq!(
            door("Application/GRPC-Web+Proto; x=1"),
            (Door::GrpcWeb, "application/grpc-web+proto".into())
        );
        assert_eq!(door("application/grpc;charset=utf-8").0, Door::Grpc);
        assert_eq!(door("application/grpcfoo").0, Door::Http);
        assert_eq!(door("application/json").0, Door::Http);
    }
}
