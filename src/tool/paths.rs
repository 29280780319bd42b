//! Paths that callers name: confined to configured roots; and the copying of agents.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::toolbox::ToolboxConfig;
use crate::error::{Error, Reason, Result};

impl ToolboxConfig {
    /// The directory that a caller means: under one of the backup roots, links resolved; the first root where
    /// nothing is named.
    pub(super) fn confined(&self, field: &str, path: Option<&str>) -> Result<PathBuf> {
        let roots: Vec<PathBuf> =
            self.conductor.backup_roots.iter().filter_map(|root| make_root(root).ok()).collect();
        let refused = |message: String| Err(Error::invalid(field, message));
        let Some(first) = roots.first() else {
            return Err(Error::new(
                Reason::Unsupported,
                "no backup root is configured or can be written; set conductor.backup_roots",
            ));
        };
        let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(first.clone()) };
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
        if roots.iter().any(|root| resolved.starts_with(root)) {
            return Ok(resolved);
        }
        let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
        refused(format!("must lie under one of the backup roots: {}", roots.join(", ")))
    }
}

fn make_root(root: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(root)?;
    root.canonicalize()
}

/// Copies a directory of plain files and directories; links and others are left out. Answers with the files.
pub(super) fn copy_directory(from: &Path, to: &Path) -> io::Result<u32> {
    fs::create_dir_all(to)?;
    let mut files = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            files += copy_directory(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
            files += 1;
        }
    }
    Ok(files)
}
