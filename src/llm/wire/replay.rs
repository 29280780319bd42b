//! Decodes bytes as a model's answer, without a socket, for tests and fuzzing.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{AnswerReader, ModelFailure, Piece, SelectedModel, ToolCall, protocol};
use crate::{
    llm::{Api, Provider, Timeouts},
    secret::Secret,
};

fn selected(provider: Provider, api: Api) -> Arc<SelectedModel> {
    Arc::new(SelectedModel {
        provider,
        api,
        model: "m".into(),
        base_url: "http://h".into(),
        api_key: Secret::default(),
        headers: BTreeMap::new(),
        temperature: None,
        max_tokens: None,
        price: None,
        caches_prompts: true,
        timeouts: Timeouts { connect_seconds: 1, first_byte_seconds: 1, idle_seconds: 1 },
    })
}

/// The meaning of a stream: its text, its reasoning, its calls and how it ended.
#[derive(Debug, PartialEq)]
pub(crate) struct ReplayedAnswer {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<(String, Value)>,
    pub(super) end: String,
}

/// Decodes a stream in pieces of `size` bytes.
pub(crate) fn replay((provider, api): (Provider, Api), stream: &[u8], size: usize) -> ReplayedAnswer {
    let selected = selected(provider, api);
    let protocol = selected.wire().map_or_else(|_| protocol(provider.wire()), protocol);
    let mut answer = AnswerReader::new(protocol.decoder(&selected));
    let pushed: Result<Vec<()>, ModelFailure> = stream.chunks(size).map(|chunk| answer.push(chunk)).collect();
    let turn = pushed.and_then(|_| answer.end()).and_then(|()| {
        answer.paused(&*protocol, &selected);
        answer.turn(&selected)
    });
    let (mut text, mut reasoning) = (String::new(), String::new());
    for piece in &answer.pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Reasoning(piece) => reasoning.push_str(piece),
            Piece::End(_) | Piece::Used(_) => {}
        }
    }
    let calls = turn.as_ref().map_or(Vec::new(), |turn| {
        let call = |call: &ToolCall| (call.name.clone(), json!(call.arguments.clone().unwrap_or_default()));
        turn.message.calls.iter().map(call).collect()
    });
    let end = turn.map_or_else(|failure| failure.message, |turn| turn.finish_reason.to_owned());
    ReplayedAnswer { text, reasoning, calls, end }
}
