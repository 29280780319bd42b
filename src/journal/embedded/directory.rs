//! The store's directory: its lock, its paths, what is in it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{super::JobId, unavailable};
use crate::{
    error::{Error, Reason, Result},
    files::{create_private_directory, open_private},
    pb::Timestamp,
};

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

fn set_aside(store: &Path, path: &Path) -> io::Result<()> {
    let directory = store.join("damaged");
    create_private_directory(&directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::copy(path, directory.join(format!("{name}.{}", Timestamp::now().unix_millis()))).map(drop)
}

/// A reader has met damage in a job's file, which a start does not look into once the job has ended: it is kept, once,
/// before retention removes it, and named.
pub(super) fn set_aside_once(path: &Path) {
    let (Some(store), Some(name)) = (path.parent().and_then(Path::parent), path.file_name()) else { return };
    let name = name.to_string_lossy();
    let kept = fs::read_dir(store.join("damaged")).into_iter().flatten().flatten();
    let is_kept = kept.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&*name));
    if is_kept {
        return;
    }
    let kept = set_aside(store, path);
    tracing::error!(job_id = %name, is_kept = kept.is_ok(), "a reader has met damage in a job's file; it is kept in the store's directory `damaged`");
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || -> io::Result<File> {
            create_private_directory(&path.join("jobs"))?;
            open_private(&path.join("lock"))
        };
        let lock = open().map_err(|error| unavailable(path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let message = format!(
                "the store {} is in use by another gateway; stop it, or choose another storage.path",
                path.display()
            );
            Error::new(Reason::StoreUnavailable, message).because(error)
        })?;
        Ok(Self { path: path.to_owned(), lock })
    }

    pub(super) fn unlock(&self) {
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
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

    /// Keeps a damaged file's bytes as they were found, where there is room for them.
    pub(super) fn set_aside(&self, path: &Path) {
        if let Err(error) = set_aside(&self.path, path) {
            tracing::warn!(%error, path = %path.display(), "what was found damaged could not be kept in the store's directory `damaged`");
        }
    }

    /// The ids of the jobs that have a file, sorted.
    pub(super) fn job_files(&self) -> io::Result<Vec<JobId>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.path.join("jobs"))? {
            files.extend(JobId::parse(&entry?.file_name().to_string_lossy()));
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Makes the removal of a job's files as lasting as their contents.
    pub(super) fn sync_removals(&self) -> io::Result<()> {
        File::open(self.path.join("jobs"))?.sync_all()?;
        match File::open(self.path.join("results")) {
            Ok(results) => results.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
