//! MCP on standard input and output, one message a line. The library's own reader does not answer a line that it cannot
//! read, and the client waits for ever; here each line is read leniently or refused: see `json_rpc.rs`.
//! (`mcp_messages::each_line_is_answered`)

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use rmcp::{
    RoleServer,
    model::{ClientJsonRpcMessage, ClientNotification, RequestId, ServerJsonRpcMessage, ServerResult},
    transport::Transport,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    sync::mpsc,
};

use crate::{
    json_rpc::{self, JsonRpcRefusal, MAX_BATCH, ParsedMessages, WITHOUT_BATCHES},
    sync::lock,
};

/// A line of more bytes is refused.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// The capacity of the queue of messages to be written.
const WAITING: usize = 4;

/// The transport on standard input and output; see the module's documentation.
pub(crate) struct LineTransport<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    /// Whether the line is longer than it may be; the rest of it is skipped.
    is_too_long: bool,
    messages: VecDeque<ClientJsonRpcMessage>,
    refusals: VecDeque<Vec<u8>>,
    output: Option<mpsc::Sender<Vec<u8>>>,
    shared: Arc<Mutex<TransportShared>>,
}

#[derive(Debug, Default)]
struct TransportShared {
    /// The negotiated protocol version; empty before it is negotiated.
    version: String,
    batches: Vec<JsonRpcBatch>,
}

/// Requests that came as one batch; their answers are sent as one batch.
#[derive(Debug)]
struct JsonRpcBatch {
    waiting: Vec<RequestId>,
    answers: Vec<Value>,
}

impl<R: AsyncRead + Send + Unpin> LineTransport<R> {
    /// Creates the transport that reads from `input`, and a future that writes to `output` and ends when nothing more
    /// is to be written.
    pub(crate) fn new<W: AsyncWrite + Send + Unpin>(
        input: R,
        mut output: W,
    ) -> (Self, impl Future<Output = io::Result<()>> + Send) {
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(WAITING);
        let writing = async move {
            while let Some(line) = receiver.recv().await {
                output.write_all(&line).await?;
                output.flush().await?;
            }
            Ok(())
        };
        let lines = Self {
            input: BufReader::new(input),
            line: Vec::new(),
            is_too_long: false,
            messages: VecDeque::new(),
            refusals: VecDeque::new(),
            output: Some(sender),
            shared: Arc::default(),
        };
        (lines, writing)
    }

