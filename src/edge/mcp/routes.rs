//! Which stream of a session a message of the server belongs to, and which ended streams are kept.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use rmcp::{
    model::{
        ClientRequest, GetExtensions, GetMeta, JsonRpcRequest, ProgressToken, RequestId,
        ServerJsonRpcMessage, ServerNotification,
    },
    service::OriginatingRequestId,
};
use tokio::time::Instant;

use super::replay_log::{Overflow, ReplayLog};

/// The most bytes kept of one stream. Beyond it the oldest notifications are dropped.
const MAX_STREAM_BYTES: usize = 1024 * 1024;
/// The most bytes and streams kept of the ended streams of one session.
const MAX_SESSION_BYTES: usize = 4 * 1024 * 1024;
const MAX_SESSION_STREAMS: usize = 64;
/// For how many removed streams of a session it is known what was asked on them.
const MAX_REMOVED: usize = 256;

/// The number of a stream, unique within its session.
pub(super) type StreamNumber = u64;

/// The streams of a session's requests.
#[derive(Default)]
pub(super) struct Routes {
    next: StreamNumber,
    streams: BTreeMap<StreamNumber, Arc<ReplayLog>>,
    requests: HashMap<RequestId, RequestInProgress>,
    /// The progress tokens of the requests in progress.
    tokens: HashMap<ProgressToken, StreamNumber>,
    /// The requests of the server that were sent on the stream of a request.
    questions: HashMap<RequestId, StreamNumber>,
    ended: VecDeque<EndedStream>,
    ended_bytes: usize,
    /// The requests of the newest streams that were removed to make room.
    removed: VecDeque<(StreamNumber, RequestId)>,
    last_ended: Option<Instant>,
}

struct RequestInProgress {
    stream: StreamNumber,
    token: Option<ProgressToken>,
}

struct EndedStream {
    number: StreamNumber,
    request: RequestId,
    bytes: usize,
}

impl Routes {
    /// Opens the stream of a request; `None` if one with its id is in progress.
    pub(super) fn open(
        &mut self,
        request: &JsonRpcRequest<ClientRequest>,
    ) -> Option<(StreamNumber, Arc<ReplayLog>)> {
        if self.requests.contains_key(&request.id) {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let log = ReplayLog::new(format!("/{number}"), MAX_STREAM_BYTES, Overflow::DropNotifications);
        let log = Arc::new(log);
        let token = request.request.get_meta().get_progress_token();
        self.tokens.extend(token.clone().map(|token| (token, number)));
        self.requests.insert(request.id.clone(), RequestInProgress { stream: number, token });
        self.streams.insert(number, log.clone());
        Some((number, log))
    }

    /// Returns the stream that a request or a notification of the server belongs to; `None` if it belongs to no request in
    /// progress.
    pub(super) fn stream_of(&mut self, message: &ServerJsonRpcMessage) -> Option<Arc<ReplayLog>> {
        let number = match message {
            ServerJsonRpcMessage::Request(request) => {
                let origin = &request.request.extensions().get::<OriginatingRequestId>()?.0;
                let number = self.requests.get(origin)?.stream;
                self.questions.insert(request.id.clone(), number);
                number
            }
            ServerJsonRpcMessage::Notification(notification) => match &notification.notification {
                ServerNotification::ProgressNotification(progress) => {
                    *self.tokens.get(&progress.params.progress_token)?
                }
                ServerNotification::CancelledNotification(cancelled) => {
                    self.questions.remove(cancelled.params.request_id.as_ref()?)?
                }
                _ => return None,
            },
            ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_) => return None,
        };
        self.streams.get(&number).cloned()
    }

    /// Forgets a request of the server, because it is answered.
    pub(super) fn answered(&mut self, question: &RequestId) {
        self.questions.remove(question);
    }

    /// Ends the stream of a request with its answer, if it has one. Returns by how many bytes the ended streams grew.
    pub(super) fn end(&mut self, request: RequestId, answer: Option<ServerJsonRpcMessage>) -> isize {
        let Some(RequestInProgress { stream: number, token }) = self.requests.remove(&request) else {
            return 0;
        };
        token.map(|token| self.tokens.remove(&token));
        self.questions.retain(|_, of| *of != number);
        let Some(log) = self.streams.get(&number) else { return 0 };
        match answer {
            Some(answer) => log.push(answer, true),
            None => log.end(),
        }
        let before = self.ended_bytes;
        let bytes = log.bytes();
        self.ended.push_back(EndedStream { number, request, bytes });
        self.ended_bytes += bytes;
        self.last_ended = Some(Instant::now());
        while self.ended_bytes > MAX_SESSION_BYTES || self.ended.len() > MAX_SESSION_STREAMS {
            self.remove_oldest();
        }
        self.ended_bytes as isize - before as isize
    }

    /// Removes the oldest of the ended streams and returns its bytes.
    pub(super) fn remove_oldest(&mut self) -> usize {
        let Some(EndedStream { number, request, bytes }) = self.ended.pop_front() else { return 0 };
        self.streams.remove(&number);
        self.removed.push_back((number, request));
        if self.removed.len() > MAX_REMOVED {
            self.removed.pop_front();
        }
        self.ended_bytes -= bytes;
        bytes
    }

    /// Returns the messages of a stream, if they are kept.
    pub(super) fn kept(&self, number: StreamNumber) -> Option<Arc<ReplayLog>> {
        self.streams.get(&number).cloned()
    }

    /// Returns the request of a stream that was removed to make room.
    pub(super) fn removed(&self, number: StreamNumber) -> Option<RequestId> {
        self.removed.iter().find(|(removed, _)| *removed == number).map(|(_, request)| request.clone())
    }

    /// Returns when a request was last worked on; now, if one is in progress.
    pub(super) fn last_work(&self) -> Option<Instant> {
        if self.requests.is_empty() { self.last_ended } else { Some(Instant::now()) }
    }

    /// Returns the bytes of the ended streams.
    pub(super) fn ended_bytes(&self) -> usize {
        self.ended_bytes
    }

    /// Ends all streams and forgets them.
    pub(super) fn clear(&mut self) {
        self.streams.values().for_each(|log| log.end());
        *self = Self::default();
    }
}
