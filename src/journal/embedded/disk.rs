//! The one place where the store meets the disk: its files by what the store does to them, so that a simulation puts a disk in their
//! place that loses what was not synced, is full, fails and is slow.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use crate::files::{self, create_private_directory};

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// To be read; it has to be there.
    Reading,
    /// To be written and read; it has to be there.
    Writing,
    /// A new one, to be written and read; it must not be there.
    Creating,
    /// An empty one, whatever was there.
    Replacing,
}

/// An open file. Clones of its pointer are the same file.
pub(crate) trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads at a place; fewer bytes than there is room for are no end, 0 are.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of it at a place. After an error any part of it may be there.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// How long it is.
    fn length(&self) -> io::Result<u64>;
    /// Cuts it, or makes it longer.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// From here on its contents and length survive the loss of power.
    fn sync(&self) -> io::Result<()>;
}

/// The files beneath a store's directory.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, what_for: For) -> io::Result<Arc<dyn DiskFile>>;
    /// How long a file is.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// The names in a directory.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory, private, and those above it; one that is there is no error.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in place of what had that.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// From here on what was created, renamed and removed in a directory survives the loss of power.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Puts these bytes in the place of a file, all or none of them.
    fn replace(&self, path: &Path, bytes: &[u8], is_synced: bool) -> io::Result<()>;
    /// Copies a file as it is.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Whether work on it never blocks, so that it needs no thread of its own.
    fn is_inline(&self) -> bool;
}

/// Reads exactly what there is room for.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<()> {
    match read_full_at(file, buffer, position)? {
        read if read == buffer.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads until there is no more room, or the file ends.
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

/// A file, read from its beginning.
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

/// The system's own disk.
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
        // A length that is needed to read the data is part of it (fdatasync(2)).
        self.sync_data()
    }
}

impl Disk for SystemDisk {
    fn open(&self, path: &Path, what_for: For) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match what_for {
            For::Reading => {}
            For::Writing => drop(options.write(true)),
            For::Creating => drop(options.write(true).create_new(true)),
            For::Replacing => drop(options.write(true).create(true).truncate(true)),
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
            if is_synced { files::Durability::Power } else { files::Durability::Process },
        )
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::copy(from, to).map(drop)
    }

    fn is_inline(&self) -> bool {
        false
    }
}
