//! What sessions have subscribed to beside the answers to their calls: changes of the agents, and lines of the log.

#![expect(deprecated, reason = "clients of older versions still set a log level")]

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use rmcp::{
    RoleServer,
    model::{LoggingLevel, ProtocolVersion},
    service::{Peer, RequestContext},
};
use tokio_util::sync::CancellationToken;

use crate::sync::lock;

/// How many resources one session may subscribe to.
pub(super) const MAX_WATCHED: usize = 100;

/// What one session of the older protocol versions has asked for.
pub(super) struct SubscribedSession {
    peer: Peer<RoleServer>,
    pub(super) level: Option<LoggingLevel>,
    pub(super) watched: HashMap<String, CancellationToken>,
}

/// The sessions that have asked for something. Those whose client is gone are removed when another one asks.
#[derive(Default)]
pub(super) struct Subscriptions(Mutex<HashMap<String, SubscribedSession>>);

/// Returns the session id of a request; empty on standard streams, where there is one session.
pub(super) fn session_id(context: &RequestContext<RoleServer>) -> String {
    let parts = context.extensions.get::<http::request::Parts>();
    let id = parts.and_then(|parts| parts.headers.get("mcp-session-id")).and_then(|id| id.to_str().ok());
    id.unwrap_or_default().to_owned()
}

pub(super) fn is_sessionless(context: &RequestContext<RoleServer>) -> bool {
    context
        .protocol_version()
        .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

impl Subscriptions {
    pub(super) fn sessions(&self) -> MutexGuard<'_, HashMap<String, SubscribedSession>> {
        lock(&self.0)
    }

    pub(super) fn with<T>(
        &self,
        context: &RequestContext<RoleServer>,
        change: impl FnOnce(&mut SubscribedSession) -> T,
    ) -> T {
        let mut sessions = self.sessions();
        sessions.retain(|_, session| !session.peer.is_transport_closed());
        let session = sessions.entry(session_id(context)).or_insert_with(|| SubscribedSession {
            peer: context.peer.clone(),
            level: None,
            watched: HashMap::new(),
        });
        change(session)
    }
}
