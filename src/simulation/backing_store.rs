//! The real stores beneath the simulated one: in memory, or files on a disk that is full at times and loses what was not synced.

use std::{fmt, path::Path, sync::Arc};

use crate::{
    ambient::simulated::Random,
    journal::{Catalogue, Durability, EmbeddedStore, EventLog, JobId, LossyDisk, MemoryStore},
};

/// The directory of the store.
const PATH: &str = "/store";

/// The kind of store.
#[derive(Clone, Copy, Debug)]
pub(super) enum BackingKind {
    Memory,
    Files(Durability),
}

/// A real store.
pub(super) trait BackingStore: Catalogue + EventLog + fmt::Debug {
    /// Returns the jobs that it knows.
    fn job_ids(&self) -> Vec<JobId>;
    /// Opens the store again, as after a restart: nobody holds a job.
    fn reopened(&self) -> Arc<dyn BackingStore>;
}

impl BackingStore for MemoryStore {
    fn job_ids(&self) -> Vec<JobId> {
        self.contents().into_keys().collect()
    }

    fn reopened(&self) -> Arc<dyn BackingStore> {
        Arc::new(Self::reopened(self))
    }
}

impl BackingStore for EmbeddedStore {
    fn job_ids(&self) -> Vec<JobId> {
        Self::job_ids(self)
    }

    fn reopened(&self) -> Arc<dyn BackingStore> {
        Arc::new(self.opened_again().expect("a disk that can be read"))
    }
}

/// The disk beneath the files.
#[derive(Debug)]
pub(super) struct SimulatedDisk {
    disk: LossyDisk,
    durability: Durability,
}

impl BackingKind {
    pub(super) fn create(self, seed: u64) -> (Arc<dyn BackingStore>, Option<SimulatedDisk>) {
        match self {
            Self::Memory => (Arc::new(MemoryStore::default()), None),
            Self::Files(durability) => {
                let disk = LossyDisk::new(seed);
                let store = EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new(PATH), durability);
                (Arc::new(store.expect("an empty disk")), Some(SimulatedDisk { disk, durability }))
            }
        }
    }
}

impl SimulatedDisk {
    /// Prepares the disk for a start: randomly after a power loss, and randomly full unless `is_last`.
    pub(super) fn begins_again(&self, random: &mut Random, is_last: bool) {
        if self.durability == Durability::Fsync && random.percent(60) {
            self.disk.loses_power();
        }
        let is_full = !is_last && random.percent(20);
        self.disk.has_room_for(if is_full { random.below(2_000) } else { u64::MAX });
    }

    /// Randomly fills the disk, or frees it again.
    pub(super) fn may_be_full(&self, random: &mut Random) {
        match random.below(400) {
            0 => self.disk.has_room_for(random.below(20_000)),
            1..20 => self.disk.has_room_for(u64::MAX),
            _ => {}
        }
    }
}
