//! The store's directory: its lock, its paths, and what a start makes of it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    super::{Damage, Durability, Ended, JobId, Loaded},
    catalogue::{Catalogue, Contents},
    job_file::JobFile,
    job_reader::{Inspected, inspect},
    kept_files::KeptFiles,
    unavailable,
};
use crate::{
    error::{Error, Reason, Result},
    files::{create_private_directory, open_private},
    pb::{Timestamp, storage::JobRecord},
};

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

/// What a start has: the catalogue, what it found, and the files of unfinished jobs.
type Opened = (Catalogue, Loaded, Vec<(JobId, JobFile)>);

fn set_aside(store: &Path, path: &Path) -> io::Result<()> {
    let directory = store.join("damaged");
    create_private_directory(&directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::copy(path, directory.join(format!("{name}.{}", Timestamp::now().unix_millis()))).map(drop)
}

/// A reader has met damage in a job's file, which a start does not look into once the job has ended: it is kept, once,
/// before retention removes it, and named.
pub(super) fn set_aside_once(path: &Path) {
    let (Some(store), Some(name)) = (path.parent().and_then(Path::parent), path.file_name()) else { return };
    let name = name.to_string_lossy();
    let kept = fs::read_dir(store.join("damaged")).into_iter().flatten().flatten();
    let is_kept = kept.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&*name));
    if is_kept {
        return;
    }
    let kept = set_aside(store, path);
    tracing::error!(job_id = %name, is_kept = kept.is_ok(), "a reader has met damage in a job's file; it is kept in the store's directory `damaged`");
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || -> io::Result<File> {
            create_private_directory(&path.join("jobs"))?;
            open_private(&path.join("lock"))
        };
        let lock = open().map_err(|error| unavailable(path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let message = format!(
                "the store {} is in use by another gateway; stop it, or choose another storage.path",
                path.display()
            );
            Error::new(Reason::StoreUnavailable, message).because(error)
        })?;
        Ok(Self { path: path.to_owned(), lock })
    }

    pub(super) fn unlock(&self) {
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "store lock not released");
        }
    }

    pub(super) fn catalogue_path(&self) -> PathBuf {
        self.path.join("catalogue")
    }

    pub(super) fn job_path(&self, job_id: &JobId) -> PathBuf {
        self.path.join("jobs").join(job_id.as_str())
    }

    pub(super) fn check_path(&self) -> PathBuf {
        self.path.join(".check")
    }

    pub(super) fn result_path(&self, job_id: &JobId) -> PathBuf {
        self.path.join("results").join(job_id.as_str())
    }

    /// Keeps a damaged file's bytes as they were found.
    fn set_aside(&self, path: &Path) -> io::Result<()> {
        set_aside(&self.path, path)
    }

    /// Reads everything that is there, and leaves the catalogue whole.
    pub(super) fn load(&self, durability: Durability, kept_files: &KeptFiles) -> Result<Opened> {
        self.try_load(durability, kept_files).map_err(|error| unavailable(&self.path, &error))?
    }

    fn try_load(&self, durability: Durability, kept_files: &KeptFiles) -> io::Result<Result<Opened>> {
        let mut loaded = Loaded::default();
        let path = self.catalogue_path();
        let files = self.job_files()?;
        let (contents, is_rebuilt) = match fs::read(&path) {
            Ok(bytes) => {
                let contents = Contents::read(&bytes);
                if let Some(at) = contents.damaged_at {
                    self.set_aside(&path)?;
                    let what = format!("entry at {at} is damaged; rebuilt from the job files");
                    loaded.damage.push(Damage { job_id: None, lost: None, what });
                }
                let is_rebuilt = contents.damaged_at.is_some();
                (contents, is_rebuilt)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !files.is_empty() {
                    let what = "is missing; rebuilt from the job files".into();
                    loaded.damage.push(Damage { job_id: None, lost: None, what });
                }
                (Contents::default(), true)
            }
            Err(error) => return Err(error),
        };
        let mut opened = None;
        if !is_rebuilt {
            opened = Some(Catalogue::open(&path, &contents, durability)?);
        }
        let Contents { records, mut ended, .. } = contents;
        for (job_id, record) in records.iter().filter(|(job_id, _)| !files.contains_key(job_id)) {
            let what = match is_rebuilt {
                true => "its file is missing; the job is lost, or was deleted",
                false => "its file is missing; the job is lost",
            };
            loaded.damage.push(Damage { job_id: Some(job_id.clone()), lost: None, what: what.into() });
            loaded.lost.push((record.clone(), ended.remove(job_id).map(|ended| ended.job)));
        }
        let mut unfinished = BTreeMap::new();
        let mut open = Vec::new();
        let mut is_changed = is_rebuilt || !loaded.damage.is_empty();
        for (job_id, path) in &files {
            if ended.contains_key(job_id) && !is_rebuilt {
                continue;
            }
            match self.inspect((job_id, path), records.get(job_id), kept_files, &mut loaded, &mut ended) {
                Ok(Some((record, file))) => {
                    unfinished.insert(job_id.clone(), record);
                    open.push((job_id.clone(), file));
                }
                Ok(None) => is_changed = true,
                Err(error) => return Ok(Err(error)),
            }
        }
        let catalogue = match opened.filter(|opened| !is_changed && !opened.is_mostly_stale()) {
            Some(opened) => opened,
            None => {
                let lost: Vec<JobRecord> = loaded.lost.iter().map(|(record, _)| record.clone()).collect();
                Catalogue::rewrite(&path, &unfinished, &lost, &ended, durability)?
            }
        };
        loaded.ended = ended.into_values().collect();
        Ok(Ok((catalogue, loaded, open)))
    }

    fn inspect(
        &self,
        (job_id, path): (&JobId, &Path),
        known: Option<&JobRecord>,
        kept_files: &KeptFiles,
        loaded: &mut Loaded,
        ended: &mut BTreeMap<JobId, Ended>,
    ) -> Result<Option<(JobRecord, JobFile)>> {
        let damage_before = loaded.damage.len();
        let inspected = inspect(path, job_id, known, &mut loaded.damage)?;
        if loaded.damage.len() > damage_before {
            self.set_aside(path).map_err(|error| unavailable(path, &error))?;
        }
        match inspected {
            Inspected::Ended(record, job, log_bytes) => {
                ended.insert(job_id.clone(), Ended { record: *record, job: *job, log_bytes });
                Ok(None)
            }
            Inspected::Unfinished(record, slot) => {
                loaded.unfinished.push((*record.clone(), slot.last_sequence));
                let file = JobFile::resume(path, job_id, slot, kept_files.clone())
                    .map_err(|error| unavailable(path, &error))?;
                Ok(Some((*record, file)))
            }
            Inspected::Lost => {
                let ended = ended.remove(job_id).map(|ended| ended.job);
                loaded.lost.extend(known.map(|record| (record.clone(), ended)));
                fs::remove_file(path).map_err(|error| unavailable(path, &error))?;
                Ok(None)
            }
        }
    }

    fn job_files(&self) -> io::Result<BTreeMap<JobId, PathBuf>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.path.join("jobs"))? {
            let entry = entry?;
            if let Ok(job_id) = JobId::parse(&entry.file_name().to_string_lossy()) {
                files.insert(job_id, entry.path());
            }
        }
        Ok(files)
    }
}
