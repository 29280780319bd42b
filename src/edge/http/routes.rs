//! The table of the routes: what the router is built from, and what describes it.

use std::sync::Arc;

use axum::{
    Extension, Router,
    routing::{delete, get, post},
};

use super::{
    super::Operations,
    compatibility, console, health, jobs, openapi, pages, result,
    route::{Content, Parameter, Route, Served},
    sse, watch,
};

const BASE: Route = Route {
    method: "get",
    path: "",
    handler: || get(health::live),
    id: "",
    tag: "gateway",
    summary: "",
    query: &[],
    headers: &[],
    body: None,
    answers: &[],
    problems: &[],
    is_deprecated: false,
};

const PAGE: &[Parameter] = &[
    ("page_size", "integer", "The most to answer with, 1 to 500; left out or 0, the default of the call."),
    ("page_token", "string", "Where the page begins: the token of the page before."),
];
const JOB_FILTER: &[Parameter] = &[
    ("state", "string", "Only jobs in this state, such as `running`; several with commas, or repeated."),
    ("label", "string", "Only jobs with this label, `key:value`; several with commas, or repeated."),
    ("conversation_id", "string", "Only jobs of this conversation."),
    (
        "text",
        "string",
        "Only jobs whose title, or a label of which (`key:value`), contains this, whatever its case.",
    ),
    ("view", "string", "How much of each job: `summary` (the default) or `full`."),
    PAGE[0],
    PAGE[1],
];
const KEY: &[Parameter] = &[(
    "Idempotency-Key",
    "string",
    "1 to 255 visible ASCII characters. The same key with the same task is the same job.",
)];
/// The refusals of a submission.
const SUBMISSION: &[u16] = &[408, 409, 413, 415, 422];
const HTML: Content = Content::Text("text/html");

