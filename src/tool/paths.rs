//! Paths that callers name: confined to configured roots.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use super::toolbox::ToolboxConfig;
use crate::{
    error::{Error, Reason, Result},
    files::{Root, create_private_directory},
};

/// A directory below one of the roots. It may not be there yet.
#[derive(Clone, Debug)]
pub(super) struct Confined {
    /// The root, links resolved.
    root: PathBuf,
    /// The way from there, on which no link is followed.
    relative: PathBuf,
}

impl Confined {
    pub(super) fn path(&self) -> PathBuf {
        if self.relative.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&self.relative) }
    }

    /// Opens it, link by no link.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn open(&self) -> io::Result<Root> {
        Root::open(&self.root)?.directory(&self.relative)
    }

    /// Opens it, made where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn create(&self) -> io::Result<Root> {
        Root::open(&self.root)?.create_directory(&self.relative)
    }

    /// One below it.
    pub(super) fn join(&self, name: &str) -> Self {
        Self { root: self.root.clone(), relative: self.relative.join(name) }
    }
}

impl ToolboxConfig {
    /// The directory that a caller means: under one of the backup roots, links resolved; the first root where
    /// nothing is named.
    pub(super) fn confined(&self, field: &str, path: Option<&str>) -> Result<Confined> {
        let roots: Vec<PathBuf> =
            self.conductor.backup_roots.iter().filter_map(|root| make_root(root).ok()).collect();
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
        // What exists of it is resolved, so that no link leads out.
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
