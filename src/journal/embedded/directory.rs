//! The directory of a store: its lock, its paths, and its contents.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};

use super::{super::JobId, disk::Disk, file_work::unavailable};
use crate::{
    error::{Error, Reason, Result},
    files::open_private,
    pb::Timestamp,
};

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    /// Present only on the disk of the operating system.
    lock: Option<File>,
}

fn set_aside(disk: &dyn Disk, store: &Path, path: &Path) -> io::Result<()> {
    let directory = store.join("damaged");
    disk.create_directory(&directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    disk.copy(path, &directory.join(format!("{name}.{}", Timestamp::now().unix_millis())))
}

/// Copies a job file in which a reader has found damage, once, before retention can remove it, and logs its name. Files of ended
/// jobs are not checked at startup, so that readers are the first to notice.
pub(super) fn set_aside_once(disk: &dyn Disk, path: &Path) {
    let (Some(store), Some(name)) = (path.parent().and_then(Path::parent), path.file_name()) else { return };
    let name = name.to_string_lossy();
    let kept = disk.names(&store.join("damaged")).unwrap_or_default();
    let is_kept = kept.iter().any(|kept| kept.starts_with(&*name));
    if is_kept {
        return;
    }
    let kept = set_aside(disk, store, path);
    tracing::error!(job_id = %name, is_kept = kept.is_ok(), "a reader has met damage in a job's file; it is kept in the store's directory `damaged`");
}

impl Directory {
    pub(super) fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<Self> {
        let made = disk.create_directory(&path.join("jobs"));
        made.map_err(|error| unavailable(path, &error))?;
        Ok(Self { path: path.to_owned(), disk, lock: None })
    }

    /// Takes the lock of a directory on the disk of the operating system.
    pub(super) fn locked(self) -> Result<Self> {
        let path = &self.path;
        let lock = open_private(&path.join("lock")).map_err(|error| unavailable(path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let message = format!(
                "the store {} is in use by another gateway; stop it, or choose another storage.path",
                path.display()
            );
            Error::new(Reason::StoreUnavailable, message).because(error)
        })?;
        Ok(Self { lock: Some(lock), ..self })
    }

    pub(super) fn unlock(&self) {
        if let Some(lock) = &self.lock
            && let Err(error) = flock(lock, FlockOperation::Unlock)
        {
            tracing::warn!(%error, "store lock not released");
        }
    }

    pub(super) fn catalogue_path(&self) -> PathBuf {
        self.path.join("catalogue")
    }

    pub(super) fn job_path(&self, job_id: &JobId) -> PathBuf {
        self.path.join("jobs").join(job_id.as_str())
    }

    pub(super) fn check_path(&self) -> PathBuf {
        self.path.join(".check")
    }

    pub(super) fn result_path(&self, job_id: &JobId) -> PathBuf {
        self.path.join("results").join(job_id.as_str())
    }

    /// Copies a damaged file, as it was found, to `damaged`. A failure, for example on a full disk, is only logged.
    pub(super) fn set_aside(&self, path: &Path) {
        if let Err(error) = set_aside(&*self.disk, &self.path, path) {
            tracing::warn!(%error, path = %path.display(), "what was found damaged could not be kept in the store's directory `damaged`");
        }
    }

    /// Returns the ids of the jobs that have a file, each once.
    pub(super) fn job_files(&self) -> io::Result<Vec<JobId>> {
        let mut files = Vec::new();
        for name in self.disk.names(&self.path.join("jobs"))? {
            files.extend(JobId::parse(&name));
        }
        // The order is that of the directory, which is arbitrary.
        Ok(files)
    }

    /// Makes the creation, renaming and removal of all files of the store durable.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_directory(&self.path)?;
        self.sync_removals()
    }

    /// Makes the removal of job files and results durable.
    pub(super) fn sync_removals(&self) -> io::Result<()> {
        self.disk.sync_directory(&self.path.join("jobs"))?;
        match self.disk.sync_directory(&self.path.join("results")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        }
    }
}
