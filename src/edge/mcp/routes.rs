//! Which stream of a session a message of the server belongs to, and which ended streams are kept.
//!
//! The service knows a request, and its progress token, by the number of its stream, which is never given twice: a client that
//! uses an id again, after it has cancelled a request, does not get that request's answer, and one that uses a token for several
//! requests gets the progress of each.

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
/// The most bytes and streams kept of the ended streams of one session; the newest is kept in addition.
const MAX_SESSION_BYTES: usize = 4 * 1024 * 1024;
const MAX_SESSION_STREAMS: usize = 64;
/// For how many removed streams of a session it is known what was asked on them.
const MAX_REMOVED: usize = 256;
/// The most bytes of the ids of these.
const MAX_REMOVED_BYTES: usize = 16 * 1024;

/// The number of a stream, unique within its session.
pub(super) type StreamNumber = u64;

/// The streams of a session's requests.
#[derive(Default)]
pub(super) struct Routes {
    next: StreamNumber,
    streams: BTreeMap<StreamNumber, Arc<ReplayLog>>,
    in_progress: BTreeMap<StreamNumber, RequestInProgress>,
    /// The requests in progress by their clients' ids.
    numbers: HashMap<RequestId, StreamNumber>,
    /// The requests of the server that were sent on the stream of a request.
    questions: HashMap<RequestId, StreamNumber>,
    ended: VecDeque<EndedStream>,
    ended_bytes: usize,
    /// The requests of the newest streams that were removed to make room.
    removed: VecDeque<(StreamNumber, RequestId)>,
    removed_bytes: usize,
    last_ended: Option<Instant>,
}

struct RequestInProgress {
    id: RequestId,
    token: Option<ProgressToken>,
}

struct EndedStream {
    number: StreamNumber,
    request: RequestId,
    bytes: usize,
}

/// Where a message of the server belongs.
pub(super) enum Destination {
    /// To the stream of a request in progress.
    Stream(Arc<ReplayLog>),
    /// To no request.
    Standalone,
    /// To no stream: its request has ended, or it cancels a question that no stream is known for.
    Nowhere,
}

