//! What a request occupies until its response has been read.

use std::sync::Arc;

use super::{connection_table::BusyGuard, requests::RequestGuard};

/// What a request occupies until its response has been read.
#[derive(Debug)]
pub(super) struct RequestGuards {
    pub(super) _busy: BusyGuard,
    pub(super) _in_progress: Option<Arc<RequestGuard>>,
}
