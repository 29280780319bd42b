//! What every candidate can do, and the list of them.

use std::{path::Path, sync::Arc};

use conductor_gateway::journal::JobId;
use tokio::runtime::Runtime;

use crate::{databases, own::Own, units::Unit};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Outcome<T = ()> = Result<T, Failure>;

/// A stored batch as a candidate gives it back, in one piece and owned: readers keep it beyond the read.
pub enum Piece {
    EventBatch(Arc<conductor_gateway::journal::EventBatch>),
    Value(Vec<u8>),
    Slice(fjall::Slice),
}

impl Piece {
    /// Its length, after each byte was looked at: a slice of memory alone would cost nothing to read.
    pub fn touched_len(&self) -> usize {
        let touch = |bytes: &[u8]| {
            std::hint::black_box(bytes.iter().fold(0_u8, |all, byte| all ^ byte));
            bytes.len()
        };
        match self {
            Self::EventBatch(batch) => touch(batch.bytes()) + 4 * batch.len(),
            Self::Value(value) => touch(value),
            Self::Slice(value) => touch(value),
        }
    }

    pub fn digest(&self) -> u64 {
        match self {
            Self::EventBatch(batch) => crate::units::digest(&crate::units::value_of(batch)),
            Self::Value(value) => crate::units::digest(value),
            Self::Slice(value) => crate::units::digest(value),
        }
    }
}

/// Takes each batch of a scan: its first sequence and its bytes, or why it cannot be read.
pub type Visit<'a> = &'a mut dyn FnMut(Outcome<(u32, Piece)>);

/// A store under comparison, called from async code as the gateway calls its store.
pub trait Candidate {
    /// Damage that was found when the store was opened.
    fn complaints(&self) -> Vec<String> {
        Vec::new()
    }
    fn create(&self, job: &JobId) -> Outcome;
    fn append(&self, job: &JobId, unit: &Arc<Unit>) -> Outcome;
    fn finish(&self, job: &JobId, last_sequence: u32) -> Outcome;
    /// Reads a job that was there when the store was opened.
    fn scan(&self, job: &JobId, visit: Visit<'_>) -> Outcome;
    /// Reads one batch; `None` where there is no such batch.
    fn get(&self, job: &JobId, first: u32) -> Outcome<Option<Piece>>;
    /// Brings what waits in memory into the store's lasting form, where it has one.
    fn settle(&self) -> Outcome {
        Ok(())
    }
    fn close(self: Box<Self>) -> Outcome;
}

/// A database: values under (job, first sequence). Keys from 1 on are batches; 0 is the job's end.
pub trait Database: Send + Sync + 'static {
    fn put(&self, job: &str, first: u32, value: &[u8]) -> Outcome;
    fn get(&self, job: &str, first: u32) -> Outcome<Option<Piece>>;
    fn scan(&self, job: &str, visit: Visit<'_>) -> Outcome;
    fn settle(&self) -> Outcome {
        Ok(())
    }
}

/// Which candidate, in which setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Own,
    Fjall,
    RedbNone,
    RedbImmediate,
    /// Verifies the whole file whenever it is opened.
    RedbChecked,
    SqliteOff,
    SqliteNormal,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Own,
        Self::Fjall,
        Self::RedbNone,
        Self::RedbImmediate,
        Self::RedbChecked,
        Self::SqliteOff,
        Self::SqliteNormal,
    ];

    /// The settings that differ in how they write.
    pub const WRITERS: [Self; 6] =
        [Self::Own, Self::Fjall, Self::RedbNone, Self::RedbImmediate, Self::SqliteOff, Self::SqliteNormal];

    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own files",
            Self::Fjall => "fjall Buffer",
            Self::RedbNone => "redb None",
            Self::RedbImmediate => "redb Immediate",
            Self::RedbChecked => "redb checked open",
            Self::SqliteOff => "SQLite WAL OFF",
            Self::SqliteNormal => "SQLite WAL NORMAL",
        }
    }

    pub fn parse(name: &str) -> Outcome<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| "no such candidate".into())
    }

    /// Opens or creates the store in the directory `path`.
    pub fn open(self, path: &Path) -> Outcome<Box<dyn Candidate>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let database: Arc<dyn Database> = match self {
            Self::Own => return Ok(Box::new(Own::open(path, runtime)?)),
            Self::Fjall => Arc::new(databases::Fjall::open(path)?),
            Self::RedbNone => Arc::new(databases::Redb::open(path, redb::Durability::None, false)?),
            Self::RedbImmediate => Arc::new(databases::Redb::open(path, redb::Durability::Immediate, false)?),
            Self::RedbChecked => Arc::new(databases::Redb::open(path, redb::Durability::Immediate, true)?),
            Self::SqliteOff => Arc::new(databases::Sqlite::open(path, "OFF")?),
            Self::SqliteNormal => Arc::new(databases::Sqlite::open(path, "NORMAL")?),
        };
        Ok(Box::new(Blocking { database, runtime }))
    }
}

/// A database behind async code: each write runs on a thread that may block, as our own store's does.
struct Blocking {
    database: Arc<dyn Database>,
    runtime: Runtime,
}

impl Blocking {
    fn write(&self, work: impl FnOnce(&dyn Database) -> Outcome + Send + 'static) -> Outcome {
        let database = self.database.clone();
        self.runtime.block_on(async { tokio::task::spawn_blocking(move || work(&*database)).await })?
    }
}

impl Candidate for Blocking {
    fn create(&self, _job: &JobId) -> Outcome {
        Ok(())
    }

    fn append(&self, job: &JobId, unit: &Arc<Unit>) -> Outcome {
        let (job, unit) = (job.clone(), unit.clone());
        self.write(move |database| database.put(job.as_str(), unit.first(), &unit.value))
    }

    fn finish(&self, job: &JobId, last_sequence: u32) -> Outcome {
        let job = job.clone();
        self.write(move |database| database.put(job.as_str(), 0, &last_sequence.to_le_bytes()))
    }

    fn scan(&self, job: &JobId, visit: Visit<'_>) -> Outcome {
        self.database.scan(job.as_str(), visit)
    }

    fn get(&self, job: &JobId, first: u32) -> Outcome<Option<Piece>> {
        self.database.get(job.as_str(), first)
    }

    fn settle(&self) -> Outcome {
        self.database.settle()
    }

    fn close(self: Box<Self>) -> Outcome {
        // The threads first: they may still hold the database for a moment, and the last holder closes it.
        drop(self.runtime);
        drop(self.database);
        Ok(())
    }
}
