//! The engine's code as its runs see it: a copy of the checkout, made again when that changes, without what is not code.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{
    files::{CopyLimits, EntryKind, Interrupt, Root, copy_tree, create_private_directory, remove_tree},
    sync::lock,
};

/// Limits on the size of a checkout.
const LIMITS: CopyLimits = CopyLimits { max_entries: 50_000, max_bytes: 512 * 1024 * 1024, max_depth: 32 };
/// Names that are not code, at any depth.
const NEVER: &[&str] = &[
    ".git", ".venv", "venv", "node_modules", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache",
    ".tox",
];
/// Names at the top level that the engine writes itself, or that the gateway makes for each root.
const NOT_AT_THE_TOP: &[&str] = &[
    "config.yaml",
    "prompts_log",
    ".locks",
    ".github",
    ".gitignore",
    ".gitmodules",
    ".gitattributes",
    super::workspace::DEFAULT_STORAGE_PATH,
];
/// The number of copies that are kept, because runs that started earlier still use older ones.
const MAX_KEPT: usize = 4;
/// How long a look at the checkout stays valid before the checkout is read again.
const FRESH: Duration = Duration::from_secs(1);

/// The copies of the engine's code.
#[derive(Debug)]
pub(super) struct Code {
    checkout: PathBuf,
    copies: PathBuf,
    /// Paths within the checkout that are not code: the agents and the gateway's own data.
    apart: Vec<PathBuf>,
    latest: Mutex<Option<(Instant, PathBuf)>>,
}

impl Code {
    /// Manages copies of a checkout's code below `copies`; `apart` lists paths that are left out.
    pub(super) fn new(checkout: PathBuf, copies: PathBuf, apart: Vec<PathBuf>) -> Self {
        Self { checkout, copies, apart, latest: Mutex::default() }
    }

    fn is_apart(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_top = path.components().count() == 1;
        NEVER.contains(&name)
            || (is_top && (NOT_AT_THE_TOP.contains(&name) || name.starts_with("config.yaml.")))
            || self.apart.iter().any(|apart| *apart == self.checkout.join(path))
    }

    /// Returns the path of a copy of the checkout, at most one second behind it. Blocks; concurrent calls wait for one another.
    ///
    /// # Errors
    /// When the checkout cannot be read or is larger than the limits, or the copy cannot be written.
    pub(super) fn current(&self) -> io::Result<PathBuf> {
        let mut latest = lock(&self.latest);
        if let Some((_, copy)) = latest.as_ref().filter(|(looked, _)| looked.elapsed() < FRESH) {
            return Ok(copy.clone());
        }
        let checkout = Root::open(&self.checkout)?;
        let mut digest = Sha256::new();
        let mut count = 0;
        self.digest(&checkout, Path::new(""), &mut digest, &mut count)?;
        let copy = self.copies.join(data_encoding::HEXLOWER.encode(&digest.finalize()[..16]));
        if !copy.exists() {
            self.make(&checkout, &copy)?;
        }
        *latest = Some((Instant::now(), copy.clone()));
        Ok(copy)
    }

    fn make(&self, checkout: &Root, copy: &Path) -> io::Result<()> {
        create_private_directory(&self.copies)?;
        let new = copy.with_extension(format!("new-{}", std::process::id()));
        remove_tree(&new)?;
        create_private_directory(&new)?;
        let copied = copy_tree(
            checkout,
            &Root::open(&new)?,
            LIMITS,
            &|path| self.is_apart(path),
            &Interrupt::default(),
        )?;
        if !copied.left_out.is_empty() {
            tracing::debug!(left_out = ?copied.left_out, "links of the engine's checkout are no part of its runs' roots");
        }
        match fs::rename(&new, copy) {
            // Another process has made the copy first.
            Err(_) if copy.exists() => remove_tree(&new)?,
            renamed => renamed?,
        }
        let mut copies: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(&self.copies)?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .filter(|(_, path)| path != copy)
            .collect();
        copies.sort();
        let too_many = copies.len().saturating_sub(MAX_KEPT - 1);
        for (_, old) in copies.into_iter().take(too_many) {
            remove_tree(&old)?;
        }
        Ok(())
    }

    fn digest(&self, root: &Root, within: &Path, digest: &mut Sha256, count: &mut usize) -> io::Result<()> {
        if within.components().count() > LIMITS.max_depth {
            return Err(io::Error::other("the engine's checkout is nested too deeply"));
        }
        for entry in root.entries(LIMITS.max_entries)? {
            let path = within.join(&entry.name);
            if self.is_apart(&path) || entry.kind == EntryKind::Other {
                continue;
            }
            *count += 1;
            if *count > LIMITS.max_entries {
                return Err(io::Error::other("the engine's checkout holds more files than any engine's"));
            }
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update([0]);
            if entry.kind == EntryKind::Directory {
                self.digest(&root.directory(Path::new(&entry.name))?, &path, digest, count)?;
            } else {
                let stat = root.status(Path::new(&entry.name))?;
                digest.update(format!("{} {} {}", stat.st_size, stat.st_mtime, stat.st_mtime_nsec));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
