//! Which door a request came through.

use crate::pb::Door;

/// A request extension that names the door through which the request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThroughDoor(pub(crate) Door);
