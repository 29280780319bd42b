//! `GET /openapi.json`: the description of this door (OpenAPI 3.1), from the table of the routes, the types of the answers and the
//! contract's descriptors.

use axum::{Extension, body::Body};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    super::problem::json_response,
    answers,
    contract::{contract, reference},
    route::{Content, Parameter, Route, Served},
};
use crate::error::Reason;

/// The refusals that every route but the probes may give: what is asked cannot be read, nobody is named, the page or host is
/// foreign, too many requests, a fault, the store or the gateway is not there now.
const EVERYWHERE: &[u16] = &[400, 401, 403, 429, 500, 503];

/// `GET /openapi.json`.
pub(super) async fn document(Extension(Served(routes)): Extension<Served>) -> Response<Body> {
    json_response(StatusCode::OK, &described(&routes), "application/json")
}

fn described(routes: &[&Route]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Conductor Gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A task becomes a job; every reader of the job sees the same numbered events. The contract is that of the gRPC \
                service `conductor.gateway.v1.GatewayService` (docs/grpc); a refusal is a problem document (RFC 9457) with a stable `reason`.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        // Relative to this document, so that it holds behind a proxy that adds a path.
        "servers": [{"url": "./"}],
        "tags": [
            {"name": "jobs", "description": "Submitting tasks, following, answering and cancelling jobs."},
            {"name": "conversations", "description": "What a caller has said under one id."},
            {"name": "catalogue", "description": "The engine's agents and the tools."},
            {"name": "gateway", "description": "What this gateway is and how it is."},
            {"name": "pages", "description": "Pages for people, and this document."},
            {"name": "compatibility", "description": "For clients of the earlier gateway."},
        ],
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn schemas() -> Map<String, Value> {
    let contract = contract();
    let mut schemas = contract.schemas();
    schemas.extend(answers::schemas());
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    schemas.extend([
        ("Event".to_owned(), contract.event_schema()),
        ("EventOrJob".to_owned(), json!({
            "oneOf": [reference("Event"), {
                "type": "object", "description": "A job as its summary, on the stream of all of the caller's jobs.",
                "properties": {"event": {"const": "job"}, "data": reference("Job")}, "required": ["event", "data"],
            }],
        })),
        ("ToolList".to_owned(), json!({
            "type": "object", "properties": {"tools": {"type": "array", "items": reference("Tool")}}, "required": ["tools"],
        })),
        ("Problem".to_owned(), json!({
            "type": "object", "description": "A refusal, or the end of a job that did not succeed (RFC 9457).",
            "properties": {
                "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                "detail": {"type": "string", "description": "What is wrong and what to do about it."},
                "reason": {"type": "string", "enum": reasons, "description": "The stable reason; docs/errors says what each means."},
                "field": {"type": "string", "description": "What of the request is wrong."},
                "job_id": {"type": "string"},
                "last_sequence": {"type": "integer", "minimum": 0},
                "state": reference("JobState"),
                "is_retryable": {"type": "boolean", "description": "Whether the same task may succeed later."},
                "question": {"description": "What the job asks.", "anyOf": [reference("InputQuestion"), {"type": "null"}]},
            },
            "required": ["type", "title", "status", "detail", "reason"],
        })),
        ("TaskBody".to_owned(), task_body()),
        ("AnyBody".to_owned(), json!({"type": "object", "description": "docs/compatibility.md has the members."})),
        ("CancelBody".to_owned(), json!({
            "type": "object",
            "properties": {"wait_seconds": {"type": "integer", "minimum": 0, "maximum": u32::MAX, "description": "How long to wait for the end."}},
        })),
        ("InputBody".to_owned(), json!({
            "type": "object",
            "properties": {
                "input_id": {"type": "string", "description": "The question."},
                "value": {"description": "The answer, which fits the question's schema."},
            },
            "required": ["input_id", "value"],
        })),
    ]);
    schemas
}

/// A task in one of three forms, with its options beside it.
fn task_body() -> Value {
    let contract = contract();
    let mut properties = Map::new();
    properties.insert("command".into(), json!({"type": "string", "minLength": 1, "description": "Natural language or a literal command line for the gateway's own agent."}));
    properties.insert(
        "agent_id".into(),
        json!({"type": "string", "description": "The agent to run, without planning."}),
    );
    properties
        .insert("input_text".into(), json!({"type": "string", "description": "What the agent is told."}));
    properties.insert("tool".into(), json!({"type": "string", "description": "The tool to call."}));
    properties.insert(
        "arguments".into(),
        json!({"type": "object", "description": "Its arguments, which fit its `input_schema`."}),
    );
    let schemas = contract.schemas();
    for (name, schema) in schemas["TaskOptions"]["properties"].as_object().into_iter().flatten() {
        let mut schema = schema.clone();
        if name == "max_cost" {
            schema["type"] = json!(["string", "number"]);
        }
        properties.insert(name.clone(), schema);
    }
    json!({
        "type": "object",
        "description": "A task: `command`, or `agent_id` with `input_text`, or `tool` with `arguments`; with the options beside it. Other members are ignored.",
        "properties": properties,
        "oneOf": [{"required": ["command"]}, {"required": ["agent_id", "input_text"]}, {"required": ["tool"]}],
    })
}

fn operation(route: &Route) -> Value {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |place: &str, (name, kind, about): &Parameter| {
        let schema = match *kind {
            "integer" => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            kind => json!({"type": kind}),
        };
        json!({"name": name, "in": place, "required": place == "path", "schema": schema, "description": about})
    };
    let parameters: Vec<Value> = in_path
        .map(|name| parameter("path", &(name, "string", about(name))))
        .chain(route.query.iter().map(|one| parameter("query", one)))
        .chain(route.headers.iter().map(|one| parameter("header", one)))
        .collect();
    let mut responses = Map::new();
    for (status, content) in route.answers {
        responses.insert(status.to_string(), answer(*status, *content));
    }
    let refusals = EVERYWHERE.iter().filter(|_| !is_probe(route)).chain(route.problems);
    for status in refusals {
        let described = || {
            json!({
                "description": meaning(*status),
                "content": {"application/problem+json": {"schema": reference("Problem")}},
            })
        };
        responses.entry(status.to_string()).or_insert_with(described);
    }
    let mut operation = json!({
        "operationId": route.id, "tags": [route.tag], "summary": route.summary, "parameters": parameters, "responses": responses,
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({"required": body == "TaskBody" || body == "InputBody", "content": {"application/json": {"schema": reference(body)}}});
    }
    if route.is_deprecated {
        operation["deprecated"] = Value::Bool(true);
    }
    operation
}

fn is_probe(route: &Route) -> bool {
    matches!(route.path, "/health/live" | "/health/ready")
}

fn about(parameter: &str) -> &'static str {
    match parameter {
        "job_id" => "The job.",
        "conversation_id" => "The conversation.",
        "agent_id" => "The agent.",
        _ => "The reason's name.",
    }
}

fn answer(status: u16, content: Content) -> Value {
    let described = meaning(status);
    match content {
        Content::Json(schema) => {
            json!({"description": described, "content": {"application/json": {"schema": reference(schema)}}})
        }
        Content::Events(schema) => json!({
            "description": "Server-sent events. `id` goes into `Last-Event-ID` to go on behind it; a comment is a sign of life; \
                a stream that ends without `end_of_stream` was cut.",
            "content": {"text/event-stream": {"schema": {"type": "string", "contentMediaType": "application/json", "contentSchema": reference(schema)}}},
        }),
        Content::Text("application/json") => {
            json!({"description": described, "content": {"application/json": {"schema": {"type": "object"}}}})
        }
        Content::Text(kind) => {
            json!({"description": described, "content": {kind: {"schema": {"type": "string"}}}})
        }
        Content::Empty => json!({"description": described}),
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        200 => "As asked.",
        204 => "Done, or there is nothing more.",
        206 => "The range.",
        304 => "It is the one that is known.",
        400 => "What is asked cannot be read, or is not allowed.",
        401 => "The request does not name its caller.",
        403 => "The page or the host name is not one of this gateway's.",
        404 => "There is no such thing, or it is somebody else's.",
        408 => "The body did not arrive in time.",
        409 => "It does not fit what is so now: see the reason.",
        413 => "The body is too large.",
        415 => "The body is not JSON.",
        416 => "The range is outside of the answer.",
        422 => "The body is not what is expected, or the job failed by a mistake of its caller.",
        429 => "Too many requests or jobs at once; `Retry-After` says when to come again.",
        500 => "A fault of the gateway, or the job was interrupted.",
        502 => "The engine, a tool or the model failed.",
        503 => "Not now; `Retry-After` says when to come again.",
        504 => "The job, or the model, took too long.",
        _ => "See the reason.",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::routes::{COMPATIBILITY, CONSOLE, ROUTES},
        *,
    };

    /// Every name that is referred to is there, and every operation has a name of its own.
    #[test]
    fn nothing_is_referred_to_that_is_not_there() {
        let schemas = schemas();
        let mut ids = BTreeSet::new();
        let mut texts = vec![Value::Object(schemas.clone()).to_string()];
        for route in ROUTES.iter().chain(CONSOLE).chain(COMPATIBILITY) {
            assert!(ids.insert(route.id), "{} is there twice", route.id);
            texts.push(operation(route).to_string());
        }
        for text in texts {
            for named in text.split("#/components/schemas/").skip(1) {
                let name = named.split('"').next().unwrap();
                assert!(schemas.contains_key(name), "{name}");
            }
        }
    }
}
