//! Paths that callers name, confined to the configured roots.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use super::parts::EngineFiles;
use crate::{
    error::{Error, Reason, Result},
    files::{Root, create_private_directory},
};

/// A directory under one of the roots. It does not have to exist.
#[derive(Clone, Debug)]
pub(super) struct Confined {
    /// The root, with symbolic links resolved.
    root: PathBuf,
    /// The path relative to the root, on which no symbolic link is followed.
    relative: PathBuf,
}

impl Confined {
    pub(super) fn path(&self) -> PathBuf {
        if self.relative.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&self.relative) }
    }

    /// Opens the directory without following any symbolic link below the root.
    ///
    /// # Errors
    /// When it does not exist or cannot be opened.
    pub(super) fn open(&self) -> io::Result<Root> {
        Root::open(&self.root)?.directory(&self.relative)
    }

    /// Opens the directory, and creates what is missing of it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(super) fn create(&self) -> io::Result<Root> {
        Root::open(&self.root)?.create_directory(&self.relative)
    }

    /// Returns the directory `name` within this one.
    pub(super) fn join(&self, name: &str) -> Self {
        Self { root: self.root.clone(), relative: self.relative.join(name) }
    }
}

impl EngineFiles {
    /// Resolves the directory that a caller names: one under a backup root, with symbolic links resolved, or the first
    /// root when nothing is named.
    pub(super) fn confined(&self, field: &str, path: Option<&str>) -> Result<Confined> {
        let roots: Vec<PathBuf> = self.backup_roots.iter().filter_map(|root| make_root(root).ok()).collect();
        let refused = |message: String| Err(Error::invalid(field, message));
        let Some(first) = roots.first() else {
            return Err(Error::new(
                Reason::Unsupported,
                "no backup root is configured or can be written; set conductor.backup_roots",
            ));
        };
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Ok(Confined { root: first.clone(), relative: PathBuf::new() });
        };
        if path.contains('\0') || path.len() > 4096 {
            return refused("is no path".into());
        }
        let path = first.join(path);
        if path.components().any(|component| component == Component::ParentDir) {
            return refused("must not contain `..`".into());
        }
        // The existing part is resolved, so that no symbolic link leads out of the roots.
        let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        let rest = path.strip_prefix(existing).unwrap_or(Path::new("")).to_owned();
        let resolved = match existing.canonicalize() {
            Ok(resolved) => resolved.join(rest),
            Err(error) => return refused(format!("cannot be used: {error}")),
        };
        let within = |root: &PathBuf| {
            let relative = resolved.strip_prefix(root).ok()?.to_owned();
            Some(Confined { root: root.clone(), relative })
        };
        if let Some(confined) = roots.iter().find_map(within) {
            return Ok(confined);
        }
        let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
        refused(format!("must lie under one of the backup roots: {}", roots.join(", ")))
    }
}

fn make_root(root: &Path) -> io::Result<PathBuf> {
    if !root.exists() {
        create_private_directory(root)?;
    }
    root.canonicalize()
}
