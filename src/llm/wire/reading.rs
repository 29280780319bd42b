//! Reads an answer: bytes become events, events become parts, and parts become pieces to show and the final turn.

use std::sync::Arc;

use serde_json::Value;

use super::{
    AnswerEnd, AssistantMessage, Decoder, EventPart, FinishReason, ModelFailure, ModelTurn, Piece, Protocol,
    SelectedModel, Usage, closed, to_turn,
};
use crate::llm::{
    connection::Body,
    events::EventReader,
    reasoning::{Splitter, TextSegment as Place},
    surrogates::SurrogateJoiner,
};

/// How much white space is accepted before a stream begins.
const MAX_BEGINNING_BYTES: usize = 4096;

/// An answer as it arrives. It never touches a socket.
pub(super) struct AnswerReader {
    events: EventReader,
    decoder: Box<dyn Decoder>,
    parts: Vec<EventPart>,
    splitter: Splitter,
    text_halves: SurrogateJoiner,
    reasoning_halves: SurrogateJoiner,
    /// The text of the answer so far, without reasoning.
    pub(super) text: String,
    /// The pieces that are to be shown next.
    pub(super) pieces: Vec<Piece>,
    /// The usage of the earlier requests, if the server has paused.
    usage: Usage,
    /// The content of their answers, in the wire's form.
    paused: Vec<Value>,
    answer: Option<AnswerEnd>,
}

impl AnswerReader {
    pub(super) fn new(decoder: Box<dyn Decoder>) -> Self {
        Self {
            events: EventReader::default(),
            decoder,
            parts: Vec::new(),
            splitter: Splitter::default(),
            text_halves: SurrogateJoiner::default(),
            reasoning_halves: SurrogateJoiner::default(),
            text: String::new(),
            pieces: Vec::new(),
            usage: Usage::default(),
            paused: Vec::new(),
            answer: None,
        }
    }

    /// Processes the next bytes, however they are split.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ModelFailure> {
        let (decoder, parts) = (&mut self.decoder, &mut self.parts);
        let read = self.events.push(bytes, &mut |name, data| match decoder.is_over() {
            // Nothing that follows the end is part of the answer.
            true => Ok(()),
            false => decoder.event(name, data, parts),
        });
        self.place_parts();
        read
    }

    /// Processes the end of the bytes.
    pub(super) fn end(&mut self) -> Result<(), ModelFailure> {
        let (decoder, parts) = (&mut self.decoder, &mut self.parts);
        let is_over = decoder.is_over();
        // What is left may be an event that was cut off.
        let read = self
            .events
            .finish(&mut |name, data| if is_over { Ok(()) } else { decoder.event(name, data, parts) });
        self.place_parts();
        match read {
            // What is left was cut off, which does no harm after a complete answer.
            Err(failure) if failure.is_syntax && self.decoder.is_complete() => Ok(()),
            Err(failure) if failure.is_syntax => Err(closed()),
            read => read,
        }
    }

    /// Returns whether nothing more follows.
    pub(super) fn is_over(&self) -> bool {
        self.decoder.is_over()
    }

    /// Returns how many calls have begun.
    pub(super) fn calls(&self) -> usize {
        self.decoder.calls()
    }

    /// Ends one response. If the server paused and expects a request to continue, returns the message so far and
    /// resets the decoder.
    pub(super) fn paused(
        &mut self,
        protocol: &dyn Protocol,
        selected: &Arc<SelectedModel>,
    ) -> Option<AssistantMessage> {
        let answer = self.decoder.answer();
        let is_paused = answer.finish == Some(FinishReason::Paused);
        self.answer = Some(answer);
        if !is_paused {
            return None;
        }
        let native = self.decoder.native(&self.text, &[]);
        if let Some(content) = native.get("content").and_then(Value::as_array) {
            self.paused.extend(content.iter().cloned());
        }
        self.usage.add(&self.decoder.usage());
        self.decoder = protocol.decoder(selected);
        self.events = EventReader::default();
        Some(AssistantMessage::of_wire(&self.text, Vec::new(), native))
    }

    /// Returns the usage so far, with its cost if that is known.
    pub(super) fn used(&self, selected: &SelectedModel) -> Usage {
        let mut usage = self.usage;
        usage.add(&self.decoder.usage());
        usage.total = usage.total.or_else(|| Some(usage.input?.saturating_add(usage.output?)));
        usage.priced(selected.price.as_ref())
    }

    /// Returns the turn that the whole answer makes.
    pub(super) fn turn(&mut self, selected: &SelectedModel) -> Result<ModelTurn, ModelFailure> {
        let reasoning = self.reasoning_halves.finish().map(|text| (Place::Reasoning, text));
        let text = self.text_halves.finish().map(|text| self.splitter.push(&text)).unwrap_or_default();
        let rest = self.splitter.finish();
        for (place, text) in reasoning.into_iter().chain(text).chain(rest) {
            self.place(place, text);
        }
        let answer = self.answer.take().unwrap_or_default();
        let mut turn = to_turn(answer, &self.text, &*self.decoder, self.used(selected), selected)?;
        if !self.paused.is_empty() {
            turn.message.prepend_to_native(&self.paused);
        }
        Ok(turn)
    }

    fn place_parts(&mut self) {
        for part in std::mem::take(&mut self.parts) {
            match part {
                EventPart::Text(text) => {
                    let text = self.text_halves.push(text);
                    for (place, text) in self.splitter.push(&text) {
                        self.place(place, text);
                    }
                }
                EventPart::Reasoning(text) => {
                    let text = self.reasoning_halves.push(text);
                    self.place(Place::Reasoning, text);
                }
            }
        }
    }

    fn place(&mut self, place: Place, text: String) {
        match place {
            Place::Break => self.text.clear(),
            _ if text.is_empty() => {}
            Place::Answer => {
                self.text.push_str(&text);
                self.pieces.push(Piece::Text(text));
            }
            Place::Reasoning => self.pieces.push(Piece::Reasoning(text)),
        }
    }
}

