//! The embedded store: one checksummed log file for each job, one catalogue of them all.
//!
//! ```text
//! <path>/lock              held by the one gateway that uses the store
//! <path>/catalogue         created, ended, deleted: read at a start, rebuilt from the job files if damaged
//! <path>/jobs/<job_id>     header, record, batches of events, end
//! <path>/results/<job_id>  the whole of an answer that is too long for an event
//! <path>/damaged/          originals of what was found damaged
//! ```
//!
//! Every frame carries a checksum over its content, its place and its job. The file's header says how far the
//! log was acknowledged, so that a missing tail is noticed too. docs/stores.md compares this with three
//! databases.

mod catalogue;
mod directory;
mod format;
#[cfg(any(test, fuzzing))]
mod hostile;
mod job_file;
mod job_reader;
mod kept_files;
mod result_file;
mod window;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use catalogue::Catalogue;
use directory::Directory;
use job_file::JobFile;
use kept_files::KeptFiles;

#[cfg(any(test, fuzzing))]
pub(crate) use hostile::{read_catalogue, read_job_file};

use super::{Batch, Durability, JobId, Loaded, Reader, Store, StoredJob};
use crate::{
    descriptors,
    error::{Error, Reason, Result},
    pb::{Job, storage::JobRecord},
};

/// What a check writes.
const CHECK_BYTES: usize = 16 * 1024;

/// See the module's documentation. Clones share the store.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: Directory,
    durability: Durability,
    catalogue: Mutex<Option<Catalogue>>,
    /// The files of jobs that have not ended.
    open: Mutex<HashMap<JobId, Arc<Mutex<JobFile>>>>,
    written_files: KeptFiles,
    read_files: KeptFiles,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> Error {
    Error::new(Reason::StoreUnavailable, "the store is closed: the gateway ends; try again later")
}

/// The error of a store that could not do what it was asked; the file's path goes to the log.
fn unavailable(path: &Path, error: &io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the store's disk is full; nothing was accepted, try again when there is space"
        }
        _ => "the store does not take or give data now; nothing was accepted, try again later",
    };
    Error::new(Reason::StoreUnavailable, message).because(format_args!("{}: {error}", path.display()))
}

impl EmbeddedStore {
    /// Opens or creates the store at `path` and takes its lock.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`] when the directory cannot be written or another gateway holds it.
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        let directory = Directory::open(path)?;
        let kept = || KeptFiles::at_most(descriptors::files_kept());
        let inner = Inner {
            directory,
            durability,
            catalogue: Mutex::default(),
            open: Mutex::default(),
            written_files: kept(),
            read_files: kept(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs file work on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(Error::internal)?
    }
}

impl Inner {
    fn path_of(&self, job_id: &JobId) -> PathBuf {
        self.directory.job_path(job_id)
    }

    fn open_file(&self, job_id: &JobId) -> Result<Arc<Mutex<JobFile>>> {
        lock(&self.open).get(job_id).cloned().ok_or_else(|| JobId::not_found(job_id.as_str()))
    }

    fn with_catalogue<T>(&self, use_it: impl FnOnce(&mut Catalogue) -> io::Result<T>) -> Result<T> {
        let mut catalogue = lock(&self.catalogue);
        let catalogue = catalogue.as_mut().ok_or_else(closed)?;
        use_it(catalogue).map_err(|error| unavailable(&self.directory.catalogue_path(), &error))
    }

    fn create(&self, job_id: &JobId, record: &JobRecord) -> Result<()> {
        let path = self.path_of(job_id);
        let file = JobFile::create(&path, job_id, record, self.durability, self.written_files.clone())
            .map_err(|error| {
                // The job was not accepted: a half-made file must not be found by the next start.
                let _gone = std::fs::remove_file(&path);
                unavailable(&path, &error)
            })?;
        self.with_catalogue(|catalogue| catalogue.created(record)).inspect_err(|_| {
            let _gone = std::fs::remove_file(&path);
        })?;
        lock(&self.open).insert(job_id.clone(), Arc::new(Mutex::new(file)));
        Ok(())
    }

