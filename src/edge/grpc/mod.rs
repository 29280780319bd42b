//! The gRPC door: the service, grpc-web on top of it, health, reflection (v1 and v1alpha).
//!
//! *May import:* `edge`, `job`, rank 0. *May not:* import the other doors.

mod deadline;
mod frames;
mod health;
mod service;
mod status;

use axum::{Router, body::Body, middleware};
use http::Response;
use tonic::service::Routes;

use super::Operations;
use crate::{
    error::Error,
    pb::{DESCRIPTORS, gateway_service_server::GatewayServiceServer},
};

/// Returns the gRPC routes. grpc-web is layered on these only, because it refuses every other HTTP/1.1 request.
pub(super) fn router(operations: Operations, max_message_bytes: usize) -> Router {
    let health = health::health(operations.service());
    let gateway = service::GrpcGateway::new(operations);
    let gateway = GatewayServiceServer::new(gateway)
        .max_decoding_message_size(max_message_bytes)
        .max_encoding_message_size(max_message_bytes);
    let mut routes = Routes::builder();
    routes.add_service(gateway);
    routes.add_service(health);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The Python client still uses v1alpha only.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes.add_service(v1);
            routes.add_service(v1alpha);
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "reflection is off"),
    }
    let routes = routes.routes().into_axum_router().reset_fallback();
    routes
        .layer(middleware::from_fn(deadline::enforce))
        .layer(tonic_web::GrpcWebLayer::new())
        .layer(middleware::from_fn(deadline::require_grpc_call))
}

/// Returns an error as a complete gRPC response, for requests that reach no method.
pub(super) fn refusal(error: &Error) -> Response<Body> {
    status::to_status(error).into_http()
}