    /// Reads to the end of a line. Returns `false` at the end of the input. Cancel safe.
    async fn read_line(&mut self) -> io::Result<bool> {
        loop {
            let read = self.input.fill_buf().await?;
            if read.is_empty() {
                return Ok(!self.line.is_empty());
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            let piece = &read[..end.unwrap_or(read.len())];
            if self.line.len() + piece.len() > MAX_LINE_BYTES {
                self.is_too_long = true;
                // The beginning of the line is kept, because it may hold the message's id.
                self.line.truncate(json_rpc::MAX_HEAD_BYTES);
            } else if !self.is_too_long {
                self.line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn refuse(&mut self, refusal: &JsonRpcRefusal) {
        tracing::debug!(code = refusal.code, message = refusal.message, "a line of an MCP client is refused");
        self.refusals.push_back(line_of(&refusal.to_value()));
    }

    fn accept(&mut self, message: ClientJsonRpcMessage) {
        if let ClientJsonRpcMessage::Notification(notification) = &message
            && let ClientNotification::CancelledNotification(cancelled) = &notification.notification
            && let Some(id) = &cancelled.params.request_id
        {
            // The library does not answer a request that is cancelled, and the rest of its batch does not wait for it.
            self.refusals.extend(lock(&self.shared).settle(id, None));
        }
        self.messages.push_back(message);
    }

    fn take_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_too_long) {
            let refusal = JsonRpcRefusal::too_long(&line, MAX_LINE_BYTES);
            return self.refuse(&refusal);
        }
        if line.trim_ascii().is_empty() {
            return;
        }
        if !json_rpc::may_have_null_id(&line)
            && let Ok(message) = serde_json::from_slice(&line)
        {
            self.accept(message);
            return;
        }
        match json_rpc::read(&line) {
            Ok(ParsedMessages::Message(message)) => match typed(message) {
                Ok(message) => self.accept(message),
                Err(refusal) => self.refuse(&refusal),
            },
            Ok(ParsedMessages::Batch(messages)) => self.take_batch(messages),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn take_batch(&mut self, messages: Vec<Value>) {
        let version = lock(&self.shared).version.clone();
        if version.is_empty() || version.as_str() >= WITHOUT_BATCHES || messages.len() > MAX_BATCH {
            let refusal = JsonRpcRefusal::no_batch(&version);
            return self.refuse(&refusal);
        }
        let mut batch = JsonRpcBatch { waiting: Vec::new(), answers: Vec::new() };
        let mut accepted = Vec::new();
        for message in messages {
            match json_rpc::normalize_message(message).and_then(typed) {
                Ok(message) => {
                    if let ClientJsonRpcMessage::Request(request) = &message {
                        batch.waiting.push(request.id.clone());
                    }
                    accepted.push(message);
                }
                Err(refusal) => batch.answers.push(refusal.to_value()),
            }
        }
        match batch.waiting.is_empty() {
            true if batch.answers.is_empty() => {}
            true => self.refusals.push_back(line_of(&Value::Array(batch.answers))),
            false => lock(&self.shared).batches.push(batch),
        }
        accepted.into_iter().for_each(|message| self.accept(message));
    }
}

fn typed(message: Value) -> Result<ClientJsonRpcMessage, JsonRpcRefusal> {
    let id = message.get("id").cloned();
    serde_json::from_value(message).map_err(|error| JsonRpcRefusal::unread(id, &error))
}

fn line_of(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

impl TransportShared {
    /// Returns what is to be written for a message: an answer that belongs to a batch waits for the others.
    fn say(&mut self, message: &ServerJsonRpcMessage) -> Option<Vec<u8>> {
        let id = match message {
            ServerJsonRpcMessage::Response(response) => {
                if let ServerResult::InitializeResult(result) = &response.result {
                    self.version = result.protocol_version.as_str().to_owned();
                }
                Some(&response.id)
            }
            ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        };
        match id.filter(|id| self.batches.iter().any(|batch| batch.waiting.contains(id))) {
            Some(id) => self.settle(id, serde_json::to_value(message).ok()),
            None => Some(line_of(message)),
        }
    }

    /// Notes that a request of a batch has been answered, or never will be. Returns the batch's answers if it was the last one.
    fn settle(&mut self, id: &RequestId, answer: Option<Value>) -> Option<Vec<u8>> {
        let place = |batch: &JsonRpcBatch| batch.waiting.iter().position(|waiting| waiting == id);
        let (at, waiting) =
            self.batches.iter().enumerate().find_map(|(at, batch)| Some((at, place(batch)?)))?;
        let batch = &mut self.batches[at];
        batch.waiting.swap_remove(waiting);
        batch.answers.extend(answer);
        if !batch.waiting.is_empty() {
            return None;
        }
        let answers = self.batches.swap_remove(at).answers;
        (!answers.is_empty()).then(|| line_of(&Value::Array(answers)))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more")
}

impl<R: AsyncRead + Send + Unpin + 'static> Transport<RoleServer> for LineTransport<R> {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let line = lock(&self.shared).say(&message);
        let output = self.output.clone();
        async move {
            let Some(line) = line else { return Ok(()) };
            let output = output.ok_or_else(closed)?;
            output.send(line).await.map_err(|_| closed())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if !self.refusals.is_empty() {
                // Cancel safe: nothing is lost where this wait is dropped.
                let permit = self.output.as_ref()?.reserve().await.ok()?;
                if let Some(refusal) = self.refusals.pop_front() {
                    permit.send(refusal);
                }
                continue;
            }
            if let Some(message) = self.messages.pop_front() {
                return Some(message);
            }
            match self.read_line().await {
                Ok(true) => self.take_line(),
                Ok(false) => return None,
                Err(error) => {
                    tracing::debug!(%error, "standard input cannot be read");
                    return None;
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.output = None;
        Ok(())
    }
}
