//! Opens files beneath a directory: no links, only regular files, without blocking, up to a maximum size.
//!
//! Each step is an `openat` that refuses links. `openat2` with RESOLVE_BENEATH would need one call only, but the system call
//! filters of many containers refuse it, and a definition is only three steps deep.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path},
};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, open, openat, renameat, statat, unlinkat,
};

/// A trusted directory; links in its own path are followed, but nothing below it is trusted.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name.
    pub name: OsString,
    /// Whether the entry is a directory, a regular file or anything else. A symbolic link is not followed: it is
    /// [`EntryKind::Other`].
    pub kind: EntryKind,
}

/// The kind of a directory entry; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A link, a pipe, a socket or a device.
    Other,
}

impl EntryKind {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            _ => Self::Other,
        }
    }
}

fn refused(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

/// Converts an error of the system, with a clear message for a link that was not followed.
fn in_words(error: rustix::io::Errno, path: &Path) -> io::Error {
    match error {
        rustix::io::Errno::LOOP => refused(format!("{} is a link, which is not followed", path.display())),
        error => error.into(),
    }
}

impl Root {
    /// Opens the directory.
    ///
    /// # Errors
    /// If it does not exist or cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: open(path, flags, Mode::empty())? })
    }

    /// Opens the directory that contains the last component of `relative` and returns both; the component is `None` if `relative`
    /// is this directory itself.
    fn parent<'p>(&self, relative: &'p Path) -> io::Result<(OwnedFd, Option<&'p std::ffi::OsStr>)> {
        let mut at = self.directory.try_clone()?;
        let mut names = Vec::new();
        for component in relative.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                _ => return Err(refused(format!("{} leads out of its directory", relative.display()))),
            }
        }
        let last = names.pop();
        for name in names {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = openat(&at, name, flags, Mode::empty())
                .map_err(|error| self.not_a_directory(&at, name, error))?;
        }
        Ok((at, last))
    }

    /// Converts the error for a link where a directory is expected, which the kernel reports as either ENOTDIR or ELOOP.
    fn not_a_directory(&self, at: &OwnedFd, name: &std::ffi::OsStr, error: rustix::io::Errno) -> io::Error {
        let is_link = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        in_words(if is_link { rustix::io::Errno::LOOP } else { error }, Path::new(name))
    }

    /// Opens a directory below this one.
    ///
    /// # Errors
    /// If it does not exist, is no directory, or its path contains a link.
    pub fn directory(&self, relative: &Path) -> io::Result<Self> {
        let (at, last) = self.parent(relative)?;
        let Some(name) = last else { return Ok(Self { directory: at }) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(&at, name, flags, Mode::empty())
            .map_err(|error| self.not_a_directory(&at, name, error))?;
        Ok(Self { directory })
    }

    /// Creates the missing directories of a path, private, and opens the last one.
    ///
    /// # Errors
    /// If a directory cannot be created or an existing component is no directory.
    pub fn create_directory(&self, relative: &Path) -> io::Result<Self> {
        let mut root = Self { directory: self.directory.try_clone()? };
        for component in relative.components() {
            let Component::Normal(name) = component else {
                return Err(refused(format!("{} leads out of its directory", relative.display())));
            };
            match mkdirat(&root.directory, name, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            root = root.directory(Path::new(name))?;
        }
        Ok(root)
    }

    /// Creates a private directory where nothing exists, and opens it.
    ///
    /// # Errors
    /// If something with this name exists.
    pub fn create_new_directory(&self, name: &Path) -> io::Result<Self> {
        mkdirat(&self.directory, name, Mode::RWXU)?;
        self.directory(name)
    }

    /// Returns the status of `relative`; a link itself is not followed.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn status(&self, relative: &Path) -> io::Result<Stat> {
        let (at, last) = self.parent(relative)?;
        let Some(name) = last else { return Ok(fstat(&at)?) };
        Ok(statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the kind of `relative`, or `None` if it does not exist.
    ///
    /// # Errors
    /// If that cannot be determined.
    pub fn kind(&self, relative: &Path) -> io::Result<Option<EntryKind>> {
        match self.status(relative) {
            Ok(stat) => Ok(Some(EntryKind::of(FileType::from_raw_mode(stat.st_mode)))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// If it does not exist, is not a regular file, or its path contains a link.
    pub fn file(&self, relative: &Path) -> io::Result<File> {
        self.open_file(relative, OFlags::RDONLY)
    }

    /// Opens a regular file for appending, and creates it private if it does not exist.
    ///
    /// # Errors
    /// If it is not a regular file, its path contains a link, or it cannot be created.
    pub fn append(&self, relative: &Path) -> io::Result<File> {
        self.open_file(relative, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    fn open_file(&self, relative: &Path, how: OFlags) -> io::Result<File> {
        let (at, last) = self.parent(relative)?;
        let name = last.ok_or_else(|| refused("a directory is no file"))?;
        let is_regular = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let other = || refused(format!("{} is no regular file", relative.display()));
        // Checked before opening, because merely opening a device may have effects.
        match statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                return Err(in_words(rustix::io::Errno::LOOP, relative));
            }
            Ok(stat) if !is_regular(&stat) => return Err(other()),
            Err(rustix::io::Errno::NOENT) if how.contains(OFlags::CREATE) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let flags = how | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            openat(&at, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| in_words(error, relative))?;
        // Checked again, because the file may have been replaced in between.
        if is_regular(&fstat(&file)?) { Ok(File::from(file)) } else { Err(other()) }
    }

    /// Reads a file of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// As for [`Root::file`], or if the file is larger.
    pub fn read(&self, relative: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = self.file(relative)?;
        let mut bytes = Vec::new();
        // The size is checked while reading, because the file may change.
        file.take(max_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_bytes {
            return Err(refused(format!("{} is larger than {max_bytes} bytes", relative.display())));
        }
        Ok(bytes)
    }

    /// Reads a text file of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// As for [`Root::read`]; [`io::ErrorKind::InvalidData`] if it is not UTF-8.
    pub fn read_text(&self, relative: &Path, max_bytes: u64) -> io::Result<String> {
        String::from_utf8(self.read(relative, max_bytes)?)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8"))
    }

    /// Returns the entries of this directory, sorted by name.
    ///
    /// # Errors
    /// If it cannot be read or holds more than `max` entries.
    pub fn entries(&self, max: usize) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(self.directory.as_fd())? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if entries.len() == max {
                return Err(refused(format!("a directory holds more than {max} entries")));
            }
            let name = OsString::from_vec(name.to_vec());
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(Path::new(&name))?.unwrap_or(EntryKind::Other),
                known => EntryKind::of(known),
            };
            entries.push(DirectoryEntry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Renames an entry of this directory to a name that nothing has.
    ///
    /// # Errors
    /// If there is no such entry, or something has the new name.
    pub fn rename_entry(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.kind(to)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(renameat(&self.directory, from, &self.directory, to)?)
    }

    /// Removes a file, or a link itself. A path that does not exist is no error.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove_file(&self, relative: &Path) -> io::Result<()> {
        let (at, last) = self.parent(relative)?;
        let name = last.ok_or_else(|| refused("a directory is no file"))?;
        match unlinkat(&at, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts the lines that are not blank within the first `max_bytes` bytes of a file. Returns 0 for a file that cannot be
    /// read.
    pub fn count_lines(&self, relative: &Path, max_bytes: u64) -> usize {
        let Ok(file) = self.file(relative) else { return 0 };
        let (mut file, mut buffer) = (file.take(max_bytes), vec![0; 64 * 1024]);
        let (mut lines, mut has_words) = (0, false);
        while let Ok(read @ 1..) = file.read(&mut buffer) {
            for byte in &buffer[..read] {
                match byte {
                    b'\n' => {
                        lines += usize::from(has_words);
                        has_words = false;
                    }
                    byte => has_words |= !byte.is_ascii_whitespace(),
                }
            }
        }
        lines + usize::from(has_words)
    }

    /// Creates a new private file.
    ///
    /// # Errors
    /// If something with this name exists.
    pub fn create_file(&self, relative: &Path) -> io::Result<File> {
        let (at, last) = self.parent(relative)?;
        let name = last.ok_or_else(|| refused("a directory is no file"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&at, name, flags, Mode::RUSR | Mode::WUSR)?))
    }
}

#[cfg(test)]
mod tests;
