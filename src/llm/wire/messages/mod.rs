//! Anthropic's Messages API.

mod decoder;
mod request;

use std::sync::Arc;

use serde_json::Value;

use super::{Decoder, Protocol};
use crate::llm::{Request, Selected};

#[derive(Debug)]
pub(super) struct Messages;

impl Protocol for Messages {
    fn body(&self, request: &Request, selected: &Selected) -> Value {
        request::body(request, selected)
    }

    fn decoder(&self, selected: &Arc<Selected>) -> Box<dyn Decoder> {
        Box::new(decoder::MessagesDecoder::new(selected.clone()))
    }
}
