//! The directories of stateless runs. Each is made for one run and removed with it, or by the next start where the
//! process that made it died.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{FlockOperation, flock};

use crate::files::{create_private_directory, open_private, remove_tree};

/// The directories of this process's runs.
#[derive(Debug)]
pub(super) struct RunDirectories {
    directory: PathBuf,
    count: AtomicU64,
    /// Held for as long as the process lives; the next start removes directories whose lock nobody holds.
    _lock: File,
}

/// The directory of one run; it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct RunDirectory(PathBuf);

impl RunDirectory {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        let remove = move || {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(%error, path = %path.display(), "a run's directory could not be removed; the next start does it");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl RunDirectories {
    /// Creates the directory for this process below `data_directory`, and removes those of processes that have ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn open(data_directory: &Path) -> io::Result<Self> {
        let all = data_directory.join("runs");
        create_private_directory(&all)?;
        // One process at a time, so that a directory that is being made is not taken for an abandoned one.
        let turn = open_private(&all.join(".lock"))?;
        flock(&turn, FlockOperation::LockExclusive)?;
        for entry in fs::read_dir(&all)?.flatten().filter(|entry| entry.path().is_dir()) {
            let is_left = open_private(&entry.path().join("lock"))
                .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok());
            if is_left {
                remove_tree(&entry.path())?;
            }
        }
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        let directory = all.join(data_encoding::HEXLOWER.encode(&name));
        create_private_directory(&directory)?;
        let lock = open_private(&directory.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { directory, count: AtomicU64::new(0), _lock: lock })
    }

    /// Returns the path of a new run's directory; whoever fills it creates it.
    pub(super) fn next(&self) -> RunDirectory {
        RunDirectory(self.directory.join(self.count.fetch_add(1, Ordering::Relaxed).to_string()))
    }
}

impl Drop for RunDirectories {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        let _left = remove_tree(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let left = data.path().join("runs/dead");
        fs::create_dir_all(left.join("0")).unwrap();
        fs::write(left.join("lock"), "").unwrap();
        let one = RunDirectories::open(data.path()).unwrap();
        assert!(!left.exists());
        let run = one.next();
        fs::create_dir(run.path()).unwrap();
        let two = RunDirectories::open(data.path()).unwrap();
        assert!(run.path().exists() && two.directory.exists());
        let path = run.path().to_owned();
        drop(run);
        assert!(!path.exists());
    }
}
