//! OpenAI's chat completions, which nearly every other server implements too.

mod decoder;
mod delta;
mod request;

use std::sync::Arc;

use serde_json::Value;

use super::{Decoder, Protocol};
use crate::llm::{ModelRequest, SelectedModel};

#[derive(Debug)]
pub(super) struct Chat;

impl Protocol for Chat {
    fn body(&self, request: &ModelRequest, selected: &SelectedModel) -> Value {
        request::body(request, selected)
    }

    fn decoder(&self, selected: &Arc<SelectedModel>) -> Box<dyn Decoder> {
        Box::new(decoder::ChatDecoder::new(selected.clone()))
    }
}
