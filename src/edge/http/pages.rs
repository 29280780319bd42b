//! Pages for people: what this address is, and what each reason of an error means. They hold no script and load nothing.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{HeaderValue, Response, header};

use super::{
    super::{Operations, problem::to_response},
    contract::contract,
};
use crate::{
    error::{Error, Reason},
    text::quoted,
};

/// The page of all reasons; a test holds it to the table.
const ERRORS: &str = include_str!("../../../docs/errors.md");

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}code{font-family:ui-monospace,monospace}dt{font-weight:600}dd{margin:0 0 .6rem}";

/// The digest of [`STYLE`], which is all that the policy lets a page use.
fn style_digest() -> String {
    use sha2::Digest;
    data_encoding::BASE64.encode(&sha2::Sha256::digest(STYLE.as_bytes()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(title: &str, body: &str) -> Response<Body> {
    let title = escaped(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title><style>{STYLE}</style>\n<body>{body}</body></html>\n"
    );
    let mut response = Response::new(Body::from(html));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        style_digest()
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// `GET /`: what this address is, and where its doors are.
pub(super) async fn start(State(operations): State<Arc<Operations>>) -> Response<Body> {
    let info = operations.info();
    let model = match info.model.as_str() {
        "" => format!("none, so that only some commands are understood: {}", info.planner_reason),
        model => format!("{model} ({})", info.provider),
    };
    let mcp = if info.mcp_url.is_empty() { "off".to_owned() } else { info.mcp_url.clone() };
    let rows = [
        ("Version", escaped(&info.version)),
        ("Engine", escaped(&info.engine)),
        ("Model", escaped(&model)),
        ("Jobs", format!("{} running, {} waiting", info.running_jobs, info.queued_jobs)),
        ("JSON", "<code>POST execute</code>, <code>POST api/v1/stream-execute</code>, <a href=\"api/v1/jobs\">api/v1/jobs</a>, \
                  <a href=\"api/v1/agents\">api/v1/agents</a>, <a href=\"api/v1/tools\">api/v1/tools</a>".to_owned()),
        ("Events", "<code>GET api/v1/stream/JOB</code> (server-sent events)".to_owned()),
        ("gRPC, grpc-web", "this address, <code>conductor.gateway.v1.GatewayService</code>, with reflection".to_owned()),
        ("MCP", format!("<code>{}</code>", escaped(&mcp))),
        ("State", "<a href=\"health\">health</a>, <a href=\"health/ready\">health/ready</a>, <a href=\"metrics\">metrics</a>".to_owned()),
        ("API", "<a href=\"openapi.json\">openapi.json</a>, <a href=\"docs/grpc\">docs/grpc</a>, <a href=\"docs/errors\">docs/errors</a>".to_owned()),
    ];
    let rows: String = rows.iter().map(|(name, text)| format!("<dt>{name}</dt><dd>{text}</dd>")).collect();
    page("Conductor Gateway", &format!("<h1>Conductor Gateway</h1><dl>{rows}</dl>"))
}

/// `GET /docs/grpc`: the calls, messages and enums of the contract, from its comments.
pub(super) async fn grpc() -> Response<Body> {
    let contract = contract();
    let is_type = |name: &str| contract.messages.contains_key(name) || contract.enums.contains_key(name);
    // A type is a link to its place on the page.
    let linked = |kind: &str| {
        let (before, name) = kind.rsplit_once(' ').map_or(("", kind), |(before, name)| (before, name));
        let name_only = name.trim_end_matches('>');
        let space = if before.is_empty() { "" } else { " " };
        match is_type(name_only) {
            true => format!("{}{space}<a href=\"#{name_only}\">{name_only}</a>", escaped(before)),
            false => escaped(kind),
        }
    };
    let mut body = "<h1>conductor.gateway.v1.GatewayService</h1><p>The contract, as its proto files say it. The service has reflection: \
                    <code>grpcurl -plaintext HOST:PORT describe conductor.gateway.v1.GatewayService</code>. \
                    JSON over HTTP: <a href=\"../openapi.json\">openapi.json</a>.</p><h2>Calls</h2><dl>"
        .to_owned();
    for call in &contract.calls {
        let stream = if call.is_stream { "stream " } else { "" };
        body += &format!(
            "<dt><code>{}({}) → {stream}{}</code></dt><dd>{}</dd>",
            call.name,
            linked(&call.request),
            linked(&call.response),
            escaped(&call.comment)
        );
    }
    body += "</dl><h2>Messages</h2>";
    for (name, message) in &contract.messages {
        body += &format!("<h3 id=\"{name}\">{name}</h3><p>{}</p><dl>", escaped(&message.comment));
        for field in &message.fields {
            body += &format!(
                "<dt><code>{} {}</code></dt><dd>{}</dd>",
                linked(&field.kind),
                field.name,
                escaped(&field.comment)
            );
        }
        body += "</dl>";
    }
    body += "<h2>Enums</h2>";
    for (name, described) in &contract.enums {
        body += &format!("<h3 id=\"{name}\">{name}</h3><p>{}</p><dl>", escaped(&described.comment));
        for (value, comment) in &described.values {
            body += &format!("<dt><code>{value}</code></dt><dd>{}</dd>", escaped(comment));
        }
        body += "</dl>";
    }
    page("The gRPC contract", &body)
}

/// Returns the section of a reason, without its heading.
fn section(reason: Reason) -> Option<&'static str> {
    let (_, rest) = ERRORS.split_once(&format!("### {}\n", reason.name()))?;
    Some(rest.split("\n### ").next().unwrap_or(rest).trim())
}

/// `GET /docs/errors`: all reasons.
pub(super) async fn errors() -> Response<Body> {
    let names = Reason::ALL.iter().map(|reason| reason.name());
    let list: String =
        names.map(|name| format!("<li><a href=\"errors/{name}\"><code>{name}</code></a></li>")).collect();
    page("Errors", &format!("<h1>Errors</h1><ul>{list}</ul>"))
}

/// `GET /docs/errors/{reason}`: what one reason means and what to do.
pub(super) async fn error(Path(name): Path<String>) -> Response<Body> {
    let found = Reason::from_name(&name).and_then(|reason| Some((reason, section(reason)?)));
    let Some((reason, text)) = found else {
        let message = format!("there is no reason `{}`; docs/errors lists them", quoted(&name));
        return to_response(&Error::new(Reason::RouteNotFound, message));
    };
    let paragraphs: String = text
        .split("\n\n")
        .map(|paragraph| {
            // Every second piece between backticks is code.
            let pieces = paragraph.split('`').enumerate().map(|(index, piece)| match index % 2 {
                1 => format!("<code>{}</code>", escaped(piece)),
                _ => escaped(piece),
            });
            format!("<p>{}</p>", pieces.collect::<String>())
        })
        .collect();
    page(
        reason.name(),
        &format!("<h1>{}</h1>{paragraphs}<p><a href=\"../errors\">All errors</a></p>", reason.name()),
    )
}
