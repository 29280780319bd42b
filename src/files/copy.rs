//! Copies a directory that others can write: regular files and directories, within limits; the rest is reported.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::guarded::{EntryKind, Root};

/// The limits of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyLimits {
    /// The maximum number of directory entries, those left out included.
    pub max_entries: usize,
    /// The maximum number of bytes of all files together.
    pub max_bytes: u64,
    /// The maximum depth of nested directories.
    pub max_depth: usize,
}

/// The result of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// The number of files copied.
    pub files: u32,
    /// The number of bytes copied.
    pub bytes: u64,
    /// The number of directory entries, those left out included.
    entries: usize,
    /// Links, pipes and the like, which were not copied; only the first 20 are named.
    pub left_out: Vec<PathBuf>,
}

/// The maximum number of names kept of entries that were left out.
const MAX_NAMED: usize = 20;

/// Copies the contents of `from` into `to`, with private permissions. Entries for which `skip` returns true, given their path
/// within `from`, are omitted.
///
/// # Errors
/// If something cannot be read or written, or the limits are exceeded.
pub(crate) fn copy_tree(
    from: &Root,
    to: &Root,
    limits: CopyLimits,
    skip: &dyn Fn(&Path) -> bool,
) -> io::Result<Copied> {
    let mut copied = Copied::default();
    copy_directory(from, to, Path::new(""), (limits, skip), &mut copied)?;
    Ok(copied)
}

fn copy_directory(
    from: &Root,
    to: &Root,
    within: &Path,
    (limits, skip): (CopyLimits, &dyn Fn(&Path) -> bool),
    copied: &mut Copied,
) -> io::Result<()> {
    if within.components().count() > limits.max_depth {
        return Err(io::Error::other(format!(
            "more than {} directories lie within one another",
            limits.max_depth
        )));
    }
    for entry in from.entries(limits.max_entries)? {
        let (name, path) = (Path::new(&entry.name), within.join(&entry.name));
        if skip(&path) {
            continue;
        }
        copied.entries += 1;
        if copied.entries > limits.max_entries {
            return Err(io::Error::other(format!("there are more than {} files", limits.max_entries)));
        }
        match entry.kind {
            EntryKind::Directory => {
                let (from, to) = (from.directory(name)?, to.create_directory(name)?);
                copy_directory(&from, &to, &path, (limits, skip), copied)?;
            }
            EntryKind::File => {
                let room = limits.max_bytes.saturating_sub(copied.bytes);
                let source = from.file(name)?;
                // Created with the mode of the gateway's own files; of the original mode only the owner's execute permission is
                // kept.
                let is_program = source.metadata().map(|metadata| is_executable(&metadata))?;
                let mut target = to.create_file(name)?;
                copied.bytes += io::copy(&mut source.take(room + 1), &mut target)?;
                if copied.bytes > limits.max_bytes {
                    return Err(io::Error::other(format!("there are more than {} bytes", limits.max_bytes)));
                }
                if is_program {
                    rustix::fs::fchmod(&target, rustix::fs::Mode::RWXU)?;
                }
                copied.files += 1;
            }
            EntryKind::Other if copied.left_out.len() < MAX_NAMED => copied.left_out.push(path),
            EntryKind::Other => {}
        }
    }
    Ok(())
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0
}

#[cfg(test)]
mod tests;
