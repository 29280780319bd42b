//! The health probes and the metrics.

use std::sync::Arc;

use axum::{body::Body, extract::State};
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    super::{Operations, problem::json_response},
    answers::{Endpoints, FoundServer, Health, HealthOfAgent, Probe},
};
use crate::telemetry;

/// `GET /health`: describes this gateway, whether or not it is ready.
pub(super) async fn health(State(operations): State<Arc<Operations>>) -> Response<Body> {
    let info = operations.info();
    let detected = operations.directory_service().detected_models();
    let found = detected.iter();
    let document = Health {
        status: "healthy",
        service: "conductor-gateway",
        version: &info.version,
        mode: &info.planner,
        agent: HealthOfAgent {
            planner: &info.planner,
            provider: &info.provider,
            model: &info.model,
            reason: &info.planner_reason,
            found_on_this_machine: found
                .map(|(base_url, provider, models)| FoundServer { base_url, provider, models })
                .collect(),
        },
        engine: &info.engine,
        running_jobs: info.running_jobs,
        queued_jobs: info.queued_jobs,
        endpoints: Endpoints {
            api: format!("http://{}/api/v1", operations.addresses().api),
            mcp: operations.addresses().mcp_url(),
            health: "/health",
        },
    };
    json_response(StatusCode::OK, &document, "application/json")
}

/// `GET /health/live`: 200 whenever the process responds.
pub(super) async fn live() -> Response<Body> {
    json_response(StatusCode::OK, &Probe { status: "live" }, "application/json")
}

/// `GET /health/ready`: 200 while the store takes data and the engine can run; 503 with the reason otherwise, and from the
/// first moment of a shutdown.
pub(super) async fn ready(State(operations): State<Arc<Operations>>) -> Response<Body> {
    let against = operations.service().readiness().borrow().clone();
    let (status, word) = match against {
        None => (StatusCode::OK, "ready".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    json_response(status, &Probe { status: &word }, "application/json")
}

/// `GET /metrics`: the metrics of this process as OpenMetrics text. They name no caller.
pub(super) async fn metrics(State(operations): State<Arc<Operations>>) -> Response<Body> {
    let info = operations.info();
    let text = telemetry::exposition(&[
        ("running_jobs", "Jobs that run now", info.running_jobs.into()),
        ("queued_jobs", "Jobs that wait for their turn", info.queued_jobs.into()),
        ("live_tasks", "Tasks of the asynchronous runtime", info.live_tasks),
    ]);
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
