//! The `storage` section and the retention part of the `jobs` section.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Where jobs and events are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `embedded` keeps them on disk, `memory` loses them with the process.
    pub kind: Kind,
    /// The directory of the embedded store.
    pub path: PathBuf,
    /// What an acknowledged event survives.
    pub durability: Durability,
}

impl Default for Config {
    fn default() -> Self {
        Self { kind: Kind::Embedded, path: "conductor-data".into(), durability: Durability::Process }
    }
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Files under `storage.path`.
    Embedded,
    /// For tests and throw-away use.
    Memory,
}

/// What an acknowledged event survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The death of the gateway, `kill -9` too; not the loss of power.
    Process,
    /// The loss of power: each write is followed by an fsync.
    Fsync,
}

/// How long ended jobs are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Ended jobs older than this are removed.
    pub max_age: Duration,
    /// While the ended jobs' logs take more than this, the oldest of whoever takes most are removed.
    pub max_bytes: u64,
    /// While there are more ended jobs than this, the oldest of whoever has most are removed.
    pub max_jobs: usize,
    /// What one owner's ended jobs may take; `None`: no bound of its own.
    pub max_bytes_per_owner: Option<u64>,
    /// How many ended jobs one owner may have; `None`: no bound of its own.
    pub max_jobs_per_owner: Option<usize>,
}
