//! File descriptors: how many there are, and how they are divided.
//!
//! Most are for connections. A fifth is reserved: of that a quarter is for files that jobs write, a quarter for files that
//! readers read, an eighth for connections beyond the bound; the rest is for engines' pipes, outgoing connections and files that
//! are open briefly.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit that the gateway was started with.
static STARTED_WITH: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit to the hard one (getrlimit(2)). Engines keep the limit that the gateway was started with.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    STARTED_WITH.get_or_init(|| limit.current);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Returns the soft limit that the gateway was started with; `None` means that there was none.
pub(crate) fn started_with() -> Option<u64> {
    *STARTED_WITH.get_or_init(|| getrlimit(Resource::Nofile).current)
}

/// Sets the soft limit, for a process that starts others.
pub(crate) fn set_limit(descriptors: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If the limit cannot be set, it stays higher than wanted, which does no harm.
    let _stays = setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum });
}

fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many descriptors connections may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Connections of both ports together.
    pub connections: usize,
    /// Connections beyond that, each of which is served one response.
    pub beyond: usize,
}

/// Returns how many descriptors are not for connections: a fifth, but at least 512 or half of them, whichever is less.
fn reserve() -> u64 {
    let limit = limit();
    (limit / 5).max((limit / 2).min(512))
}

/// Returns how many connections are allowed: `configured`, or fewer if there are not enough descriptors.
pub(crate) fn for_connections(configured: u32) -> Share {
    let (descriptors, reserve) = (limit(), reserve());
    let most = usize::try_from(descriptors - reserve).unwrap_or(usize::MAX).max(1);
    if most < configured as usize {
        tracing::warn!(
            descriptors,
            connections = most,
            configured,
            "the limit of open files allows fewer connections than server.max_connections; raise it (ulimit -n, LimitNOFILE=)"
        );
    }
    let beyond = usize::try_from(reserve / 8).unwrap_or(usize::MAX).clamp(1, 1024);
    Share { connections: most.min(configured as usize), beyond }
}

/// Returns how many files of one kind, written or read, stay open between two uses; others are opened each time.
pub(crate) fn files_kept() -> usize {
    usize::try_from(reserve() / 4).unwrap_or(usize::MAX).min(1024)
}
