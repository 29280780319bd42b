//! The console: a page of static files that are part of this binary, under a policy that lets nothing else in.
//!
//! The files are in `src/edge/console/`, as browsers run them: there is nothing to build.

use axum::{body::Body, extract::Path, extract::Request};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use super::super::problem::to_response;
use crate::{
    error::{Error, Reason},
    text::quoted,
};

/// What the page may do: run and load what comes from here, speak with here. No markup can become a script, not even by
/// the page's own mistake (Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types console";

/// A file of the console.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal: $kind:expr;)*) => {
        &[$(File { name: $name, kind: $kind, text: include_str!(concat!("../console/", $name)) },)*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file; a test holds the list to the directory.
const FILES: &[File] = files! {
    "index.html": HTML;
    "reference.html": HTML;
    "console.css": "text/css; charset=utf-8";
    "icon.svg": "image/svg+xml";
    "address.js": SCRIPT;
    "api.js": SCRIPT;
    "app.js": SCRIPT;
    "copy.js": SCRIPT;
    "dom.js": SCRIPT;
    "form.js": SCRIPT;
    "hub.js": SCRIPT;
    "icons.js": SCRIPT;
    "list.js": SCRIPT;
    "markdown.js": SCRIPT;
    "model.js": SCRIPT;
    "pages.js": SCRIPT;
    "reference.js": SCRIPT;
    "run.js": SCRIPT;
    "sse.js": SCRIPT;
    "tasks.js": SCRIPT;
    "text.js": SCRIPT;
    "timeline.js": SCRIPT;
    "words.js": SCRIPT;
    "worker.js": SCRIPT;
};

/// Adds the headers that every page of this gateway has.
fn answer(file: &File, headers: &HeaderMap) -> Response<Body> {
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(file.text.as_bytes())[..16]);
    let tag = format!("\"{digest}\"");
    let is_known =
        headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known.as_bytes() == tag.as_bytes());
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(file.text) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Asked for each time, so that an upgrade is seen at once; what is the same is not sent again.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

/// `GET /`: the console.
pub(super) async fn index(request: Request) -> Response<Body> {
    match find("index.html") {
        Some(file) => answer(file, request.headers()),
        None => not_found("index.html"),
    }
}

/// `GET /docs`: the reference of this door, which reads `openapi.json`.
pub(super) async fn reference(request: Request) -> Response<Body> {
    match find("reference.html") {
        Some(file) => answer(file, request.headers()),
        None => not_found("reference.html"),
    }
}

/// `GET /console/{name}`: one of its files.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response<Body> {
    find(&name).map_or_else(|| not_found(&name), |file| answer(file, &headers))
}

fn not_found(name: &str) -> Response<Body> {
    to_response(&Error::new(Reason::RouteNotFound, format!("the console has no file `{}`", quoted(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most bytes of all files together, which a first visit loads.
    const MAX_BYTES: usize = 200 * 1024;

    #[test]
    fn every_file_is_served_and_together_they_are_small() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edge/console");
        let mut there: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        let mut served: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        served.sort_unstable();
        assert_eq!(there, served);
        let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(bytes < MAX_BYTES, "{bytes} bytes");
    }

    /// Nothing of it makes markup of text, names another host, or holds a style or a script within the page.
    #[test]
    fn no_file_can_make_markup_or_reach_elsewhere() {
        let forbidden = [
            "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
            "DOMParser", "srcdoc", "javascript:",
        ];
        for File { name, text, .. } in FILES {
            for word in forbidden {
                assert!(!text.contains(word), "{name} holds {word}");
            }
            let addresses = text
                .match_indices("http")
                .filter(|(at, _)| text[*at..].starts_with("https://") || text[*at..].starts_with("http://"));
            for (at, _) in addresses {
                let address: String = text[at..].chars().take(30).collect();
                assert!(
                    address.starts_with("http://www.w3.org/") || address.starts_with("http://localhost"),
                    "{name}: {address}"
                );
            }
        }
        let index = find("index.html").unwrap().text;
        assert!(
            !index.contains("style=")
                && !index.contains("<style")
                && !index.contains("onclick")
                && index.matches("<script").count() == 1
        );
    }
}
