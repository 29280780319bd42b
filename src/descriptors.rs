//! File descriptors: how many there are, and who may have how many of them.
//!
//! A quarter for the connections of each of the two ports, an eighth for files that jobs write, an eighth for files that
//! readers read; the rest for engines' pipes, outgoing connections and whatever is open for a moment.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit that the gateway was started with.
static STARTED_WITH: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit to the hard one (getrlimit(2)). Engines keep the limit that the gateway was started with.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    STARTED_WITH.get_or_init(|| limit.current);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The soft limit that the gateway was started with; `None`: there is none.
pub fn started_with() -> Option<u64> {
    *STARTED_WITH.get_or_init(|| getrlimit(Resource::Nofile).current)
}

/// Sets the soft limit, for a process that starts others.
pub fn set_limit(descriptors: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // A limit that cannot be lowered is higher than wanted, which harms nobody.
    let _stays = setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum });
}

fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections a port may have: `configured`, or fewer where the descriptors do not suffice. Further ones wait in
/// the kernel.
pub fn connections_allowed(configured: u32) -> u32 {
    let descriptors = limit();
    let places = u32::try_from(descriptors / 4).unwrap_or(u32::MAX).max(1);
    if places < configured {
        tracing::warn!(
            descriptors,
            connections = places,
            configured,
            "the limit of open files allows fewer connections than server.max_connections; raise it (ulimit -n, LimitNOFILE=)"
        );
    }
    places.min(configured)
}

/// How many files of one kind, written or read, are kept open between two uses; others are opened each time.
pub fn files_kept() -> usize {
    usize::try_from(limit() / 8).unwrap_or(usize::MAX).min(1024)
}
