//! Who is calling and what they may do.

use std::{fmt, sync::Arc};

/// The identity that every job, key and conversation carries. There is one local caller until callers
/// authenticate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller(Arc<str>);

impl Caller {
    /// The one caller of a gateway that asks for no credentials.
    pub fn local() -> Self {
        Self(Arc::from("local"))
    }

    /// A caller by its stored name.
    pub fn named(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name that is stored with jobs and printed in events.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether this caller may see and change what `owner` owns. Others are told that it does not exist.
    pub fn may_access(&self, owner: &str) -> bool {
        self.name() == owner
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
