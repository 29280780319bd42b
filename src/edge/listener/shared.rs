//! What the connections of a listener share, and what is known of a connection's client.

use super::super::{
    Capacity, OriginPolicy, ServerConfig, access::HeaderPolicy, connection_table::OpenConnection,
    disconnect::DisconnectSignal, requests::RequestGuard,
};
use axum::{Router, body::Body};
use http::Response;
use std::sync::Arc;

/// What all connections share.
pub(super) struct ListenerShared {
    pub(super) router: Router,
    pub(super) config: ServerConfig,
    pub(super) caller_header: Option<http::HeaderName>,
    pub(super) origins: OriginPolicy,
    pub(super) headers: HeaderPolicy,
    pub(super) capacity: Capacity,
}

/// What belongs to one connection.
#[derive(Clone)]
pub(super) struct ConnectionClient {
    pub(super) departed: DisconnectSignal,
    pub(super) open: Arc<OpenConnection>,
}

/// A response, and the request's entry in the shared quota.
pub(super) type AnsweredRequest = (Response<Body>, Option<Arc<RequestGuard>>);
