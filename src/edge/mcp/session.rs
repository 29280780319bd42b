//! One session: what its client sends goes to the service, and what the service sends to the streams that the client reads.
//!
//! Whoever sends a message of the server puts it where its reader finds it: no task lies between, and none waits for a reader.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use rmcp::{
    model::{
        CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage, ClientNotification,
        ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage, ServerResult,
    },
    transport::common::server_side_http::ServerSseMessage,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    replay_log::size,
    routes::{Destination, Routes, StreamNumber},
    standalone::StandaloneStreams,
};
use crate::sync::lock;

/// Clients of versions before this one do not know events without data and log an error for each.
const WITH_PRIMING: &str = "2025-11-25";
/// How long a client that was cut off waits before it comes back.
const RETRY: Duration = Duration::from_secs(3);
/// How many messages of the client may wait for the service, which takes each at once.
const WAITING: usize = 16;

/// The session is over, or the call that a message belongs to.
#[derive(Debug, thiserror::Error)]
#[error("the session or the call is over")]
pub(super) struct SessionOver;

/// One session.
pub(super) struct Session {
    state: Mutex<SessionState>,
    standalone: Arc<StandaloneStreams>,
}

struct SessionState {
    /// `None` once the session is over.
    to_service: Option<mpsc::Sender<ClientJsonRpcMessage>>,
    /// Who waits for the answer to `initialize`.
    initializing: Option<oneshot::Sender<ServerJsonRpcMessage>>,
    /// Whether events without data, with an id to come back with, are sent.
    knows_priming: bool,
    routes: Routes,
    /// The requests that were in progress at the end of the session, to be cancelled.
    abandoned: VecDeque<RequestId>,
}

impl Session {
    /// Creates a session; the service takes the client's messages from the receiver, which ends with the session.
    pub(super) fn new() -> (Self, mpsc::Receiver<ClientJsonRpcMessage>) {
        let (to_service, from_client) = mpsc::channel(WAITING);
        let state = SessionState {
            to_service: Some(to_service),
            initializing: None,
            knows_priming: false,
            routes: Routes::default(),
            abandoned: VecDeque::new(),
        };
        (Self { state: Mutex::new(state), standalone: Arc::new(StandaloneStreams::new()) }, from_client)
    }

    /// Waits until the service can be given a message, and gives it the one that `message` makes. That and the session's state
    /// change together, so that a cancellation reaches the service neither before its request nor behind a later one.
    async fn hand_over<T>(
        &self,
        message: impl FnOnce(&mut SessionState) -> (Option<ClientJsonRpcMessage>, T),
    ) -> Result<T, SessionOver> {
        let to_service = lock(&self.state).to_service.clone().ok_or(SessionOver)?;
        let permit = to_service.reserve_owned().await.map_err(|_| SessionOver)?;
        let mut state = lock(&self.state);
        if state.to_service.is_none() {
            return Err(SessionOver);
        }
        let (message, made) = message(&mut state);
        if let Some(message) = message {
            permit.send(message);
        }
        Ok(made)
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
        self.hand_over(|state| {
            state.initializing = Some(answer);
            (Some(message), ())
        })
        .await?;
        let answer = answered.await.map_err(|_| SessionOver)?;
        if let ServerJsonRpcMessage::Response(response) = &answer
            && let ServerResult::InitializeResult(result) = &response.result
        {
            lock(&self.state).knows_priming = result.protocol_version.as_str() >= WITH_PRIMING;
        }
        Ok(answer)
    }

    fn priming(&self, event_id: String) -> Option<ServerSseMessage> {
        lock(&self.state).knows_priming.then(|| ServerSseMessage::priming(event_id, RETRY))
    }

    /// Hands a request to the service, and returns the stream of its messages, which ends with its answer. A request whose id
    /// is that of one in progress is answered with an error.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub(super) async fn request(
        &self,
        mut message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static + use<>, SessionOver> {
        let ClientJsonRpcMessage::Request(request) = &message else { return Err(SessionOver) };
        let id = request.id.clone();
        let open = |state: &mut SessionState| {
            let ClientJsonRpcMessage::Request(request) = &mut message else { return (None, None) };
            let opened = state.routes.open(request);
            (opened.is_some().then_some(message), opened)
        };
        let Some((number, log)) = self.hand_over(open).await? else {
            let text = "a request with this id is in progress in this session";
            let error = ErrorData::new(ErrorCode::INVALID_REQUEST, text, None);
            let refusal = ServerJsonRpcMessage::error(error, Some(id));
            return Ok(stream::iter([ServerSseMessage::from_message(refusal)]).left_stream());
        };
        let priming = self.priming(format!("0/{number}"));
        Ok(stream::iter(priming).chain(log.read(0)).right_stream())
    }

