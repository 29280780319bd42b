//! File descriptors: connections must not take those that the store and the engines need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for the store, the engines' pipes and outgoing connections, or half of all where there are few.
const RESERVED: u64 = 512;
/// A connection may need one for the file that its reader reads, and there are two ports.
const PER_CONNECTION: u64 = 4;

/// Raises the soft limit of descriptors to the hard one (getrlimit(2)) and answers with how many connections a port may
/// have: `configured`, or fewer where the descriptors do not suffice. Further ones wait in the kernel.
///
/// To be called once the guardian runs: engines keep the limit that the gateway was started with.
pub fn connections_allowed(configured: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(descriptors) = current else { return configured };
    let reserved = RESERVED.min(descriptors / 2);
    let places = u32::try_from((descriptors - reserved) / PER_CONNECTION).unwrap_or(u32::MAX).max(1);
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
