//! Copies a directory that others can write: regular files and directories, within limits; the rest is reported.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    guarded::{EntryKind, Root},
    interrupt::Interrupt,
};

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
/// How much of a file is copied before it is asked whether to stop.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// Copies the contents of `from` into `to`, with private permissions. Entries for which `skip` returns true, given their path
/// within `from`, are omitted.
///
/// # Errors
/// If something cannot be read or written, the limits are exceeded, or the copy is interrupted. What was copied by then stays.
pub(crate) fn copy_tree(
    from: &Root,
    to: &Root,
    limits: CopyLimits,
    skip: &dyn Fn(&Path) -> bool,
    interrupt: &Interrupt,
) -> io::Result<Copied> {
    let mut copy = TreeCopy { limits, skip, interrupt, copied: Copied::default() };
    copy.directory(from, to, Path::new(""))?;
    Ok(copy.copied)
}

/// A copy in progress.
struct TreeCopy<'c> {
    limits: CopyLimits,
    skip: &'c dyn Fn(&Path) -> bool,
    interrupt: &'c Interrupt,
    copied: Copied,
}

impl TreeCopy<'_> {
    fn directory(&mut self, from: &Root, to: &Root, within: &Path) -> io::Result<()> {
        let CopyLimits { max_entries, max_bytes, max_depth } = self.limits;
        if within.components().count() > max_depth {
            let message = format!("more than {max_depth} directories lie within one another");
            return Err(io::Error::other(message));
        }
        for entry in from.entries(max_entries)? {
            let (name, path) = (Path::new(&entry.name), within.join(&entry.name));
            if (self.skip)(&path) {
                continue;
            }
            self.interrupt.check()?;
            self.copied.entries += 1;
            if self.copied.entries > max_entries {
                return Err(io::Error::other(format!("there are more than {max_entries} files")));
            }
            match entry.kind {
                EntryKind::Directory => {
                    self.directory(&from.directory(name)?, &to.create_directory(name)?, &path)?;
                }
                EntryKind::File => {
                    let room = max_bytes.saturating_sub(self.copied.bytes);
                    let mut source = from.file(name)?;
                    // Created with the mode of the gateway's own files; of the original mode only the owner's execute
                    // permission is kept.
                    let is_program = source.metadata().map(|metadata| is_executable(&metadata))?;
                    let mut target = to.create_file(name)?;
                    self.copied.bytes += copy_file(&mut source, &mut target, room + 1, self.interrupt)?;
                    if self.copied.bytes > max_bytes {
                        return Err(io::Error::other(format!("there are more than {max_bytes} bytes")));
                    }
                    if is_program {
                        rustix::fs::fchmod(&target, rustix::fs::Mode::RWXU)?;
                    }
                    self.copied.files += 1;
                }
                EntryKind::Other if self.copied.left_out.len() < MAX_NAMED => self.copied.left_out.push(path),
                EntryKind::Other => {}
            }
        }
        Ok(())
    }
}

/// Copies at most `most` bytes of a file, and returns how many there were.
fn copy_file(source: &mut File, target: &mut File, most: u64, interrupt: &Interrupt) -> io::Result<u64> {
    let mut copied = 0;
    loop {
        let piece = io::copy(&mut source.take(PIECE_BYTES.min(most - copied)), target)?;
        copied += piece;
        if piece == 0 || copied == most {
            return Ok(copied);
        }
        interrupt.check()?;
    }
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0
}

#[cfg(test)]
mod tests;
