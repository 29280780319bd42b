//! Our own files: private whatever the umask, and replaced whole or not at all, whoever else replaces them meanwhile.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{CWD, Mode, RenameFlags, renameat_with},
    process::umask,
};

/// What a replacement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process, at any instant.
    Process,
    /// The loss of power too: the file and its directory are synced.
    Power,
}

/// A name beside `path` that nobody else uses, in this process or another.
fn beside(path: &Path, what: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{count}.{what}", std::process::id()))
}

/// Opens a file for writing, made private where it is not there.
///
/// # Errors
/// When it cannot be.
pub fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Opens a file to have something added, made private where it is not there.
///
/// # Errors
/// When it cannot be.
pub fn append_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Makes a directory and those above it that are missing, all private.
///
/// # Errors
/// When it cannot be.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts these bytes in the place of a file, private, at once: a reader sees the old file or the new one, and so does a start
/// after a crash. Two at the same time leave one of both.
///
/// # Errors
/// When it cannot be written; the old file is as it was.
pub fn replace(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let new = beside(path, "new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        if durability == Durability::Power {
            file.sync_all()?;
        }
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        // What is left of it, if anything, harms nobody.
        let _gone = fs::remove_file(&new);
    })?;
    match (durability, path.parent()) {
        (Durability::Power, Some(directory)) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

/// Puts a directory in the place of another, which is then removed. At no instant is there none: they change places.
///
/// # Errors
/// When they cannot; `target` is as it was.
pub fn swap_directory(new: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => return remove_tree(new),
        Err(rustix::io::Errno::NOENT) if !target.exists() => return fs::rename(new, target),
        // A file system that cannot: aside, in, and away; what a crash between leaves is aside and whole.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let aside = beside(target, "old");
    fs::rename(target, &aside)?;
    fs::rename(new, target).inspect_err(|_| {
        let _back = fs::rename(&aside, target);
    })?;
    remove_tree(&aside)
}

/// Removes a file or a directory with everything in it; links in it are removed and not followed. What is not there is gone.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

static STARTED_WITH: OnceLock<Mode> = OnceLock::new();

/// From here on what this process makes is private: its files 0600, its directories 0700. Processes that it starts for others
/// are given back the umask that it was started with.
pub fn keep_private() {
    STARTED_WITH.get_or_init(|| umask(Mode::RWXG | Mode::RWXO));
}

/// The umask that the process was started with, where [`keep_private`] has changed it.
pub fn started_umask() -> Option<u32> {
    STARTED_WITH.get().map(|mode| mode.bits())
}

/// Takes on the umask of the one who started the process that started this one.
pub fn set_umask(mode: u32) {
    umask(Mode::from_bits_truncate(mode));
}

/// Takes from others what they may do with a directory of ours and everything in it. Answers with how many were wide.
///
/// # Errors
/// When one cannot be changed.
pub fn narrow(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(0);
    }
    let (mode, mut narrowed) = (metadata.permissions().mode(), 0);
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7700))?;
        narrowed += 1;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            narrowed += narrow(&entry?.path())?;
        }
    }
    Ok(narrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn many_at_once_leave_one_whole_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.json");
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        replace(path, &vec![b'a' + writer; 10_000], Durability::Process).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(names(directory.path()), ["settings.json"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(replace(&directory.path().join("none/x"), b"", Durability::Power).is_err());
    }

    #[test]
    fn directories_change_places_and_modes_are_narrowed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let make = |name: &str, words: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), words).unwrap();
        };
        make("target", "old");
        make("new", "new");
        swap_directory(&at("new"), &at("target")).unwrap();
        assert_eq!(fs::read_to_string(at("target/file")).unwrap(), "new");
        make("next", "next");
        swap_directory(&at("next"), &at("other")).unwrap();
        assert_eq!(names(directory.path()), ["other", "target"]);
        fs::set_permissions(at("other"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(at("other/file"), fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(at("target"), at("other/link")).unwrap();
        assert_eq!(narrow(&at("other")).unwrap(), 2);
        assert_eq!(narrow(&at("other")).unwrap(), 0);
        assert_eq!(fs::metadata(at("other/file")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
