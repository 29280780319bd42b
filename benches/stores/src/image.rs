//! A store's files in memory, written out anew for each check.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::candidate::Outcome;

/// One file of a store.
pub struct Stored {
    /// Its path below the store's directory.
    pub name: PathBuf,
    /// Its content without the zeros at its end, which are space that was only set aside.
    pub used: Vec<u8>,
    pub length: u64,
}

/// All files of a store and its directories, the empty ones too.
pub struct Image {
    directories: Vec<PathBuf>,
    pub files: Vec<Stored>,
}

impl Image {
    pub fn of(root: &Path) -> Outcome<Self> {
        let (directories, paths) = contents_of(root)?;
        let mut image = Self { directories: Vec::new(), files: Vec::new() };
        for directory in directories {
            image.directories.push(directory.strip_prefix(root)?.to_owned());
        }
        for path in paths {
            let mut used = fs::read(&path)?;
            let length = used.len() as u64;
            used.truncate(used.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            image.files.push(Stored { name: path.strip_prefix(root)?.to_owned(), used, length });
        }
        Ok(image)
    }

    /// Writes a fresh copy.
    pub fn place(&self) -> Outcome<TempDir> {
        let root = tempfile::tempdir()?;
        for directory in &self.directories {
            fs::create_dir_all(root.path().join(directory))?;
        }
        for Stored { name, used, length } in &self.files {
            let file = fs::File::create(root.path().join(name))?;
            file.write_all_at(used, 0)?;
            file.set_len(*length)?;
        }
        Ok(root)
    }
}

/// The directories and the files below `root`, by name.
pub fn contents_of(root: &Path) -> Outcome<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let (below, within) = contents_of(&entry.path())?;
            directories.push(entry.path());
            directories.extend(below);
            files.extend(within);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok((directories, files))
}
