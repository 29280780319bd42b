//! The sessions of clients that speak a version with sessions: whose each is, whether it is in use, how many there are.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use rmcp::transport::streamable_http_server::session::{SessionManager, local::LocalSessionManager};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::too_many;
use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
};

#[derive(Debug)]
struct Known {
    caller: Principal,
    in_flight: usize,
    last_used: Instant,
}

type Table = Arc<Mutex<HashMap<Arc<str>, Known>>>;

/// Every session that is open.
pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    known: Table,
    max: usize,
    idle: Duration,
}

/// A request or stream of a session; the session is not idle while it lives.
#[derive(Debug)]
pub(super) struct InUse(Table, Arc<str>);

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(known) = lock(&self.0).get_mut(&self.1) {
            known.in_flight -= 1;
            known.last_used = Instant::now();
        }
    }
}

fn lock(table: &Table) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    pub(super) fn new(manager: Arc<LocalSessionManager>, max: usize, idle: Duration) -> Self {
        Self { manager, known: Table::default(), max, idle }
    }

    /// A request of a session.
    ///
    /// # Errors
    /// [`Reason::RouteNotFound`] for one that is not there, has ended, or is somebody else's.
    pub(super) fn enter(&self, id: &str, caller: &Principal) -> Result<InUse> {
        let mut table = lock(&self.known);
        let id = table.get_key_value(id).map(|(id, _)| id.clone());
        match id.and_then(|id| Some((table.get_mut(&id)?, id))) {
            Some((known, id)) if known.caller == *caller => {
                known.in_flight += 1;
                Ok(InUse(self.known.clone(), id))
            }
            _ => Err(Error::new(Reason::RouteNotFound, "there is no such session; initialize a new one")),
        }
    }

    /// A session was opened by a request that goes on. Where there are too many, the one that was idle for longest
    /// makes room, if it was so for a tenth of the idle time.
    ///
    /// # Errors
    /// [`Reason::TooManySessions`]; the new one is closed.
    pub(super) async fn opened(&self, id: &str, caller: Principal) -> Result<InUse> {
        let id: Arc<str> = id.into();
        let closed = {
            let mut table = lock(&self.known);
            let oldest =
                (table.len() >= self.max).then(|| idle_for(&table, self.idle / 10).into_iter().next());
            let closed = match oldest {
                None => None,
                Some(Some(oldest)) => {
                    table.remove(&oldest);
                    Some(oldest)
                }
                Some(None) => Some(id.clone()),
            };
            if closed.as_ref() != Some(&id) {
                table.insert(id.clone(), Known { caller, in_flight: 1, last_used: Instant::now() });
            }
            closed
        };
        let in_use = InUse(self.known.clone(), id.clone());
        match closed {
            None => Ok(in_use),
            Some(closed) => {
                self.close(&closed).await;
                if closed == id { Err(too_many(self.max)) } else { Ok(in_use) }
            }
        }
    }

    pub(super) fn forget(&self, id: &str) {
        lock(&self.known).remove(id);
    }

    async fn close(&self, id: &Arc<str>) {
        if let Err(error) = self.manager.close_session(id).await {
            tracing::debug!(%error, "an MCP session was not closed");
        }
    }

    /// Ends sessions that nobody uses.
    pub(super) async fn end_idle_ones(self: Arc<Self>, stop: CancellationToken) {
        let mut interval =
            tokio::time::interval((self.idle / 4).clamp(Duration::from_millis(200), Duration::from_secs(30)));
        let mut strangers = HashSet::new();
        loop {
            tokio::select! {
                // Both branches only wait.
                _ = interval.tick() => {}
                () = stop.cancelled() => return,
            }
            let idle = {
                // Removed under the lock in which they were seen idle: nobody enters them any more.
                let mut table = lock(&self.known);
                let idle = idle_for(&table, self.idle);
                for id in &idle {
                    table.remove(id);
                }
                idle
            };
            for id in idle {
                tracing::debug!(session = &*id, "an idle MCP session is ended");
                self.close(&id).await;
            }
            // Those that the library ended by itself, and those whose opening request was dropped in the middle.
            let now_strange: HashSet<Arc<str>> = {
                // Held until the end: a session that is opened meanwhile is in neither or in both.
                let alive = self.manager.sessions.read().await;
                let mut table = lock(&self.known);
                table.retain(|id, _| alive.contains_key(id));
                alive.keys().filter(|id| !table.contains_key(*id)).cloned().collect()
            };
            for id in now_strange.intersection(&strangers) {
                self.close(id).await;
            }
            strangers = now_strange;
        }
    }
}

/// Those that were not used for at least `time`, the longest unused first.
fn idle_for(table: &HashMap<Arc<str>, Known>, time: Duration) -> Vec<Arc<str>> {
    let now = Instant::now();
    let mut idle: Vec<_> = table
        .iter()
        .filter(|(_, known)| known.in_flight == 0 && now.duration_since(known.last_used) >= time)
        .map(|(id, known)| (known.last_used, id.clone()))
        .collect();
    idle.sort();
    idle.into_iter().map(|(_, id)| id).collect()
}

/// A response's body that keeps its session in use.
pub(super) struct Counted {
    body: Body,
    _in_use: Option<InUse>,
}

impl Counted {
    pub(super) fn new(body: Body, in_use: Option<InUse>) -> Self {
        Self { body, _in_use: in_use }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
