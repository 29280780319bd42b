//! The sessions of the protocol's library, held so that a client that was cut off can read the rest of a stream: its answer
//! and the questions asked in the meantime (MCP 2025-11-25, transports, resumability).
//!
//! The library's own sessions forget a stream as soon as it is answered, which leaves a disconnected client waiting for its
//! timeout, and they pass each message through two tasks more. (`mcp_messages::a_cut_call_gets_its_answer`)

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicIsize, Ordering},
    },
};

use futures_util::{Stream, StreamExt};
use rmcp::{
    RoleServer,
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::{
        Transport,
        common::server_side_http::{ServerSseMessage, SessionId, session_id},
        streamable_http_server::session::SessionManager,
    },
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    routes::StreamNumber,
    session::{Session, SessionOver},
};
use crate::sync::lock;

/// The most bytes kept of all ended streams; beyond it the session that uses most loses its oldest.
const MAX_BYTES: isize = 64 * 1024 * 1024;

/// The open sessions. Clones share them.
#[derive(Clone, Default)]
pub(super) struct ResumableSessionManager {
    registry: Arc<Registry>,
}

#[derive(Default)]
struct Registry {
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
    /// The bytes of all ended streams.
    bytes: AtomicIsize,
}

impl Registry {
    /// Ends a session, and forgets it.
    fn close(&self, id: &SessionId) {
        let closed = lock(&self.sessions).remove(id);
        if let Some(session) = closed {
            self.bytes.fetch_sub(session.end() as isize, Ordering::Relaxed);
        }
    }

    /// Counts by how many bytes the ended streams grew, and makes room where they are too many.
    fn count(&self, grown: isize) {
        self.bytes.fetch_add(grown, Ordering::Relaxed);
        while self.bytes.load(Ordering::Relaxed) > MAX_BYTES {
            let most = lock(&self.sessions).values().max_by_key(|session| session.ended_bytes()).cloned();
            let Some(released) = most.and_then(|session| session.remove_oldest()) else { return };
            self.bytes.fetch_sub(released as isize, Ordering::Relaxed);
        }
    }
}

/// The service's side of a session, which ends with it, however the service ended.
pub(super) struct SessionTransport {
    id: SessionId,
    session: Arc<Session>,
    registry: Arc<Registry>,
    from_client: mpsc::Receiver<ClientJsonRpcMessage>,
}

impl Transport<RoleServer> for SessionTransport {
    type Error = SessionOver;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), SessionOver>> + Send + 'static {
        std::future::ready(self.session.route(message).map(|grown| self.registry.count(grown)))
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let message = self.from_client.recv().await;
        message.or_else(|| self.session.next_cancellation())
    }

    async fn close(&mut self) -> Result<(), SessionOver> {
        self.registry.close(&self.id);
        Ok(())
    }
}

impl Drop for SessionTransport {
    fn drop(&mut self) {
        self.registry.close(&self.id);
    }
}

/// There is no such session, or it is over.
#[derive(Debug, thiserror::Error)]
#[error("there is no such session")]
pub(super) struct NoSuchSession;

impl From<SessionOver> for NoSuchSession {
    fn from(_: SessionOver) -> Self {
        Self
    }
}

/// Parses an event's id: its index, then the number of its stream, if it is a request's.
fn parse_id(id: &str) -> Option<(u64, Option<StreamNumber>)> {
    match id.split_once('/') {
        Some((index, number)) => Some((index.parse().ok()?, Some(number.parse().ok()?))),
        None => Some((id.parse().ok()?, None)),
    }
}

impl ResumableSessionManager {
    fn session(&self, id: &str) -> Result<Arc<Session>, NoSuchSession> {
        lock(&self.registry.sessions).get(id).cloned().ok_or(NoSuchSession)
    }

    /// Returns when a session last worked on a request, whether or not its client was connected; now, if it still does.
    pub(super) fn last_work(&self, id: &str) -> Option<Instant> {
        self.session(id).ok()?.last_work()
    }

    /// Calls a function with all open sessions while none can be opened or closed.
    pub(super) fn with_sessions<T>(&self, look: impl FnOnce(&HashMap<SessionId, Arc<Session>>) -> T) -> T {
        look(&lock(&self.registry.sessions))
    }
}

impl SessionManager for ResumableSessionManager {
    type Error = NoSuchSession;
    type Transport = SessionTransport;

    async fn create_session(&self) -> Result<(SessionId, SessionTransport), NoSuchSession> {
        let id = session_id();
        let (session, from_client) = Session::new();
        let session = Arc::new(session);
        lock(&self.registry.sessions).insert(id.clone(), session.clone());
        Ok((id.clone(), SessionTransport { id, session, registry: self.registry.clone(), from_client }))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, NoSuchSession> {
        Ok(self.session(id)?.initialize(message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, NoSuchSession> {
        Ok(self.session(id).is_ok())
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), NoSuchSession> {
        self.registry.close(id);
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, NoSuchSession> {
        Ok(self.session(id)?.request(message).await?)
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), NoSuchSession> {
        let grown = self.session(id)?.accept(message).await?;
        self.registry.count(grown);
        Ok(())
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, NoSuchSession> {
        Ok(self.session(id)?.standalone(None))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, NoSuchSession> {
        let session = self.session(id)?;
        match parse_id(&last_event_id).ok_or(NoSuchSession)? {
            (index, Some(number)) => Ok(session.resume(number, index).ok_or(NoSuchSession)?.left_stream()),
            (index, None) => Ok(session.standalone(Some(index)).right_stream()),
        }
    }
}
