//! Keeps the streams of requests in sessions, so that a client that was cut off can read the rest: its answer and the
//! questions asked in the meantime (MCP 2025-11-25, transports, resumability).
//!
//! The library discards a stream as soon as it is answered, which leaves a disconnected client waiting for its timeout. Here
//! a task reads every stream to its end, with or without a listener, and it is kept until its session ends or newer streams
//! need the room. (`mcp_messages::a_cut_call_gets_its_answer`, which would also show if the library starts to do this itself)

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{self, Write},
    sync::{Arc, Mutex},
};

use futures_util::{Stream, StreamExt, stream};
use http::request::Parts;
use rmcp::{
    model::{ClientJsonRpcMessage, ErrorData, GetExtensions, RequestId, ServerJsonRpcMessage},
    transport::{
        WorkerTransport,
        common::server_side_http::{ServerSseMessage, SessionId},
        streamable_http_server::session::{
            RestoreOutcome, SessionManager,
            local::{LocalSessionManager, LocalSessionManagerError, LocalSessionWorker},
        },
    },
};
use tokio::{sync::watch, time::Instant};

use crate::{sync::lock, task::Group};

/// Clients of versions before this one do not know events without data and log an error for each.
pub(super) const WITH_PRIMING: &str = "2025-11-25";
/// The most bytes kept of one stream. Beyond it the oldest notifications are dropped; answers and questions always stay.
const MAX_STREAM_BYTES: usize = 1024 * 1024;
/// The most bytes and streams kept of the ended streams of one session.
const MAX_SESSION_BYTES: usize = 4 * 1024 * 1024;
const MAX_SESSION_STREAMS: usize = 64;
/// The most bytes kept of all ended streams; beyond it the session that uses most loses its oldest.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// For how many removed streams of a session it is known what was asked on them.
const MAX_REMOVED: usize = 256;

/// The library's number of a stream, unique within a session.
type StreamNumber = u64;

/// The library's session manager, extended to keep streams.
pub(super) struct ResumableSessionManager {
    pub(super) inner: LocalSessionManager,
    kept: Arc<Mutex<ReplayBuffers>>,
    tasks: Group,
}

#[derive(Default)]
struct ReplayBuffers {
    sessions: HashMap<SessionId, ReplaySession>,
    /// The bytes of all ended streams.
    bytes: usize,
}

#[derive(Default)]
struct ReplaySession {
    streams: BTreeMap<StreamNumber, Arc<ReplayLog>>,
    ended: VecDeque<EndedStream>,
    bytes: usize,
    /// The requests of the newest streams that were removed to make room.
    removed: VecDeque<(StreamNumber, RequestId)>,
    /// When the last stream ended.
    last_ended: Option<Instant>,
}

struct EndedStream {
    number: StreamNumber,
    request: Option<RequestId>,
    bytes: usize,
}

/// The messages of one stream.
struct ReplayLog {
    events: Mutex<KeptMessages>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct KeptMessages {
    kept: VecDeque<KeptMessage>,
    bytes: usize,
    is_over: bool,
}

struct KeptMessage {
    index: u64,
    message: ServerSseMessage,
    bytes: usize,
}

/// Parses an event's id as the library writes it: its index, then the stream's number.
fn parse_id(id: Option<&str>) -> Option<(u64, StreamNumber)> {
    let (index, stream) = id?.split_once('/')?;
    Some((index.parse().ok()?, stream.parse().ok()?))
}

/// Returns about how many bytes a message takes when written.
fn size(message: &ServerSseMessage) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(64);
    if let Some(message) = &message.message {
        // Counting bytes cannot fail.
        let _infallible = serde_json::to_writer(&mut count, message.as_ref());
    }
    count.0
}

impl ReplayLog {
    fn push(&self, message: ServerSseMessage) {
        let mut events = lock(&self.events);
        let next = events.kept.back().map_or(0, |last| last.index + 1);
        let index = parse_id(message.event_id.as_deref()).map_or(next, |(index, _)| index);
        let bytes = size(&message);
        events.bytes += bytes;
        events.kept.push_back(KeptMessage { index, message, bytes });
        while events.bytes > MAX_STREAM_BYTES {
            let may_go = |event: &KeptMessage| {
                event
                    .message
                    .message
                    .as_deref()
                    .is_none_or(|message| matches!(message, ServerJsonRpcMessage::Notification(_)))
            };
            let Some(at) = events.kept.iter().position(may_go) else { break };
            events.bytes -= events.kept.remove(at).map_or(0, |event| event.bytes);
        }
        drop(events);
        self.changed.send_replace(());
    }

    fn end(&self) -> usize {
        let mut events = lock(&self.events);
        events.is_over = true;
        let bytes = events.bytes;
        drop(events);
        self.changed.send_replace(());
        bytes
    }

    /// Returns the events after an index, followed live to the end of the stream; `None` starts at the first.
    fn read(self: Arc<Self>, after: Option<u64>) -> impl Stream<Item = ServerSseMessage> + Send + Sync {
        let changes = self.changed.subscribe();
        stream::unfold((self, changes, after), |(log, mut changes, after)| async move {
            loop {
                changes.mark_unchanged();
                {
                    let events = lock(&log.events);
                    let seen = |event: &KeptMessage| after.is_some_and(|after| event.index <= after);
                    let next = events.kept.get(events.kept.partition_point(seen));
                    if let Some(KeptMessage { index, message, .. }) = next {
                        let (index, message) = (*index, message.clone());
                        drop(events);
                        return Some((message, (log, changes, Some(index))));
                    }
                    if events.is_over {
                        return None;
                    }
                }
                // The sender lives as long as the log.
                changes.changed().await.ok()?;
            }
        })
    }
}

