//! One life of the simulated gateway.

use std::{sync::Arc, time::Duration};

use super::{store::SimulatedStore, worker::SimulatedWorker, world::World};
use crate::{
    job::{JobService, JobsConfig},
    journal::{Journal, JournalParts},
    principal::OwnersOnly,
};

pub(super) async fn open_over(store: SimulatedStore, max_tail_bytes: usize) -> Journal {
    let store = Arc::new(store);
    let parts = JournalParts {
        catalogue: store.clone(),
        events: store,
        policy: Arc::new(OwnersOnly),
        max_tail_bytes,
        max_log_bytes: crate::quota::Bounds { most: 1 << 40, most_per_caller: None },
    };
    Journal::open(parts).await.unwrap().0
}

/// One of the gateways that share a store.
#[derive(Clone)]
pub(super) struct SimulatedGateway {
    pub(super) gateway: u32,
    pub(super) service: JobService,
}

impl std::ops::Deref for SimulatedGateway {
    type Target = JobService;

    fn deref(&self) -> &JobService {
        &self.service
    }
}

impl SimulatedGateway {
    pub(super) async fn start(world: &Arc<World>, gateway: u32, config: JobsConfig, is_faulty: bool) -> Self {
        let store = SimulatedStore::new(world.clone(), gateway, is_faulty);
        let journal = open_over(store, config.tail_bytes as usize).await;
        let worker = Arc::new(SimulatedWorker::new(world.clone(), gateway, config.max_running));
        Self { gateway, service: JobService::start(config, journal, worker).await }
    }

    /// Shuts down in order, as app.rs does.
    pub(super) async fn end(self, world: &World) {
        let mut is_over = self.finish_running(Duration::from_millis(world.below(3_000))).await;
        if !is_over {
            is_over = self.interrupt_running(Duration::from_secs(2)).await;
        }
        self.close_streams();
        self.journal().close(Duration::from_millis(if is_over { 5_000 } else { 700 })).await;
    }
}
