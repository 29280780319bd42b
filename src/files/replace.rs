//! The gateway's own files: private whatever the umask, and replaced atomically even if several writers replace a file at once.

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

/// Which failures a replacement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplaceDurability {
    /// The end of the process at any instant.
    Process,
    /// A power loss too: the file and its directory are synced.
    Power,
}

/// Returns a name beside `path` that nobody else uses, in this process or another.
fn beside(path: &Path, what: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{count}.{what}", std::process::id()))
}

/// Opens a file for writing without truncating it, and creates it private if it does not exist.
///
/// # Errors
/// If the file cannot be opened or created.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Creates a directory and its missing parents, all private.
///
/// # Errors
/// If a directory cannot be created.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file, privately and atomically: a reader, or a start after a crash, sees either the old file or the new one. After
/// concurrent replacements the file is one of them, whole.
///
/// # Errors
/// If the new file cannot be written, and the old one is unchanged; or if the directory cannot be synced after the replacement.
pub(crate) fn replace(path: &Path, bytes: &[u8], durability: ReplaceDurability) -> io::Result<()> {
    let new = beside(path, "new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        if durability == ReplaceDurability::Power {
            file.sync_all()?;
        }
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        // A remainder of the new file does no harm.
        let _gone = fs::remove_file(&new);
    })?;
    match (durability, path.parent()) {
        (ReplaceDurability::Power, Some(directory)) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

/// Replaces the directory `target` with `new` and removes the old one. The two are exchanged atomically, so that `target` is
/// never missing, except on file systems that cannot exchange directories.
///
/// # Errors
/// If the directories cannot be exchanged, and `target` is unchanged; or if the old directory cannot be removed afterwards.
pub(crate) fn swap_directory(new: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => return remove_tree(new),
        Err(rustix::io::Errno::NOENT) if !target.exists() => return fs::rename(new, target),
        // This file system cannot exchange directories: the old one is moved aside, the new one moved in, and the old one
        // removed. A crash in between leaves the old directory aside, whole.
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

/// Removes a file, or a directory with everything in it; links are removed and not followed. A path that does not exist is no
/// error.
///
/// # Errors
/// If something cannot be removed.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
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

/// Makes everything that this process creates from now on private: files 0600, directories 0700. Processes that it starts for
/// others get the original umask back.
pub(crate) fn keep_private() {
    STARTED_WITH.get_or_init(|| umask(Mode::RWXG | Mode::RWXO));
}

/// Returns the umask with which the process was started, if [`keep_private`] has changed it.
pub(crate) fn started_umask() -> Option<u32> {
    STARTED_WITH.get().map(|mode| mode.bits())
}

/// Sets the umask. Used in processes that the gateway starts, to restore the umask with which the gateway was started.
pub(crate) fn set_umask(mode: u32) {
    umask(Mode::from_bits_truncate(mode));
}

/// Removes the permissions of group and others from `path` and everything below it, skipping links. Returns how many entries were
/// changed.
///
/// # Errors
/// If an entry cannot be read or changed.
pub(crate) fn narrow(path: &Path) -> io::Result<u64> {
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
                        replace(path, &vec![b'a' + writer; 10_000], ReplaceDurability::Process).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(names(directory.path()), ["settings.json"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(replace(&directory.path().join("none/x"), b"", ReplaceDurability::Power).is_err());
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
