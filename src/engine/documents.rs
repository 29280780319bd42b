//! A cache of YAML files, which are read for almost every call and rarely change.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::Stat;
use serde::de::DeserializeOwned;

use crate::sync::lock;
use crate::{files::Root, text::bounded};

/// The maximum number of cached documents; each agent and each root has one.
const MAX_KEPT: usize = 1024;
/// A file modified this recently may change again without a new timestamp, because the clock of files is coarse.
const SETTLED: Duration = Duration::from_millis(100);
/// The maximum size of a definition or configuration, in bytes.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 256 * 1024;
/// The maximum length of the description of a problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 300;

/// Identifies one state of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    #[allow(clippy::useless_conversion, clippy::cast_possible_wrap)] // the fields' types differ between architectures
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    /// Returns whether the last modification is old enough that a further one would change the stamp.
    fn is_settled(&self) -> bool {
        let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(self.modified.0).unwrap_or(0) + 1);
        SystemTime::now().duration_since(modified).is_ok_and(|age| age > SETTLED)
    }
}

type DocumentCache = HashMap<(TypeId, PathBuf), (Stamp, Arc<dyn Any + Send + Sync>)>;

static KEPT: LazyLock<Mutex<DocumentCache>> = LazyLock::new(Mutex::default);

/// Reads the YAML file `relative` beneath `root`, which is at `path`, or returns the cached document if the file is unchanged.
///
/// # Errors
/// When it cannot be read ([`io::ErrorKind::NotFound`] among others), is empty, or is not such a document
/// ([`io::ErrorKind::InvalidData`], with line and column).
pub(crate) fn read_yaml<T: DeserializeOwned + Send + Sync + 'static>(
    root: &Root,
    path: &Path,
    relative: &Path,
) -> io::Result<Arc<T>> {
    let stamp = Stamp::of(&root.status(relative)?);
    let key = (TypeId::of::<T>(), path.join(relative));
    let known = {
        let kept = lock(&KEPT);
        kept.get(&key).filter(|(known, _)| *known == stamp).map(|(_, document)| document.clone())
    };
    if let Some(document) = known.and_then(|document| document.downcast().ok()) {
        return Ok(document);
    }
    let text = root.read_text(relative, MAX_DOCUMENT_BYTES)?;
    let wrong =
        |problem: &str| io::Error::new(io::ErrorKind::InvalidData, bounded(problem, MAX_PROBLEM_BYTES));
    if text.trim().is_empty() {
        return Err(wrong("it is empty"));
    }
    let document: T = serde_saphyr::from_str(&text)
        .map_err(|error| wrong(error.to_string().lines().next().unwrap_or("it is no YAML")))?;
    let document = Arc::new(document);
    if stamp.is_settled() {
        let mut kept = lock(&KEPT);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, (stamp, document.clone()));
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