/// Reads the body of one answer.
pub(super) struct AnswerBodyReader {
    body: Option<Body>,
    /// What arrived before it was clear whether this is a stream of events.
    beginning: Vec<u8>,
    is_stream: bool,
}

impl AnswerBodyReader {
    pub(super) fn new(body: Body) -> Self {
        Self { body: Some(body), beginning: Vec::new(), is_stream: false }
    }

    /// Reads the next chunk. Returns whether there may be more.
    pub(super) async fn read(
        &mut self,
        answer: &mut AnswerReader,
        selected: &SelectedModel,
    ) -> Result<bool, ModelFailure> {
        let Some(body) = &mut self.body else { return Ok(false) };
        let chunk = match body.next().await {
            // A server that breaks its connection after a complete answer, or leaves it open, does no harm.
            Err(_) if answer.decoder.is_complete() => None,
            next => next?,
        };
        let is_end = chunk.is_none();
        let mut bytes = chunk.unwrap_or_default();
        if !self.is_stream {
            self.beginning.extend_from_slice(&bytes);
            // The bytes decide, whatever Content-Type the server declares.
            match begins_stream(&self.beginning, is_end) {
                None if self.beginning.len() <= MAX_BEGINNING_BYTES => return Ok(true),
                Some(true) => {
                    self.is_stream = true;
                    bytes = std::mem::take(&mut self.beginning).into();
                }
                _ => {
                    let Some(body) = self.body.take() else { return Ok(false) };
                    return Err(body.document(std::mem::take(&mut self.beginning), selected).await);
                }
            }
        }
        if is_end {
            self.body = None;
            answer.push(&bytes)?;
            answer.end()?;
            return Ok(false);
        }
        answer.push(&bytes)?;
        if answer.is_over() {
            self.body = None;
        }
        Ok(self.body.is_some())
    }
}

/// Returns whether these bytes begin a stream of events, or `None` while more are needed to decide.
fn begins_stream(beginning: &[u8], is_end: bool) -> Option<bool> {
    let trimmed = beginning.trim_ascii_start();
    let trimmed = trimmed.strip_prefix(b"\xef\xbb\xbf").unwrap_or(trimmed).trim_ascii_start();
    let fields: [&[u8]; 5] = [b"data", b"event", b"id", b"retry", b":"];
    if fields.iter().any(|field| trimmed.starts_with(field)) || (trimmed.is_empty() && is_end) {
        return Some(true);
    }
    let may_become =
        fields.iter().any(|field| field.starts_with(trimmed)) || b"\xef\xbb\xbf".starts_with(trimmed);
    if may_become && !is_end { None } else { Some(false) }
}