impl ReplayBuffers {
    fn ended(&mut self, id: &SessionId, stream: EndedStream) {
        let bytes = stream.bytes;
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.ended.push_back(stream);
        session.last_ended = Some(Instant::now());
        session.bytes += bytes;
        self.bytes += bytes;
        let mut released = 0;
        while session.bytes > MAX_SESSION_BYTES || session.ended.len() > MAX_SESSION_STREAMS {
            released += session.forget_oldest();
        }
        self.bytes -= released;
        while self.bytes > MAX_BYTES {
            let most = self.sessions.values_mut().max_by_key(|session| session.bytes);
            match most.map(ReplaySession::forget_oldest) {
                Some(released) if released > 0 => self.bytes -= released,
                _ => return,
            }
        }
    }
}

impl ReplaySession {
    fn forget_oldest(&mut self) -> usize {
        let Some(EndedStream { number, request, bytes }) = self.ended.pop_front() else { return 0 };
        self.streams.remove(&number);
        self.removed.extend(request.map(|request| (number, request)));
        if self.removed.len() > MAX_REMOVED {
            self.removed.pop_front();
        }
        self.bytes -= bytes;
        bytes
    }
}

impl ResumableSessionManager {
    pub(super) fn new(inner: LocalSessionManager, tasks: Group) -> Self {
        Self { inner, kept: Arc::default(), tasks }
    }

    fn log(&self, id: &SessionId, number: StreamNumber) -> Option<Arc<ReplayLog>> {
        lock(&self.kept).sessions.get(id)?.streams.get(&number).cloned()
    }

    /// Returns when a session last worked on a request, whether or not its client was connected; now, if it still does.
    pub(super) fn last_work(&self, id: &SessionId) -> Option<Instant> {
        let kept = lock(&self.kept);
        let session = kept.sessions.get(id)?;
        if session.streams.len() > session.ended.len() { Some(Instant::now()) } else { session.last_ended }
    }

    /// Returns the answer to a request whose stream was removed to make room.
    fn lost(&self, id: &SessionId, number: StreamNumber) -> Option<ServerSseMessage> {
        let kept = lock(&self.kept);
        let request =
            kept.sessions.get(id)?.removed.iter().find(|(removed, _)| *removed == number)?.1.clone();
        let text = "the answer was not fetched in time and is no longer kept; call again, with the same idempotency_key if there was one";
        let message = ServerJsonRpcMessage::error(ErrorData::internal_error(text, None), Some(request));
        Some(ServerSseMessage::new(format!("{}/{number}", u64::MAX), message))
    }
}

fn knows_priming(message: &ClientJsonRpcMessage) -> bool {
    let ClientJsonRpcMessage::Request(request) = message else { return false };
    let version = request.request.extensions().get::<Parts>().and_then(|parts| {
        parts.headers.get("mcp-protocol-version").and_then(|version| version.to_str().ok())
    });
    version.is_some_and(|version| version >= WITH_PRIMING)
}

impl SessionManager for ResumableSessionManager {
    type Error = LocalSessionManagerError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let (id, transport) = self.inner.create_session().await?;
        lock(&self.kept).sessions.insert(id.clone(), ReplaySession::default());
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        {
            let mut kept = lock(&self.kept);
            if let Some(session) = kept.sessions.remove(id) {
                kept.bytes -= session.bytes;
            }
        }
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let takes_priming = knows_priming(&message);
        let request = match &message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let mut stream = Box::pin(self.inner.create_stream(id, message).await?);
        let log = Arc::new(ReplayLog { events: Mutex::default(), changed: watch::Sender::new(()) });
        // The library's first event, which carries the id to resume from, is available at once.
        if let Some(first) = stream.next().await {
            let number = parse_id(first.event_id.as_deref()).map(|(_, number)| number);
            log.push(first);
            if let Some(number) = number
                && let Some(session) = lock(&self.kept).sessions.get_mut(id)
            {
                session.streams.insert(number, log.clone());
            }
            let (kept, id, read) = (self.kept.clone(), id.clone(), log.clone());
            // The task ends with the stream, which ends at the latest with its session.
            self.tasks.spawn("mcp_stream", async move {
                while let Some(event) = stream.next().await {
                    read.push(event);
                }
                let bytes = read.end();
                if let Some(number) = number {
                    lock(&kept).ended(&id, EndedStream { number, request, bytes });
                }
            });
        } else {
            log.end();
        }
        let is_said = move |event: &ServerSseMessage| takes_priming || event.message.is_some();
        Ok(log.read(None).filter(move |event| std::future::ready(is_said(event))))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        if let Some((index, number)) = parse_id(Some(&last_event_id)) {
            if let Some(log) = self.log(id, number) {
                return Ok(log.read(Some(index)).left_stream());
            }
            if let Some(lost) = self.lost(id, number) {
                return Ok(stream::iter([lost]).left_stream().right_stream());
            }
        }
        Ok(self.inner.resume(id, last_event_id).await?.right_stream().right_stream())
    }

    async fn restore_session(&self, id: SessionId) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        self.inner.restore_session(id).await
    }
}
