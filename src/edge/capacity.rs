//! How many connections and requests the doors accept, on both ports together.

use std::sync::Arc;

use super::{ServerConfig, connection_table::ConnectionTable, requests::RequestLimiter};
use crate::{descriptors, quota::Bounds};

/// The connection and request quotas that all servers of one gateway share. Clones share them.
#[derive(Clone, Debug)]
pub struct Capacity {
    pub(super) connections: Arc<ConnectionTable>,
    pub(super) requests: Arc<RequestLimiter>,
}

impl Capacity {
    /// Creates the quotas from the configuration, reduced to what the process's file descriptors allow.
    pub fn of(config: &ServerConfig) -> Self {
        let descriptors = descriptors::for_connections(config.max_connections);
        let requests = Bounds {
            most: config.max_streams as usize,
            most_per_caller: config.max_streams_per_caller.map(|most| most as usize),
        };
        Self {
            connections: ConnectionTable::new(descriptors.connections, descriptors.beyond),
            requests: Arc::new(RequestLimiter::new(requests)),
        }
    }
}
