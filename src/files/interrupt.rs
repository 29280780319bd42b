//! Tells work on another thread to stop.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A signal for work on files to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks the work to stop; it does so before the next file, or within a large one.
    pub(crate) fn interrupt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether to go on.
    ///
    /// # Errors
    /// Once the work is asked to stop.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::Error::other("it was interrupted")) } else { Ok(()) }
    }
}
