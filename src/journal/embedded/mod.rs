//! The embedded store: one checksummed log file per job, and one catalogue of all jobs.
//!
//! ```text
//! <path>/lock              held by the one gateway that uses the store
//! <path>/catalogue         created, ended, deleted: read at startup, rebuilt from the job files if damaged
//! <path>/jobs/<job_id>     header, record, batches of events, end
//! <path>/results/<job_id>  the full text of a result that is too long for an event
//! <path>/damaged/          originals of files that were found damaged
//! ```
//!
//! Every frame is checksummed together with its position and its job. The header of a file says how far its log was acknowledged,
//! so that a missing tail is noticed too. docs/stores.md compares this with three databases. What is known of every job is kept
//! in memory (`index.rs`); the files are read only when a job is claimed or read.
//!
//! `disk.rs` is the interface to the files of the system; tests replace it with a disk that loses what was not synced.
//!
//! Epochs are counted in memory: the lock keeps other processes from writing, and within this process each open job file knows
//! its latest claim.

mod catalogue;
mod check;
mod claim;
mod directory;
mod disk;
mod encoded_entry;
#[cfg(test)]
mod fault_isolation;
mod file_work;
mod format;
mod halves;
#[cfg(any(test, fuzzing))]
mod hostile;
mod job_file;
mod job_reader;
#[cfg(test)]
pub(crate) mod lossy;
mod open;
mod open_file_pool;
#[cfg(test)]
mod power;
mod result_file;
mod window;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

use catalogue::CatalogueFile;
pub use check::{StoreCheck, check};
use directory::Directory;
#[cfg(test)]
use disk::Disk;
use disk::SystemDisk;
use job_file::JobFile;
use open_file_pool::OpenFilePool;
use tokio::sync::Notify;

#[cfg(any(test, fuzzing))]
pub(crate) use hostile::{read_catalogue, read_job_file};

use self::file_work::{off_runtime, unavailable};
use super::{BatchAppend, Claim, Durability, JobId, Lease, WriteRefusal, index::Index};
use crate::{
    descriptors,
    error::{Error, Reason, Result},
    pb::{Job, storage::JobRecord},
    principal::Principal,
    sync::lock,
};

/// How many bytes a check writes.
const CHECK_BYTES: usize = 16 * 1024;

/// See the documentation of the module. Clones share the store.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    inner: Arc<EmbeddedStoreInner>,
}

/// Serializes submits with the same key; an entry is removed once nobody uses it.
type KeyLocks = BTreeMap<(Principal, String), Weak<tokio::sync::Mutex<()>>>;

#[derive(Debug)]
struct EmbeddedStoreInner {
    directory: Directory,
    durability: Durability,
    /// Never locked while a file is read or written.
    index: Mutex<Index>,
    catalogue: Mutex<Option<CatalogueFile>>,
    /// The open files of held jobs.
    open: Mutex<HashMap<JobId, Arc<Mutex<JobFile>>>>,
    key_turns: Mutex<KeyLocks>,
    written_files: OpenFilePool,
    read_files: OpenFilePool,
    /// Notified whenever something was stored.
    changed: Notify,
}

fn closed() -> Error {
    Error::new(Reason::StoreUnavailable, "the store is closed: the gateway ends; try again later")
}

