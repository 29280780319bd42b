//! The `storage` section and the retention part of the `jobs` section.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where jobs and events are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// `embedded` stores them on disk; `memory` loses them when the process ends.
    pub kind: StoreKind,
    /// The data root: the embedded store, the bundled engine's workspace, backups. Empty: `conductor-data` in the working
    /// directory if it is there already, else `conductor-gateway` below the user's directory for data.
    pub path: PathBuf,
    /// Which failures an acknowledged event survives.
    pub durability: Durability,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { kind: StoreKind::Embedded, path: PathBuf::new(), durability: Durability::Process }
    }
}

/// The kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// Files under `storage.path`.
    Embedded,
    /// In memory, for tests and throw-away use.
    Memory,
}

impl StoreKind {
    /// Returns whether its store locks the data directory, so that no second gateway uses it and its files may be changed.
    pub(crate) fn locks_data_directory(self) -> bool {
        match self {
            Self::Embedded => true,
            Self::Memory => false,
        }
    }
}

/// Which failures an acknowledged event survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The end of the process, `kill -9` included, but not a power loss.
    Process,
    /// A power loss too: every write is followed by an fsync.
    Fsync,
}

/// How long ended jobs are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Ended jobs older than this are removed.
    pub max_age: Duration,
    /// While the logs of ended jobs take more than this, the oldest jobs of the owner with the most bytes are removed.
    pub max_bytes: u64,
    /// While there are more ended jobs than this, the oldest jobs of the owner with the most jobs are removed.
    pub max_jobs: usize,
    /// The bytes that the ended jobs of one owner may take; `None` sets no bound per owner.
    pub max_bytes_per_owner: Option<u64>,
    /// The number of ended jobs that one owner may have; `None` sets no bound per owner.
    pub max_jobs_per_owner: Option<usize>,
}
