//! The interface between the store and the disk, in terms of what the store does with files, so that a simulation can substitute
//! a disk that loses what was not synced, is full, fails or is slow.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use crate::files::{self, create_private_directory};

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// Reading; the file must exist.
    Reading,
    /// Writing and reading; the file must exist.
    Writing,
    /// Writing and reading; the file must not exist and is created.
    Creating,
    /// Writing and reading; the file is created, or emptied if it exists.
    Replacing,
}

/// An open file. Clones of the pointer refer to the same file.
pub(crate) trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads at `position`. A short read does not mean the end of the file; a read of 0 bytes does.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all bytes at `position`. After an error any part of them may have been written.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Returns the length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Truncates or extends the file.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Makes the contents and the length of the file survive a power loss.
    fn sync(&self) -> io::Result<()>;
}

/// The files beneath a store's directory.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, what_for: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Returns the length of a file in bytes.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Returns the names in a directory.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Creates a private directory and its missing parents. A directory that already exists is no error.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed and removed in a directory survive a power loss.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Replaces the contents of a file atomically, and durably if `is_synced`.
    fn replace(&self, path: &Path, bytes: &[u8], is_synced: bool) -> io::Result<()>;
    /// Copies the contents of a file.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns whether operations never block, so that they need no thread of their own.
    fn is_inline(&self) -> bool;
}

/// Fills the buffer, or returns [`io::ErrorKind::UnexpectedEof`] if the file ends before.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<()> {
    match read_full_at(file, buffer, position)? {
        read if read == buffer.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads until the buffer is full or the file ends, and returns the number of bytes read.
pub(crate) fn read_full_at(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads a file sequentially from its beginning.
pub(crate) struct Sequential {
    file: Arc<dyn DiskFile>,
    position: u64,
}

impl Sequential {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, position: 0 }
    }
}

impl io::Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// The disk of the operating system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemDisk;

impl DiskFile for fs::File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, position)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync(2) also flushes the length of the file where that is needed to read the data.
        self.sync_data()
    }
}

impl Disk for SystemDisk {
    fn open(&self, path: &Path, what_for: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match what_for {
            OpenMode::Reading => {}
            OpenMode::Writing => drop(options.write(true)),
            OpenMode::Creating => drop(options.write(true).create_new(true)),
            OpenMode::Replacing => drop(options.write(true).create(true).truncate(true)),
        }
        Ok(Arc::new(options.open(path)?))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        create_private_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn replace(&self, path: &Path, bytes: &[u8], is_synced: bool) -> io::Result<()> {
        files::replace(
            path,
            bytes,
            if is_synced { files::ReplaceDurability::Power } else { files::ReplaceDurability::Process },
        )
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::copy(from, to).map(drop)
    }

    fn is_inline(&self) -> bool {
        false
    }
}