impl EmbeddedStore {
    /// Opens or creates the store at `path` and takes its lock.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] if the directory cannot be written or another gateway holds the lock.
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        Ok(Self::over(Directory::open(path, Arc::new(SystemDisk))?.locked()?, durability))
    }

    /// Opens the store on another disk, which nobody else uses.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] if it cannot be written.
    #[cfg(test)]
    pub(crate) fn open_on(disk: Arc<dyn Disk>, path: &Path, durability: Durability) -> Result<Self> {
        Ok(Self::over(Directory::open(path, disk)?, durability))
    }

    /// Opens the store again on the same disk, as after a restart: nobody holds a job.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] if it cannot be written.
    #[cfg(test)]
    pub(crate) fn opened_again(&self) -> Result<Self> {
        let Directory { path, disk, .. } = &self.inner.directory;
        Self::open_on(disk.clone(), path, self.inner.durability)
    }

    /// Returns the jobs that it knows.
    #[cfg(test)]
    pub(crate) fn job_ids(&self) -> Vec<JobId> {
        lock(&self.inner.index).job_ids().cloned().collect()
    }

    fn over(directory: Directory, durability: Durability) -> Self {
        let kept = || OpenFilePool::at_most(descriptors::files_kept());
        let inner = EmbeddedStoreInner {
            directory,
            durability,
            index: Mutex::default(),
            catalogue: Mutex::default(),
            open: Mutex::default(),
            key_turns: Mutex::default(),
            written_files: kept(),
            read_files: kept(),
            changed: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Runs file work on a thread that may block.
    async fn blocking<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedStoreInner) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let inner = self.inner.clone();
        off_runtime(&*self.inner.directory.disk, move || work(&inner)).await
    }
}

impl From<Error> for WriteRefusal {
    fn from(error: Error) -> Self {
        Self::Unavailable(error)
    }
}

impl EmbeddedStoreInner {
    fn path_of(&self, job_id: &JobId) -> PathBuf {
        self.directory.job_path(job_id)
    }

    fn open_file(&self, job_id: &JobId) -> Option<Arc<Mutex<JobFile>>> {
        lock(&self.open).get(job_id).cloned()
    }

    fn with_catalogue<T>(&self, use_it: impl FnOnce(&mut CatalogueFile) -> io::Result<T>) -> Result<T> {
        let mut catalogue = lock(&self.catalogue);
        let catalogue = catalogue.as_mut().ok_or_else(closed)?;
        use_it(catalogue).map_err(|error| unavailable(&self.directory.catalogue_path(), &error))
    }

