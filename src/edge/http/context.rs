//! What every route of the HTTP door is given.

use std::time::Duration;

use super::super::{Addresses, DoorLimits};
use crate::job::{DirectoryService, JobService};

/// The state that every route shares.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) service: JobService,
    pub(super) directory_service: DirectoryService,
    pub(super) heartbeat: Duration,
    pub(super) max_body_bytes: usize,
    pub(super) addresses: Addresses,
    pub(super) limits: DoorLimits,
}
