//! A bound on how many files are kept open between two uses. Files beyond the bound are opened for each use, which is slower but
//! always works.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::disk::DiskFile;

/// Permits to keep files open. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct OpenFilePool {
    kept: Arc<AtomicUsize>,
    most: usize,
}

/// An open file, with its permit once it is kept.
#[derive(Debug)]
pub(super) struct PooledFile {
    file: Arc<dyn DiskFile>,
    place: Option<Arc<AtomicUsize>>,
}

impl OpenFilePool {
    pub(super) fn at_most(most: usize) -> Self {
        Self { kept: Arc::default(), most }
    }

    /// Returns the file if there is a permit to keep it open; otherwise closes it and returns `None`.
    pub(super) fn keep(&self, mut file: PooledFile) -> Option<PooledFile> {
        if file.place.is_some() {
            return Some(file);
        }
        let taken = self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
            (kept < self.most).then_some(kept + 1)
        });
        file.place = taken.is_ok().then(|| self.kept.clone());
        file.place.is_some().then_some(file)
    }
}

impl PooledFile {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, place: None }
    }
}

impl Deref for PooledFile {
    type Target = dyn DiskFile;

    fn deref(&self) -> &(dyn DiskFile + 'static) {
        &*self.file
    }
}

impl Drop for PooledFile {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