    fn load(&self) -> Result<Loaded> {
        let (catalogue, loaded, files) = self.directory.load(self.durability, &self.written_files)?;
        *lock(&self.catalogue) = Some(catalogue);
        lock(&self.open).extend(files.into_iter().map(|(job_id, file)| (job_id, Arc::new(Mutex::new(file)))));
        Ok(loaded)
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn load(&self) -> Result<Loaded> {
        self.blocking(Inner::load).await
    }

    async fn create(&self, job_id: &JobId, record: &JobRecord) -> Result<()> {
        let (job_id, record) = (job_id.clone(), record.clone());
        self.blocking(move |inner| inner.create(&job_id, &record)).await
    }

    async fn append(&self, job_id: &JobId, batches: &[Arc<Batch>]) -> Result<()> {
        let file = self.inner.open_file(job_id)?;
        let (job_id, batches) = (job_id.clone(), batches.to_vec());
        self.blocking(move |inner| {
            lock(&file)
                .append(&batches, inner.durability)
                .map_err(|error| unavailable(&inner.path_of(&job_id), &error))
        })
        .await
    }

    async fn finish(&self, job_id: &JobId, job: &Job) -> Result<u64> {
        let file = self.inner.open_file(job_id)?;
        let (job_id, job) = (job_id.clone(), job.clone());
        self.blocking(move |inner| {
            let log_bytes = lock(&file)
                .finish(&job, inner.durability)
                .map_err(|error| unavailable(&inner.path_of(&job_id), &error))?;
            let result_bytes =
                std::fs::metadata(inner.directory.result_path(&job_id)).map_or(0, |file| file.len());
            let log_bytes = log_bytes + result_bytes;
            inner.with_catalogue(|catalogue| catalogue.ended(&job, log_bytes))?;
            lock(&inner.open).remove(&job_id);
            Ok(log_bytes)
        })
        .await
    }

    async fn put_result(&self, job_id: &JobId, text: Bytes) -> Result<()> {
        let job_id = job_id.clone();
        self.blocking(move |inner| {
            let path = inner.directory.result_path(&job_id);
            result_file::write(&path, &job_id, &text, inner.durability == Durability::Fsync)
                .map_err(|error| unavailable(&path, &error))
        })
        .await
    }

    async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes> {
        let job_id = job_id.clone();
        self.blocking(move |inner| {
            let path = inner.directory.result_path(&job_id);
            result_file::read(&path, &job_id, from, max_bytes).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    let message = "the whole answer is lost: it could not be kept, or was damaged; the job shows its beginning";
                    Error::new(Reason::DataLoss, message).for_job(job_id.as_str()).because(error)
                }
                _ => unavailable(&path, &error),
            })
        })
        .await
    }

    async fn reader(&self, job_id: &JobId) -> Result<Box<dyn Reader>> {
        let job_id = job_id.clone();
        let reader = self
            .blocking(move |inner| {
                job_reader::JobReader::open(&inner.path_of(&job_id), &job_id, inner.read_files.clone())
            })
            .await?;
        Ok(Box::new(reader))
    }

    async fn job(&self, job_id: &JobId) -> Result<StoredJob> {
        let job_id = job_id.clone();
        self.blocking(move |inner| job_reader::read_job(&inner.path_of(&job_id), &job_id)).await
    }

    async fn delete(&self, job_id: &JobId) -> Result<()> {
        let job_id = job_id.clone();
        self.blocking(move |inner| {
            // Another gateway may have the store by now.
            lock(&inner.catalogue).as_ref().ok_or_else(closed)?;
            // The catalogue first: a job that it knows and that has no file would be reported as lost.
            let noted = inner.with_catalogue(|catalogue| catalogue.deleted(&job_id));
            let path = inner.path_of(&job_id);
            if noted.is_err() && !path.exists() {
                return noted;
            }
            for path in [&inner.directory.result_path(&job_id), &path] {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(unavailable(path, &error));
                    }
                    _ => {}
                }
            }
            // On a full disk there is room for the note once the file is gone.
            noted.or_else(|_| inner.with_catalogue(|catalogue| catalogue.deleted(&job_id)))?;
            inner.with_catalogue(|catalogue| {
                let path = inner.directory.catalogue_path();
                if catalogue.is_mostly_stale()
                    && let Err(error) = catalogue.compact(&path)
                {
                    tracing::warn!(%error, "the catalogue could not be written anew; it goes on as it is");
                }
                Ok(())
            })
        })
        .await
    }

    async fn check(&self) -> Result<()> {
        self.blocking(|inner| {
            let path = inner.directory.check_path();
            // As much as a small job takes: a full disk may still have room for a name.
            let written = std::fs::write(&path, [0; CHECK_BYTES]);
            let removed = std::fs::remove_file(&path);
            written.and(removed).map_err(|error| unavailable(&path, &error))
        })
        .await
    }

    async fn close(&self) {
        let closed = self
            .blocking(|inner| {
                lock(&inner.open).clear();
                *lock(&inner.catalogue) = None;
                inner.directory.unlock();
                Ok(())
            })
            .await;
        if let Err(error) = closed {
            tracing::error!(cause = error.cause(), "store not closed");
        }
    }
}