    /// Hands a message that is no request to the service. Returns by how many bytes the ended streams grew, because a request
    /// that is cancelled ends without an answer.
    ///
    /// # Errors
    /// [`SessionOver`].
    pub(super) async fn accept(&self, mut message: ClientJsonRpcMessage) -> Result<isize, SessionOver> {
        self.hand_over(|state| {
            let mut grown = 0;
            match &mut message {
                ClientJsonRpcMessage::Notification(notification) => {
                    if let ClientNotification::CancelledNotification(cancelled) =
                        &mut notification.notification
                        && let Some(request) = &mut cancelled.params.request_id
                    {
                        // One that has ended, or never was, is not cancelled.
                        let Some((service_id, bytes)) = state.routes.cancel(request) else {
                            return (None, 0);
                        };
                        *request = service_id;
                        grown = bytes;
                    }
                }
                ClientJsonRpcMessage::Response(response) => state.routes.answered(&response.id),
                ClientJsonRpcMessage::Error(error) => {
                    error.id.iter().for_each(|question| state.routes.answered(question));
                }
                ClientJsonRpcMessage::Request(_) => {}
            }
            (Some(message), grown)
        })
        .await
    }

    /// Puts a message of the server on the stream to which it belongs; an answer or a notification for a request that has ended
    /// is dropped. Returns the change of the bytes kept of ended streams, which is negative if older streams were removed.
    ///
    /// # Errors
    /// [`SessionOver`] if the session is over, or for a server's request that belongs to a call that has ended.
    pub(super) fn route(&self, mut message: ServerJsonRpcMessage) -> Result<isize, SessionOver> {
        // Before anything is locked, because it takes its time.
        let bytes = size(&message);
        let mut state = lock(&self.state);
        if state.to_service.is_none() {
            return Err(SessionOver);
        }
        if matches!(message, ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_)) {
            return match state.initializing.take() {
                Some(initializing) => initializing.send(message).map(|()| 0).map_err(|_| SessionOver),
                None => Ok(state.routes.answer(message, bytes)),
            };
        }
        let destination = state.routes.destination(&mut message);
        drop(state);
        match destination {
            Destination::Stream(log) => log.push(message, bytes, false),
            Destination::Standalone => self.standalone.push(message, bytes),
            // Nobody would answer it.
            Destination::Nowhere if matches!(message, ServerJsonRpcMessage::Request(_)) => {
                return Err(SessionOver);
            }
            // The progress of a call that its client has cancelled.
            Destination::Nowhere => {}
        }
        Ok(0)
    }

    /// Returns a stream of what belongs to no request, from where the last one stopped, or from behind `after`.
    pub(super) fn standalone(
        &self,
        after: Option<u64>,
    ) -> impl Stream<Item = ServerSseMessage> + Send + Sync + 'static + use<> {
        let (position, messages) = self.standalone.read(after);
        let priming = if after.is_none() { self.priming(position.to_string()) } else { None };
        stream::iter(priming).chain(messages)
    }

    /// Returns the messages of a request's stream after an index; `None` if nothing is known of the stream.
    pub(super) fn resume(
        &self,
        number: StreamNumber,
        after: u64,
    ) -> Option<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static + use<>> {
        let routes = &lock(&self.state).routes;
        if let Some(log) = routes.kept(number) {
            return Some(log.read(after).left_stream());
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

    /// Removes the oldest of the ended streams and returns its bytes; `None` if there is none.
    pub(super) fn remove_oldest(&self) -> Option<usize> {
        lock(&self.state).routes.remove_oldest()
    }

    /// Ends the session with all its streams. Returns the bytes of those that had ended.
    pub(super) fn end(&self) -> usize {
        let mut state = lock(&self.state);
        state.to_service = None;
        state.initializing = None;
        let bytes = state.routes.ended_bytes();
        state.abandoned = state.routes.clear();
        self.standalone.end();
        bytes
    }

    /// Returns the cancellation of a request that was in progress when the session ended, each once: the service would let them
    /// go on for a while.
    pub(super) fn next_cancellation(&self) -> Option<ClientJsonRpcMessage> {
        let abandoned = lock(&self.state).abandoned.pop_front()?;
        let params = CancelledNotificationParam::new(Some(abandoned), Some("the session is over".to_owned()));
        Some(ClientJsonRpcMessage::notification(CancelledNotification::new(params).into()))
    }
}

#[cfg(test)]
mod tests;
