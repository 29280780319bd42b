//! How many files are kept open between two uses. Beyond that they are opened each time, which is slower and always works.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::disk::DiskFile;

/// The places; clones share them.
#[derive(Clone, Debug)]
pub(super) struct KeptFiles {
    kept: Arc<AtomicUsize>,
    most: usize,
}

/// An open file, with its place once it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    file: Arc<dyn DiskFile>,
    place: Option<Arc<AtomicUsize>>,
}

impl KeptFiles {
    pub(super) fn at_most(most: usize) -> Self {
        Self { kept: Arc::default(), most }
    }

    /// The file, if there is a place for it; else it is closed.
    pub(super) fn keep(&self, mut file: Kept) -> Option<Kept> {
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

impl Kept {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, place: None }
    }
}

impl Deref for Kept {
    type Target = dyn DiskFile;

    fn deref(&self) -> &(dyn DiskFile + 'static) {
        &*self.file
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
