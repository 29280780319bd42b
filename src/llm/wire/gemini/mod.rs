//! Google's `streamGenerateContent`.

mod decoder;
mod request;

use std::sync::Arc;

use serde_json::Value;

use super::{Decoder, Protocol};
use crate::llm::{ModelRequest, SelectedModel};

#[derive(Debug)]
pub(super) struct Gemini;

impl Protocol for Gemini {
    fn body(&self, request: &ModelRequest, selected: &SelectedModel) -> Value {
        request::body(request, selected)
    }

    fn decoder(&self, selected: &Arc<SelectedModel>) -> Box<dyn Decoder> {
        Box::new(decoder::GeminiDecoder::new(selected.clone()))
    }
}
