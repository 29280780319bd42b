//! YAML files that are read for almost every call and hardly ever change.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;

/// So many are kept; an agent has one, a root another.
const MAX_KEPT: usize = 1024;
/// A file that was written this recently may be written again without a sign of it: the clock of files is coarse.
const SETTLED: Duration = Duration::from_millis(100);

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

type Kept = HashMap<(TypeId, PathBuf), (Stamp, Arc<dyn Any + Send + Sync>)>;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// Reads a YAML file, or takes what was read before where the file has not changed since.
///
/// # Errors
/// When it cannot be read ([`io::ErrorKind::NotFound`] among others) or is no such document
/// ([`io::ErrorKind::InvalidData`], with line and column).
pub fn read_yaml<T: DeserializeOwned + Send + Sync + 'static>(path: &Path) -> io::Result<Arc<T>> {
    let metadata = fs::metadata(path)?;
    let stamp = Stamp {
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    let key = (TypeId::of::<T>(), path.to_owned());
    let known = {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&key).filter(|(known, _)| *known == stamp).map(|(_, document)| document.clone())
    };
    if let Some(document) = known.and_then(|document| document.downcast().ok()) {
        return Ok(document);
    }
    let document: T = serde_saphyr::from_str(&fs::read_to_string(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let document = Arc::new(document);
    let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    if age.is_some_and(|age| age > SETTLED) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, (stamp, document.clone()));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.yaml");
        let read = || read_yaml::<Vec<u32>>(&path).map(|document| document.to_vec());
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::NotFound);
        for round in 0..200u32 {
            fs::write(&path, format!("[{}]", 100 + round)).unwrap();
            if round == 100 {
                // Old enough to be kept.
                let old = SystemTime::now() - Duration::from_secs(60);
                fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
            }
            assert_eq!(read().unwrap(), [100 + round]);
            assert_eq!(read().unwrap(), [100 + round]);
        }
        fs::write(&path, "{").unwrap();
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