    fn key_turn(&self, owner: &Principal, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.key_turns);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = turns.entry((owner.clone(), key.to_owned())).or_default();
        turn.upgrade().unwrap_or_else(|| {
            let new = Arc::default();
            *turn = Arc::downgrade(&new);
            new
        })
    }

    fn create(&self, job_id: &JobId, record: &JobRecord, lease: &Lease) -> Result<Claim> {
        let path = self.path_of(job_id);
        let (disk, kept) = (&self.directory.disk, self.written_files.clone());
        self.with_catalogue(CatalogueFile::is_there)?;
        let file =
            JobFile::create(disk, (&path, job_id), record, self.durability, kept).map_err(|error| {
                // The job was not accepted, so the next start must not find a partial file.
                let _gone = disk.remove(&path);
                unavailable(&path, &error)
            })?;
        self.with_catalogue(|catalogue| catalogue.created(record)).inspect_err(|_| {
            let _gone = disk.remove(&path);
        })?;
        lock(&self.open).insert(job_id.clone(), Arc::new(Mutex::new(file)));
        Ok(lock(&self.index).create(job_id, record, lease))
    }

    fn append(&self, append: &BatchAppend) -> Result<(), WriteRefusal> {
        let claim = &append.claim;
        lock(&self.index).check(claim)?;
        let file = self.open_file(&claim.job_id).ok_or(WriteRefusal::Gone)?;
        let mut file = lock(&file);
        if file.epoch != claim.epoch {
            return Err(WriteRefusal::Stale);
        }
        let last = file.last_sequence();
        let new = append.batches.partition_point(|batch| batch.first_sequence() <= last);
        let batches = &append.batches[new..];
        let (Some(first), Some(newest)) = (batches.first(), batches.last()) else { return Ok(()) };
        if first.first_sequence() != last + 1 {
            return Err(WriteRefusal::Stale);
        }
        file.append(batches, self.durability)
            .map_err(|error| WriteRefusal::Unavailable(unavailable(&self.path_of(&claim.job_id), &error)))?;
        lock(&self.index).stored(&claim.job_id, newest.last_sequence());
        Ok(())
    }

    fn end(&self, claim: &Claim, job: &Job) -> Result<u64, WriteRefusal> {
        let job_id = &claim.job_id;
        if let Some(bytes) = lock(&self.index).ended_bytes_of(job_id) {
            return Ok(bytes);
        }
        lock(&self.index).check(claim)?;
        let file = self.open_file(job_id).ok_or(WriteRefusal::Gone)?;
        let mut file = lock(&file);
        if file.epoch != claim.epoch {
            return Err(WriteRefusal::Stale);
        }
        let log_bytes =
            file.finish(job, self.durability).map_err(|error| unavailable(&self.path_of(job_id), &error))?;
        let log_bytes = log_bytes + self.result_bytes(job_id);
        self.with_catalogue(|catalogue| catalogue.ended(job, log_bytes, false))?;
        lock(&self.index).end(claim, job, log_bytes, false);
        lock(&self.open).remove(job_id);
        self.changed.notify_waiters();
        Ok(log_bytes)
    }

    fn result_bytes(&self, job_id: &JobId) -> u64 {
        self.directory.disk.length(&self.directory.result_path(job_id)).unwrap_or(0)
    }

    fn give_up(&self, claim: &Claim, job: &Job) -> Result<(), WriteRefusal> {
        lock(&self.index).check(claim)?;
        let path = self.path_of(&claim.job_id);
        let log_bytes = self.directory.disk.length(&path).unwrap_or(0) + self.result_bytes(&claim.job_id);
        self.with_catalogue(|catalogue| catalogue.ended(job, log_bytes, true))?;
        self.directory.set_aside(&path);
        lock(&self.index).end(claim, job, log_bytes, true);
        lock(&self.open).remove(&claim.job_id);
        self.changed.notify_waiters();
        Ok(())
    }

    fn delete(&self, job_id: &JobId) -> Result<()> {
        // Once the store is closed, another gateway may already use it.
        lock(&self.catalogue).as_ref().ok_or_else(closed)?;
        // The catalogue comes first: a job that is in the catalogue but has no file would be reported as lost.
        let noted = self.with_catalogue(|catalogue| catalogue.deleted(job_id));
        let path = self.path_of(job_id);
        if noted.is_err() && self.directory.disk.length(&path).is_err() {
            return noted;
        }
        for path in [&self.directory.result_path(job_id), &path] {
            match self.directory.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(unavailable(path, &error));
                }
                _ => {}
            }
        }
        if self.durability == Durability::Fsync {
            self.directory.sync_removals().map_err(|error| unavailable(&path, &error))?;
        }
        // On a full disk there may be room for the entry once the file is gone.
        noted.or_else(|_| self.with_catalogue(|catalogue| catalogue.deleted(job_id)))?;
        lock(&self.index).remove(job_id);
        self.changed.notify_waiters();
        self.with_catalogue(|catalogue| {
            if catalogue.is_mostly_stale()
                && let Err(error) = catalogue.rewrite()
            {
                tracing::warn!(%error, "the catalogue could not be written anew; it goes on as it is");
            }
            Ok(())
        })
    }

    fn check(&self) -> Result<()> {
        let path = self.directory.check_path();
        // Writes as much as a small job takes, because a full disk may still have room for an empty file.
        let disk = &self.directory.disk;
        let file = disk.open(&path, disk::OpenMode::Replacing);
        let written = file.and_then(|file| file.write_all_at(&[0; CHECK_BYTES], 0));
        let removed = disk.remove(&path);
        written.and(removed).map_err(|error| unavailable(&path, &error))
    }

    fn close(&self) {
        lock(&self.open).clear();
        *lock(&self.catalogue) = None;
        self.directory.unlock();
    }
}