/// Every route but those that the configuration may switch off.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "post",
        path: "/execute",
        handler: || post(jobs::execute),
        id: "execute",
        tag: "jobs",
        summary: "Submits a task and waits for its job. 200 means that the job succeeded; a job that did not is a problem with its `job_id`.",
        headers: KEY,
        body: Some("TaskBody"),
        answers: &[(200, Content::Json("Executed"))],
        problems: &[408, 409, 413, 415, 422, 502, 504],
        ..BASE
    },
    Route {
        method: "post",
        path: "/api/v1/stream-execute",
        handler: || post(jobs::stream_execute),
        id: "submitJob",
        tag: "jobs",
        summary: "Submits a task and answers at once with its job and where its events are.",
        headers: KEY,
        body: Some("TaskBody"),
        answers: &[(200, Content::Json("Accepted"))],
        problems: SUBMISSION,
        ..BASE
    },
    Route {
        path: "/api/v1/stream/{job_id}",
        handler: || get(sse::stream),
        id: "watchJob",
        tag: "jobs",
        summary: "Follows a job's events from any point, as often as wanted. 204 when everything was seen.",
        query: &[(
            "after",
            "integer",
            "The last sequence already seen; 0 for all. `Last-Event-ID` beats it.",
        )],
        headers: &[("Last-Event-ID", "string", "The last sequence already seen.")],
        answers: &[(200, Content::Events("Event")), (204, Content::Empty)],
        problems: &[404],
        ..BASE
    },
    Route {
        path: "/api/v1/watch",
        handler: || get(watch::watch),
        id: "watchJobs",
        tag: "jobs",
        summary: "Follows up to 64 jobs on one stream with all of their events, or without `job` all of the caller's as their states change.",
        query: &[
            ("job", "string", "`ID` or `ID:SEQUENCE`; several with commas, or repeated."),
            ("cursor", "string", "An id of this stream, to go on behind it. `Last-Event-ID` beats it."),
        ],
        headers: &[("Last-Event-ID", "string", "An id of this stream, to go on behind it.")],
        answers: &[(200, Content::Events("EventOrJob")), (204, Content::Empty)],
        problems: &[404],
        ..BASE
    },
    Route {
        path: "/api/v1/jobs",
        handler: || get(jobs::list),
        id: "listJobs",
        tag: "jobs",
        summary: "Lists the caller's jobs, newest first, as summaries unless `view` says otherwise.",
        query: JOB_FILTER,
        answers: &[(200, Content::Json("JobList"))],
        ..BASE
    },
    Route {
        path: "/api/v1/jobs/{job_id}",
        handler: || get(jobs::get),
        id: "getJob",
        tag: "jobs",
        summary: "Reads one job.",
        answers: &[(200, Content::Json("Job"))],
        problems: &[404],
        ..BASE
    },
    Route {
        method: "delete",
        path: "/api/v1/jobs/{job_id}",
        handler: || delete(jobs::delete),
        id: "deleteJob",
        tag: "jobs",
        summary: "Removes an ended job and its events.",
        answers: &[(204, Content::Empty)],
        problems: &[404, 409],
        ..BASE
    },
    Route {
        path: "/api/v1/jobs/{job_id}/result",
        handler: || get(result::result),
        id: "getJobResult",
        tag: "jobs",
        summary: "Reads the whole answer of a job that succeeded, as text; ranges and conditions are understood.",
        headers: &[
            ("Range", "string", "One range of bytes, such as `bytes=0-65535`."),
            ("If-None-Match", "string", "An ETag of an answer that is known already."),
        ],
        answers: &[
            (200, Content::Text("text/plain")),
            (206, Content::Text("text/plain")),
            (304, Content::Empty),
        ],
        problems: &[404, 409, 416],
        ..BASE
    },
    Route {
        method: "post",
        path: "/api/v1/jobs/{job_id}/cancel",
        handler: || post(jobs::cancel),
        id: "cancelJob",
        tag: "jobs",
        summary: "Asks a job to end, and waits for it where asked to. Cancelling an ended job changes nothing. Unknown members are named in `ignored_members`.",
        body: Some("CancelBody"),
        answers: &[(200, Content::Json("Job"))],
        problems: &[404, 408, 413, 415, 422],
        ..BASE
    },
    Route {
        method: "post",
        path: "/api/v1/jobs/{job_id}/input",
        handler: || post(jobs::input),
        id: "sendInput",
        tag: "jobs",
        summary: "Answers the open question of a job. Unknown members are named in `ignored_members`.",
        body: Some("InputBody"),
        answers: &[(200, Content::Json("Job"))],
        problems: &[404, 408, 409, 413, 415, 422],
        ..BASE
    },
    Route {
        path: "/api/v1/conversations",
        handler: || get(jobs::conversations),
        id: "listConversations",
        tag: "conversations",
        summary: "Lists the caller's conversations, the latest used first.",
        query: PAGE,
        answers: &[(200, Content::Json("ConversationList"))],
        problems: &[502],
        ..BASE
    },
    Route {
        method: "delete",
        path: "/api/v1/conversations/{conversation_id}",
        handler: || delete(jobs::delete_conversation),
        id: "deleteConversation",
        tag: "conversations",
        summary: "Removes a conversation with everything that was said in it.",
        answers: &[(204, Content::Empty)],
        problems: &[404, 409, 502],
        ..BASE
    },
    Route {
        path: "/api/v1/agents",
        handler: || get(jobs::agents),
        id: "listAgents",
        tag: "catalogue",
        summary: "Lists the engine's agents by id.",
        query: PAGE,
        answers: &[(200, Content::Json("AgentList"))],
        problems: &[502, 504],
        ..BASE
    },
    Route {
        path: "/api/v1/tools",
        handler: || get(jobs::tools),
        id: "listTools",
        tag: "catalogue",
        summary: "Lists the tools with the JSON Schemas of their arguments and results.",
        answers: &[(200, Content::Json("ToolList"))],
        ..BASE
    },
    Route {
        path: "/api/v1/info",
        handler: || get(jobs::info),
        id: "getServerInfo",
        summary: "Says what this gateway is and can do, and how large things may be.",
        answers: &[(200, Content::Json("Info"))],
        ..BASE
    },
    Route {
        path: "/health",
        handler: || get(health::health),
        id: "health",
        summary: "What runs here, for people.",
        answers: &[(200, Content::Json("Health"))],
        ..BASE
    },
    Route {
        path: "/health/live",
        handler: || get(health::live),
        id: "live",
        summary: "200 whenever the process responds.",
        answers: &[(200, Content::Json("Probe"))],
        ..BASE
    },
    Route {
        path: "/health/ready",
        handler: || get(health::ready),
        id: "ready",
        summary: "200 while the store takes data and the engine can run; 503 with the reason otherwise.",
        answers: &[(200, Content::Json("Probe")), (503, Content::Json("Probe"))],
        ..BASE
    },
    Route {
        path: "/metrics",
        handler: || get(health::metrics),
        id: "metrics",
        summary: "The metrics of this process.",
        answers: &[(200, Content::Text("application/openmetrics-text"))],
        ..BASE
    },
    Route {
        path: "/openapi.json",
        handler: || get(openapi::document),
        id: "openapi",
        tag: "pages",
        summary: "This document.",
        answers: &[(200, Content::Text("application/json"))],
        ..BASE
    },
    Route {
        path: "/docs/grpc",
        handler: || get(pages::grpc),
        id: "grpcReference",
        tag: "pages",
        summary: "The gRPC contract, from its comments.",
        answers: &[(200, HTML)],
        ..BASE
    },
    Route {
        path: "/docs/errors",
        handler: || get(pages::errors),
        id: "listErrors",
        tag: "pages",
        summary: "Every reason of an error.",
        answers: &[(200, HTML)],
        ..BASE
    },
    Route {
        path: "/docs/errors/{reason}",
        handler: || get(pages::error),
        id: "getError",
        tag: "pages",
        summary: "What a reason means and what to do.",
        answers: &[(200, HTML)],
        problems: &[404],
        ..BASE
    },
];

