//! fjall, redb and SQLite, each as its documentation advises for values of this size.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fjall::{KeyspaceCreateOptions, KvSeparationOptions};
use redb::{ReadableDatabase, TableDefinition};
use rusqlite::{Connection, OptionalExtension};

use crate::candidate::{Database, Outcome, Piece, Visit};

/// A log-structured tree; large values in blob files, each write into the journal first.
pub struct Fjall {
    // In this order: the keyspace goes before the database.
    events: fjall::Keyspace,
    _database: fjall::Database,
}

impl Fjall {
    pub fn open(path: &Path) -> Outcome<Self> {
        let database = fjall::Database::builder(path).open()?;
        let options =
            || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
        let events = database.keyspace("events", options)?;
        Ok(Self { events, _database: database })
    }
}

fn fjall_key(job: &str, first: u32) -> Vec<u8> {
    let mut key = job.as_bytes().to_vec();
    key.extend_from_slice(&first.to_be_bytes());
    key
}

impl Database for Fjall {
    /// Each insert hands its journal entry to the kernel (`PersistMode::Buffer`), which is fjall's default.
    fn put(&self, job: &str, first: u32, value: &[u8]) -> Outcome {
        Ok(self.events.insert(fjall_key(job, first), value)?)
    }

    fn get(&self, job: &str, first: u32) -> Outcome<Option<Piece>> {
        Ok(self.events.get(fjall_key(job, first))?.map(Piece::Slice))
    }

    fn scan(&self, job: &str, visit: Visit<'_>) -> Outcome {
        for guard in self.events.range(fjall_key(job, 1)..=fjall_key(job, u32::MAX)) {
            let (key, value) = guard.into_inner()?;
            let first = key.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            visit(Ok((first, Piece::Slice(value))));
        }
        Ok(())
    }

    fn settle(&self) -> Outcome {
        Ok(self.events.rotate_memtable_and_wait()?)
    }
}

/// One file, a copy-on-write tree, one transaction for each append.
pub struct Redb {
    database: redb::Database,
    durability: redb::Durability,
}

const EVENTS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("events");

impl Redb {
    pub fn open(path: &Path, durability: redb::Durability, is_checked: bool) -> Outcome<Self> {
        let database =
            redb::Builder::new().set_check_integrity_on_open(is_checked).create(path.join("events.redb"))?;
        let first = database.begin_write()?;
        first.open_table(EVENTS)?;
        first.commit()?;
        Ok(Self { database, durability })
    }
}

impl Database for Redb {
    fn put(&self, job: &str, first: u32, value: &[u8]) -> Outcome {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        transaction.open_table(EVENTS)?.insert((job, first), value)?;
        Ok(transaction.commit()?)
    }

    fn get(&self, job: &str, first: u32) -> Outcome<Option<Piece>> {
        let table = self.database.begin_read()?.open_table(EVENTS)?;
        Ok(table.get((job, first))?.map(|value| Piece::Value(value.value().to_vec())))
    }

    fn scan(&self, job: &str, visit: Visit<'_>) -> Outcome {
        let table = self.database.begin_read()?.open_table(EVENTS)?;
        for entry in table.range((job, 1)..=(job, u32::MAX))? {
            let (key, value) = entry?;
            visit(Ok((key.value().1, Piece::Value(value.value().to_vec()))));
        }
        Ok(())
    }
}

/// One table in write-ahead mode, one statement for each append.
pub struct Sqlite {
    connection: Mutex<Connection>,
}

const CREATE: &str = "CREATE TABLE IF NOT EXISTS events \
    (job TEXT NOT NULL, first INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (job, first))";
const INSERT: &str = "INSERT INTO events (job, first, value) VALUES (?1, ?2, ?3)";
const GET: &str = "SELECT value FROM events WHERE job = ?1 AND first = ?2";
const SCAN: &str = "SELECT first, value FROM events WHERE job = ?1 AND first >= 1 ORDER BY first";

impl Sqlite {
    pub fn open(path: &Path, synchronous: &str) -> Outcome<Self> {
        let connection = Connection::open(path.join("events.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.execute(CREATE, ())?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database for Sqlite {
    fn put(&self, job: &str, first: u32, value: &[u8]) -> Outcome {
        self.connection().prepare_cached(INSERT)?.execute((job, first, value))?;
        Ok(())
    }

    fn get(&self, job: &str, first: u32) -> Outcome<Option<Piece>> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(GET)?;
        Ok(statement.query_row((job, first), |row| row.get(0).map(Piece::Value)).optional()?)
    }

    fn scan(&self, job: &str, visit: Visit<'_>) -> Outcome {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(SCAN)?;
        let mut rows = statement.query([job])?;
        while let Some(row) = rows.next()? {
            visit(Ok((row.get(0)?, Piece::Value(row.get(1)?))));
        }
        Ok(())
    }
}