/// Returns the id by which the service knows the request of a stream.
fn service_id(number: StreamNumber) -> RequestId {
    // A session does not have that many requests.
    RequestId::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Returns about how many bytes an id takes.
fn id_bytes(id: &RequestId) -> usize {
    match id {
        RequestId::Number(_) => 16,
        RequestId::String(text) => 16 + text.len(),
    }
}

fn number_of(service_id: &RequestId) -> Option<StreamNumber> {
    match service_id {
        RequestId::Number(number) => StreamNumber::try_from(*number).ok(),
        RequestId::String(_) => None,
    }
}

impl Routes {
    /// Opens the stream of a request, whose id becomes the service's; `None` if one with its id is in progress.
    pub(super) fn open(
        &mut self,
        request: &mut JsonRpcRequest<ClientRequest>,
    ) -> Option<(StreamNumber, Arc<ReplayLog>)> {
        if self.numbers.contains_key(&request.id) {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let log = ReplayLog::new(format!("/{number}"), MAX_STREAM_BYTES, Overflow::DropNotifications);
        let log = Arc::new(log);
        let id = std::mem::replace(&mut request.id, service_id(number));
        let token = request.request.get_meta().get_progress_token();
        if token.is_some() {
            request.request.get_meta_mut().set_progress_token(ProgressToken(service_id(number)));
        }
        self.numbers.insert(id.clone(), number);
        self.in_progress.insert(number, RequestInProgress { id, token });
        self.streams.insert(number, log.clone());
        Some((number, log))
    }

    /// Returns where a request or a notification of the server belongs, and gives progress its client's token. It is called once
    /// for each message, because it remembers the server's requests by their streams, and forgets one that is cancelled.
    pub(super) fn destination(&mut self, message: &mut ServerJsonRpcMessage) -> Destination {
        let number = match message {
            ServerJsonRpcMessage::Request(request) => {
                let origin = request.request.extensions().get::<OriginatingRequestId>();
                let Some(OriginatingRequestId(origin)) = origin else { return Destination::Standalone };
                let number = number_of(origin).filter(|number| self.in_progress.contains_key(number));
                self.questions.extend(number.map(|number| (request.id.clone(), number)));
                number
            }
            ServerJsonRpcMessage::Notification(notification) => match &mut notification.notification {
                ServerNotification::ProgressNotification(progress) => {
                    let token = &mut progress.params.progress_token;
                    let number = number_of(&token.0);
                    let request = number.and_then(|number| self.in_progress.get(&number));
                    request.and_then(|request| request.token.clone()).and_then(|own| {
                        *token = own;
                        number
                    })
                }
                ServerNotification::CancelledNotification(cancelled) => {
                    cancelled.params.request_id.as_ref().and_then(|question| self.questions.remove(question))
                }
                _ => return Destination::Standalone,
            },
            ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_) => None,
        };
        let log = number.and_then(|number| self.streams.get(&number));
        log.map_or(Destination::Nowhere, |log| Destination::Stream(log.clone()))
    }

    /// Forgets a request of the server, because it is answered.
    pub(super) fn answered(&mut self, question: &RequestId) {
        self.questions.remove(question);
    }

    /// Ends the stream of a request with its answer, of `bytes` bytes. Returns by how many bytes the ended streams grew.
    pub(super) fn answer(&mut self, mut answer: ServerJsonRpcMessage, bytes: usize) -> isize {
        let id = match &mut answer {
            ServerJsonRpcMessage::Response(response) => Some(&mut response.id),
            ServerJsonRpcMessage::Error(error) => error.id.as_mut(),
            _ => None,
        };
        let Some((id, number)) = id.and_then(|id| number_of(id).map(|number| (id, number))) else { return 0 };
        let Some(request) = self.in_progress.get(&number) else { return 0 };
        *id = request.id.clone();
        if let Some(log) = self.streams.get(&number) {
            log.push(answer, bytes, true);
        }
        self.end(number)
    }

    /// Ends the stream of a request that its client has cancelled, without an answer. Returns the id by which the service
    /// knows it, and by how many bytes the ended streams grew; `None` if it is not in progress.
    pub(super) fn cancel(&mut self, id: &RequestId) -> Option<(RequestId, isize)> {
        let number = *self.numbers.get(id)?;
        if let Some(log) = self.streams.get(&number) {
            log.end();
        }
        Some((service_id(number), self.end(number)))
    }

    fn end(&mut self, number: StreamNumber) -> isize {
        let Some(RequestInProgress { id, .. }) = self.in_progress.remove(&number) else { return 0 };
        self.numbers.remove(&id);
        self.questions.retain(|_, of| *of != number);
        let Some(log) = self.streams.get(&number) else { return 0 };
        let before = self.ended_bytes;
        let newest = log.bytes() + id_bytes(&id);
        self.ended.push_back(EndedStream { number, request: id, bytes: newest });
        self.ended_bytes += newest;
        self.last_ended = Some(Instant::now());
        while self.ended_bytes - newest > MAX_SESSION_BYTES || self.ended.len() > MAX_SESSION_STREAMS {
            self.remove_oldest();
        }
        self.ended_bytes as isize - before as isize
    }

    /// Removes the oldest of the ended streams and returns its bytes; `None` if there is none.
    pub(super) fn remove_oldest(&mut self) -> Option<usize> {
        let EndedStream { number, request, bytes } = self.ended.pop_front()?;
        self.streams.remove(&number);
        self.removed_bytes += id_bytes(&request);
        self.removed.push_back((number, request));
        while self.removed.len() > MAX_REMOVED || self.removed_bytes > MAX_REMOVED_BYTES {
            let Some((_, request)) = self.removed.pop_front() else { break };
            self.removed_bytes -= id_bytes(&request);
        }
        self.ended_bytes -= bytes;
        Some(bytes)
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
        if self.in_progress.is_empty() { self.last_ended } else { Some(Instant::now()) }
    }

    /// Returns the bytes of the ended streams.
    pub(super) fn ended_bytes(&self) -> usize {
        self.ended_bytes
    }

    /// Ends all streams and forgets them. Returns the ids by which the service knows the requests in progress.
    pub(super) fn clear(&mut self) -> VecDeque<RequestId> {
        self.streams.values().for_each(|log| log.end());
        let in_progress = std::mem::take(self).in_progress;
        in_progress.into_keys().map(service_id).collect()
    }
}
