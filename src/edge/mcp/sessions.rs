//! The sessions of clients whose protocol version has them: who owns each, whether it is in use, and how many there may be.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use http_body_util::BodyExt;
use rmcp::transport::streamable_http_server::session::SessionManager as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{refusals::too_many, session_manager::ResumableSessionManager};
use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
    quota::{Bounds, Quota},
    sync::lock,
};

#[derive(Debug)]
struct SessionEntry {
    caller: Principal,
    /// The number of calls in progress.
    calls: usize,
    /// The number of streams on which the client only listens.
    streams: usize,
    last_used: Instant,
}

#[derive(Debug)]
struct SessionTable {
    known: HashMap<Arc<str>, SessionEntry>,
    quota: Quota,
}

type SharedSessionTable = Arc<Mutex<SessionTable>>;

/// All open sessions.
pub(super) struct Sessions {
    manager: Arc<ResumableSessionManager>,
    table: SharedSessionTable,
    bounds: Bounds,
    idle: Duration,
}

/// A request or stream of a session; the session is not idle until this is dropped.
#[derive(Debug)]
pub(super) struct SessionUseGuard {
    table: SharedSessionTable,
    id: Arc<str>,
    is_stream: bool,
}

impl Drop for SessionUseGuard {
    fn drop(&mut self) {
        if let Some(known) = lock(&self.table).known.get_mut(&self.id) {
            let uses = if self.is_stream { &mut known.streams } else { &mut known.calls };
            *uses -= 1;
            known.last_used = Instant::now();
        }
    }
}

impl SessionTable {
    fn remove(&mut self, id: &str) {
        if let Some(known) = self.known.remove(id) {
            self.quota.give_back(&known.caller);
        }
    }

    /// Returns the sessions that have been unused for at least `time`, the longest unused first. A session is in use while it
    /// works on a call, also if the call's client was cut off and has yet to come back.
    fn unused(
        &self,
        manager: &ResumableSessionManager,
        time: Duration,
        matches: impl Fn(&SessionEntry) -> bool,
    ) -> Vec<Arc<str>> {
        let now = Instant::now();
        let last_used = |id: &Arc<str>, known: &SessionEntry| {
            manager.last_work(id).map_or(known.last_used, |work| work.max(known.last_used))
        };
        let mut unused: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| known.calls == 0 && matches(known))
            .map(|(id, known)| (last_used(id, known), id.clone()))
            .filter(|(last_used, _)| *last_used < now && now.duration_since(*last_used) >= time)
            .collect();
        unused.sort();
        unused.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns the session to close so that a caller can open one: of the caller that has most, the longest unused one
    /// without a call; if the caller itself has most or has reached its own bound, its own longest idle one, if that has been
    /// unused for `idle`.
    fn preemption_victim(
        &self,
        manager: &ResumableSessionManager,
        caller: &Principal,
        idle: Duration,
    ) -> Option<Arc<str>> {
        let first = |unused: Vec<Arc<str>>| unused.into_iter().next();
        let holder = self.quota.preemption_victim(caller).filter(|_| !self.quota.is_exhausted_by(caller));
        match holder {
            Some(holder) => first(self.unused(manager, Duration::ZERO, |known| known.caller == *holder)),
            None => first(self.unused(manager, idle, |known| known.streams == 0 && known.caller == *caller)),
        }
    }
}

impl Sessions {
    pub(super) fn new(manager: Arc<ResumableSessionManager>, bounds: Bounds, idle: Duration) -> Self {
        let state = SessionTable { known: HashMap::new(), quota: Quota::new(bounds) };
        Self { manager, table: Arc::new(Mutex::new(state)), bounds, idle }
    }