/// The pages that need scripts, where the console is on.
pub(super) const CONSOLE: &[Route] = &[
    Route {
        path: "/",
        handler: || get(console::index),
        id: "console",
        tag: "pages",
        summary: "The console, a page for people.",
        answers: &[(200, HTML), (304, Content::Empty)],
        ..BASE
    },
    Route {
        path: "/docs",
        handler: || get(console::reference),
        id: "reference",
        tag: "pages",
        summary: "The reference of this API, with requests to try.",
        answers: &[(200, HTML), (304, Content::Empty)],
        ..BASE
    },
];

/// The page at `/`, where the console is off.
pub(super) const START: &[Route] = &[Route {
    path: "/",
    handler: || get(pages::start),
    id: "start",
    tag: "pages",
    summary: "What this address is.",
    answers: &[(200, HTML)],
    ..BASE
}];

/// The routes of the earlier gateway, where its clients are served.
pub(super) const COMPATIBILITY: &[Route] = &[
    Route {
        path: "/api/agents",
        handler: || get(compatibility::agents),
        id: "listAgentsCompatible",
        tag: "compatibility",
        summary: "As the earlier gateway; see `/api/v1/agents`.",
        answers: &[(200, Content::Text("application/json"))],
        problems: &[502, 504],
        is_deprecated: true,
        ..BASE
    },
    Route {
        method: "post",
        path: "/api/agents/{agent_id}/execute",
        handler: || post(compatibility::execute_agent),
        id: "executeAgentCompatible",
        tag: "compatibility",
        summary: "As the earlier gateway; see `/execute`.",
        headers: KEY,
        body: Some("AnyBody"),
        answers: &[(200, Content::Json("Executed"))],
        problems: &[408, 409, 413, 415, 422, 502, 504],
        is_deprecated: true,
        ..BASE
    },
    Route {
        method: "post",
        path: "/conductor/execute",
        handler: || post(compatibility::execute),
        id: "conductorExecuteCompatible",
        tag: "compatibility",
        summary: "As the earlier gateway; see `/execute`.",
        headers: KEY,
        body: Some("AnyBody"),
        answers: &[(200, Content::Json("Executed"))],
        problems: &[408, 409, 413, 415, 422, 502, 504],
        is_deprecated: true,
        ..BASE
    },
    Route {
        method: "post",
        path: "/execute-agent",
        handler: || post(compatibility::execute),
        id: "executeCompatible",
        tag: "compatibility",
        summary: "As the earlier gateway; see `/execute`.",
        headers: KEY,
        body: Some("AnyBody"),
        answers: &[(200, Content::Json("Executed"))],
        problems: &[408, 409, 413, 415, 422, 502, 504],
        is_deprecated: true,
        ..BASE
    },
];

/// Returns the router of these routes, as the configuration says.
pub(super) fn router(operations: &Operations) -> Router<Arc<Operations>> {
    let start = if operations.has_console() { CONSOLE } else { START };
    let compatible = if operations.is_compatible() { COMPATIBILITY } else { &[] };
    let served: Arc<[&Route]> = ROUTES.iter().chain(start).chain(compatible).collect();
    let router =
        served.iter().fold(Router::new(), |router, route| router.route(route.path, (route.handler)()));
    let router = match operations.has_console() {
        // Files of the pages, which are no operations.
        true => router.route("/console/{name}", get(console::file)),
        false => router,
    };
    router.layer(Extension(Served(served)))
}
