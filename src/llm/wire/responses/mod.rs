//! OpenAI's Responses API, which carries a model's reasoning from one call to the next.

mod decoder;
mod request;

use std::sync::Arc;

use serde_json::Value;

use super::{Decoder, Protocol};
use crate::llm::{ModelRequest, SelectedModel};

#[derive(Debug)]
pub(super) struct Responses;

impl Protocol for Responses {
    fn body(&self, request: &ModelRequest, selected: &SelectedModel) -> Value {
        request::body(request, selected)
    }

    fn decoder(&self, selected: &Arc<SelectedModel>) -> Box<dyn Decoder> {
        Box::new(decoder::ResponsesDecoder::new(selected.clone()))
    }
}