    /// Marks a session as used by a request. `is_stream`: the client only listens on it.
    ///
    /// # Errors
    /// [`Reason::RouteNotFound`] if the session does not exist, has ended, or belongs to another caller.
    pub(super) fn enter(&self, id: &str, caller: &Principal, is_stream: bool) -> Result<SessionUseGuard> {
        let mut state = lock(&self.table);
        let id = state.known.get_key_value(id).map(|(id, _)| id.clone());
        match id.and_then(|id| Some((state.known.get_mut(&id)?, id))) {
            Some((known, id)) if known.caller == *caller => {
                let uses = if is_stream { &mut known.streams } else { &mut known.calls };
                *uses += 1;
                Ok(SessionUseGuard { table: self.table.clone(), id, is_stream })
            }
            _ => Err(Error::new(Reason::RouteNotFound, "there is no such session; initialize a new one")),
        }
    }

    /// Registers a session that a request, still in progress, has opened. If there are too many, another one is closed: see
    /// [`SessionTable::preemption_victim`].
    ///
    /// # Errors
    /// [`Reason::TooManySessions`]; the new session is closed.
    pub(super) async fn opened(&self, id: &str, caller: Principal) -> Result<SessionUseGuard> {
        let id: Arc<str> = id.into();
        let (closed, is_open) = {
            let mut state = lock(&self.table);
            let has_room = !state.quota.is_full() && !state.quota.is_exhausted_by(&caller);
            let closed = match has_room {
                true => None,
                false => state.preemption_victim(&self.manager, &caller, self.idle / 10),
            };
            if let Some(closed) = &closed {
                state.remove(closed);
            }
            let is_open = has_room || closed.is_some();
            if is_open {
                state.quota.take(&caller);
                let known = SessionEntry { caller, calls: 1, streams: 0, last_used: Instant::now() };
                state.known.insert(id.clone(), known);
            }
            (closed, is_open)
        };
        if let Some(closed) = closed {
            tracing::debug!(session = &*closed, "an MCP session makes room for another one");
            self.close(&closed).await;
        }
        if is_open {
            return Ok(SessionUseGuard { table: self.table.clone(), id, is_stream: false });
        }
        self.close(&id).await;
        Err(too_many(self.bounds))
    }

    pub(super) fn forget(&self, id: &str) {
        lock(&self.table).remove(id);
    }

    async fn close(&self, id: &Arc<str>) {
        if let Err(error) = self.manager.close_session(id).await {
            tracing::debug!(%error, "an MCP session was not closed");
        }
    }

    /// Closes sessions that nobody uses, until `stop` is cancelled.
    pub(super) async fn end_idle_ones(self: Arc<Self>, stop: CancellationToken) {
        let mut interval =
            tokio::time::interval((self.idle / 4).clamp(Duration::from_millis(200), Duration::from_secs(30)));
        let mut strangers = HashSet::new();
        loop {
            tokio::select! {
                // Cancel safe: both branches only wait.
                _ = interval.tick() => {}
                () = stop.cancelled() => return,
            }
            let idle = {
                // Removed under the same lock under which they were found idle, so that no request can enter them.
                let mut state = lock(&self.table);
                let idle = state.unused(&self.manager, self.idle, |known| known.streams == 0);
                for id in &idle {
                    state.remove(id);
                }
                idle
            };
            for id in idle {
                tracing::debug!(session = &*id, "an idle MCP session is ended");
                self.close(&id).await;
            }
            // Sessions that the library ended by itself, and sessions whose opening request was dropped halfway.
            let now_strange: HashSet<Arc<str>> = {
                // Both locks are held until the end, so that a session opened meanwhile is seen in neither table or in both.
                let mut state = lock(&self.table);
                self.manager.with_sessions(|alive| {
                    let dead = |id: &&Arc<str>| !alive.contains_key(*id);
                    for id in state.known.keys().filter(dead).cloned().collect::<Vec<_>>() {
                        state.remove(&id);
                    }
                    alive.keys().filter(|id| !state.known.contains_key(*id)).cloned().collect()
                })
            };
            for id in now_strange.intersection(&strangers) {
                self.close(id).await;
            }
            strangers = now_strange;
        }
    }
}

/// Makes a response body keep its session in use until it is dropped.
pub(super) fn guarded(body: Body, in_use: Option<SessionUseGuard>) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _in_use = &in_use;
        frame
    }))
}
