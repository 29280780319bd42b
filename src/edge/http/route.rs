//! A route as data: what serves it, and what describes it.

use std::sync::Arc;

use axum::routing::MethodRouter;

use super::super::Operations;

/// What a route takes or answers with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// JSON of a schema.
    Json(&'static str),
    /// Server-sent events whose `data` is JSON of a schema.
    Events(&'static str),
    /// Text of a media type.
    Text(&'static str),
    /// Nothing.
    Empty,
}

/// A parameter in the query or a header: its name, the JSON type of its value, what it is.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

/// A route: one method of one path.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) handler: fn() -> MethodRouter<Arc<Operations>>,
    /// The name of the operation, unique.
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) headers: &'static [Parameter],
    /// The schema of the JSON body.
    pub(super) body: Option<&'static str>,
    pub(super) answers: &'static [(u16, Content)],
    /// Statuses of refusals beyond those that every route has.
    pub(super) problems: &'static [u16],
    /// Whether only clients of the earlier gateway should use it.
    pub(super) is_deprecated: bool,
}

/// The routes that a router serves.
#[derive(Clone)]
pub(super) struct Served(pub(super) Arc<[&'static Route]>);
