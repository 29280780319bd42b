//! One session: what its client sends goes to the service, and what the service sends to the streams that the client reads.
//!
//! Whoever sends a message of the server puts it where its reader finds it: no task lies between, and none waits for a reader.

use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt, stream};
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientNotification, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage,
    },
    transport::common::server_side_http::ServerSseMessage,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    replay_log::{Overflow, ReplayLog},
    routes::{Routes, StreamNumber},
};
use crate::sync::lock;

/// The most bytes kept of what belongs to no request, such as changes of resources; beyond it the oldest are dropped.
const MAX_STANDALONE_BYTES: usize = 16 * 1024;
/// How many messages of the client may wait for the service, which takes each at once.
const WAITING: usize = 16;

/// The session is over.
#[derive(Debug, thiserror::Error)]
#[error("the session is over")]
pub(super) struct SessionOver;

/// One session.
pub(super) struct Session {
    state: Mutex<SessionState>,
    /// What belongs to no request.
    standalone: Arc<ReplayLog>,
    /// Locked by the one stream that reads what belongs to no request; the index of the newest message that was read.
    standalone_reader: Arc<tokio::sync::Mutex<u64>>,
}

struct SessionState {
    /// `None` once the session is over.
    to_service: Option<mpsc::Sender<ClientJsonRpcMessage>>,
    /// Who waits for the answer to `initialize`.
    initializing: Option<oneshot::Sender<ServerJsonRpcMessage>>,
    routes: Routes,
}

impl Session {
    /// Creates a session; the service takes the client's messages from the receiver, which ends with the session.
    pub(super) fn new() -> (Self, mpsc::Receiver<ClientJsonRpcMessage>) {
        let (to_service, from_client) = mpsc::channel(WAITING);
        let state =
            SessionState { to_service: Some(to_service), initializing: None, routes: Routes::default() };
        let standalone = Arc::new(ReplayLog::new(String::new(), MAX_STANDALONE_BYTES, Overflow::DropOldest));
        let session = Self { state: Mutex::new(state), standalone, standalone_reader: Arc::default() };
        (session, from_client)
    }

    /// Waits until the service can be given a message.
    async fn reserve(&self) -> Result<mpsc::OwnedPermit<ClientJsonRpcMessage>, SessionOver> {
        let to_service = lock(&self.state).to_service.clone().ok_or(SessionOver)?;
        to_service.reserve_owned().await.map_err(|_| SessionOver)
    }

    /// Hands the request that opens the session to the service, and returns its answer.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub(super) async fn initialize(
        &self,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionOver> {
        let (answer, answered) = oneshot::channel();
        let permit = self.reserve().await?;
        lock(&self.state).initializing = Some(answer);
        permit.send(message);
        answered.await.map_err(|_| SessionOver)
    }

    /// Hands a request to the service, and returns the stream of its messages, which ends with its answer. `priming` comes
    /// before them, with an id to come back with. A request whose id is that of one in progress is answered with an error.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub(super) async fn request(
        &self,
        message: ClientJsonRpcMessage,
        priming: Option<ServerSseMessage>,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static + use<>, SessionOver> {
        // A request that is dropped while it waits has not been opened.
        let permit = self.reserve().await?;
        let ClientJsonRpcMessage::Request(request) = &message else { return Err(SessionOver) };
        let opened = {
            let mut state = lock(&self.state);
            if state.to_service.is_none() {
                return Err(SessionOver);
            }
            state.routes.open(request)
        };
        let Some((number, log)) = opened else {
            let text = "a request with this id is in progress in this session";
            let error = ErrorData::new(ErrorCode::INVALID_REQUEST, text, None);
            let refusal = ServerJsonRpcMessage::error(error, Some(request.id.clone()));
            return Ok(stream::iter([ServerSseMessage::from_message(refusal)]).left_stream());
        };
        permit.send(message);
        let priming = priming.map(|mut priming| {
            priming.event_id = Some(format!("0/{number}"));
            priming
        });
        Ok(stream::iter(priming).chain(log.read(Box::new(0))).right_stream())
    }

