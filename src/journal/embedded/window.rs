//! A section of a file in memory that moves along as the file is read.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{
    disk::{DiskFile, read_full_at},
    open_file_pool::{OpenFilePool, PooledFile},
};

const READ_AHEAD: usize = 256 * 1024;

/// Returns ranges of a file, reading ahead. Each section is read once and shared by the ranges within it.
#[derive(Debug)]
pub(super) struct Window {
    file: PooledFile,
    start: u64,
    bytes: Bytes,
}

impl Window {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file: PooledFile::new(file), start: 0, bytes: Bytes::new() }
    }

    pub(super) fn file_len(&self) -> io::Result<u64> {
        self.file.length()
    }

    /// Returns `len` bytes at `position`; fewer only at the end of the file.
    pub(super) fn get(&mut self, position: u64, len: usize) -> io::Result<Bytes> {
        if let Some(held) = self.held(position, len) {
            return Ok(held);
        }
        let mut buffer = BytesMut::zeroed(len.max(READ_AHEAD));
        let filled = read_full_at(&*self.file, &mut buffer, position)?;
        buffer.truncate(filled);
        self.start = position;
        self.bytes = buffer.freeze();
        Ok(self.bytes.slice(..len.min(filled)))
    }

    fn held(&self, position: u64, len: usize) -> Option<Bytes> {
        let from = usize::try_from(position.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(len)?;
        (to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }

    /// Returns the window for later use if its file may be kept open, and `None` otherwise.
    pub(super) fn keep(self, kept_files: &OpenFilePool) -> Option<Self> {
        Some(Self { file: kept_files.keep(self.file)?, ..self })
    }

    /// Discards the bytes in memory, so that the next [`Window::get`] reads the file again. Call it when the file may have
    /// grown, because the buffered bytes may end before the new end of the file. The file stays open.
    pub(super) fn forget(&mut self) {
        self.bytes = Bytes::new();
    }
}