    /// Hands a message that is no request to the service. Returns by how many bytes the ended streams grew, because a request
    /// that is cancelled ends without an answer.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub(super) async fn accept(&self, message: ClientJsonRpcMessage) -> Result<isize, SessionOver> {
        let permit = self.reserve().await?;
        let mut grown = 0;
        {
            let routes = &mut lock(&self.state).routes;
            match &message {
                ClientJsonRpcMessage::Notification(notification) => {
                    if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                        && let Some(request) = cancelled.params.request_id.clone()
                    {
                        grown = routes.end(request, None);
                    }
                }
                ClientJsonRpcMessage::Response(response) => routes.answered(&response.id),
                ClientJsonRpcMessage::Error(error) => {
                    error.id.iter().for_each(|question| routes.answered(question));
                }
                ClientJsonRpcMessage::Request(_) => {}
            }
        }
        permit.send(message);
        Ok(grown)
    }

    /// Puts a message of the server on the stream that it belongs to. Returns by how many bytes the ended streams grew.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub(super) fn route(&self, message: ServerJsonRpcMessage) -> Result<isize, SessionOver> {
        let mut state = lock(&self.state);
        let answered: Option<RequestId> = match &message {
            ServerJsonRpcMessage::Response(response) => Some(response.id.clone()),
            ServerJsonRpcMessage::Error(error) => error.id.clone(),
            _ => {
                let log = state.routes.stream_of(&message);
                let is_over = state.to_service.is_none();
                drop(state);
                log.as_ref().unwrap_or(&self.standalone).push(message, false);
                return if is_over { Err(SessionOver) } else { Ok(0) };
            }
        };
        match state.initializing.take() {
            Some(initializing) => initializing.send(message).map(|()| 0).map_err(|_| SessionOver),
            None => Ok(answered.map_or(0, |request| state.routes.end(request, Some(message)))),
        }
    }

    /// Returns a stream of what belongs to no request, from where the last one stopped, or from behind `after`. Of several
    /// such streams one is given the messages, and when it is dropped, the next.
    pub(super) fn standalone(
        &self,
        after: Option<u64>,
    ) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static + use<> {
        let (log, reader) = (self.standalone.clone(), self.standalone_reader.clone());
        let opening = async move {
            let turn = tokio::select! {
                // Cancel safe: a dropped wait gives its turn to the next.
                turn = reader.lock_owned() => Some(turn),
                () = log.is_over() => None,
            };
            let reading = turn.map(|mut turn| {
                *turn = after.unwrap_or(*turn);
                log.read(turn)
            });
            stream::iter(reading).flatten()
        };
        stream::once(opening).flatten()
    }

    /// Returns the messages of a request's stream after an index; `None` if nothing is known of the stream.
    pub(super) fn resume(
        &self,
        number: StreamNumber,
        after: u64,
    ) -> Option<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static + use<>> {
        let routes = &lock(&self.state).routes;
        if let Some(log) = routes.kept(number) {
            return Some(log.read(Box::new(after)).left_stream());
        }
        let request = routes.removed(number)?;
        let text = "the answer was not fetched in time and is no longer kept; call again, with the same idempotency_key if there was one";
        let message = ServerJsonRpcMessage::error(ErrorData::internal_error(text, None), Some(request));
        let lost = ServerSseMessage::new(format!("{}/{number}", u64::MAX), message);
        Some(stream::iter([lost]).right_stream())
    }

    /// Returns when the session last worked on a request, whether or not its client was connected; now, if it still does.
    pub(super) fn last_work(&self) -> Option<Instant> {
        lock(&self.state).routes.last_work()
    }

    /// Returns the bytes of the ended streams.
    pub(super) fn ended_bytes(&self) -> usize {
        lock(&self.state).routes.ended_bytes()
    }

    /// Removes the oldest of the ended streams and returns its bytes.
    pub(super) fn remove_oldest(&self) -> usize {
        lock(&self.state).routes.remove_oldest()
    }

    /// Ends the session with all its streams. Returns the bytes of those that had ended.
    pub(super) fn end(&self) -> usize {
        let mut state = lock(&self.state);
        state.to_service = None;
        state.initializing = None;
        let bytes = state.routes.ended_bytes();
        state.routes.clear();
        self.standalone.end();
        bytes
    }
}

#[cfg(test)]
mod tests;
