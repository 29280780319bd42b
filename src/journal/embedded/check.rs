//! Reads a whole store and reports what of it is damaged. Nothing is written, and a running gateway is not disturbed.

use std::{collections::HashMap, io, path::Path};

use prost::Message;

use super::{
    super::{Damage, JobId},
    catalogue::{CatalogueTail, read},
    disk::{Disk, OpenMode, Sequential, SystemDisk},
    file_work::unavailable,
    job_reader::inspection::{Inspection, inspect},
    result_file,
};
use crate::{
    error::{Error, Reason, Result},
    pb::storage::{CatalogEntry, catalog_entry::Entry},
};

/// How much of a result is read at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// What a check has read, and what it found.
#[derive(Debug, Default)]
pub struct StoreCheck {
    /// The ended jobs.
    pub ended: usize,
    /// The jobs that have not ended: those of a running gateway, or those that the next start takes up.
    pub unfinished: usize,
    /// The bytes of all files that were read.
    pub bytes: u64,
    /// What is lost or cannot be read.
    pub damage: Vec<Damage>,
    /// What is no damage: an end of the catalogue that was being written.
    pub notes: Vec<String>,
}

/// What the catalogue says of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Unfinished,
    Ended,
    /// Reported as lost by an earlier start.
    Lost,
}

/// Reads every file of the store in `path`. Blocks for as long as the disk takes.
///
/// # Errors
/// [`Reason::Misconfigured`] when there is no store; [`Reason::StoreUnavailable`] when its directory or catalogue cannot be read. A
/// file that cannot be read is damage of its own job.
pub fn check(path: &Path) -> Result<StoreCheck> {
    let disk = SystemDisk;
    let jobs = path.join("jobs");
    if !jobs.is_dir() {
        let message = format!(
            "{} holds no jobs; `storage.path` names another directory, or nothing was ever stored",
            path.display()
        );
        return Err(Error::new(Reason::Misconfigured, message));
    }
    let mut found = StoreCheck::default();
    // The names come first: a job that is created meanwhile is in the catalogue then, and no file of it is missed.
    let names = disk.names(&jobs).map_err(|error| unavailable(&jobs, &error))?;
    let listed = listed(&disk, path, &mut found)?;
    let files: Vec<JobId> = names.iter().filter_map(|name| JobId::parse(name).ok()).collect();
    for job_id in &files {
        check_job(&disk, path, job_id, listed.get(job_id).copied(), &mut found);
    }
    let mut missing: Vec<JobId> = {
        let files: std::collections::HashSet<&JobId> = files.iter().collect();
        let has_none =
            |(job_id, listed): &(&JobId, &Listed)| **listed != Listed::Lost && !files.contains(job_id);
        listed.iter().filter(has_none).map(|(job_id, _)| job_id.clone()).collect()
    };
    // Created since the names were read.
    missing.retain(|job_id| !jobs.join(job_id.as_str()).exists());
    if !missing.is_empty() {
        // Removed by a running gateway meanwhile.
        let now = self::listed(&disk, path, &mut StoreCheck::default())?;
        missing.retain(|job_id| now.contains_key(job_id));
    }
    missing.sort_unstable();
    for job_id in missing {
        found.damage.push(damage(&job_id, "its file is missing; the job is lost"));
    }
    Ok(found)
}

fn damage(job_id: &JobId, what: impl Into<String>) -> Damage {
    Damage { job_id: Some(job_id.clone()), lost: None, what: what.into() }
}

/// Reads the catalogue.
fn listed(disk: &dyn Disk, store: &Path, found: &mut StoreCheck) -> Result<HashMap<JobId, Listed>> {
    let path = store.join("catalogue");
    let mut listed = HashMap::new();
    let file = match disk.open(&path, OpenMode::Reading) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            found.damage.push(Damage { job_id: None, lost: None, what: "the catalogue is missing".into() });
            return Ok(listed);
        }
        Err(error) => return Err(unavailable(&path, &error)),
    };
    let each = |content: &[u8], _: super::encoded_entry::EncodedEntry<'_>| {
        let entry = CatalogEntry::decode(content).ok().and_then(|entry| entry.entry);
        let (job_id, state) = match entry {
            Some(Entry::Created(record)) => (record.job.unwrap_or_default().job_id, Some(Listed::Unfinished)),
            Some(Entry::Ended(end)) => {
                (end.job_id, Some(if end.is_lost { Listed::Lost } else { Listed::Ended }))
            }
            Some(Entry::Deleted(job_id)) => (job_id, None),
            None => return Ok(()),
        };
        if let Ok(job_id) = JobId::parse(&job_id) {
            match state {
                Some(state) => listed.insert(job_id, state),
                None => listed.remove(&job_id),
            };
        }
        Ok(())
    };
    let scan = read(&mut Sequential::new(file), each).map_err(|error| unavailable(&path, &error))?;
    found.bytes += scan.length;
    match scan.tail {
        CatalogueTail::Whole => {}
        CatalogueTail::Torn => found.notes.push(
            "the catalogue ends within an entry: it is being written, or was when its gateway ended".into(),
        ),
        CatalogueTail::Damaged => {
            let what = format!(
                "the catalogue is damaged from byte {} on; a start makes it whole from the job files",
                scan.length
            );
            found.damage.push(Damage { job_id: None, lost: None, what });
        }
    }
    Ok(listed)
}

fn check_job(disk: &dyn Disk, store: &Path, job_id: &JobId, listed: Option<Listed>, found: &mut StoreCheck) {
    let path = store.join("jobs").join(job_id.as_str());
    let before = found.damage.len();
    let length = disk.length(&path);
    let inspection = inspect(disk, &path, job_id, None, &mut found.damage);
    match inspection {
        // A running gateway has removed it.
        Err(error) if error.reason() == Reason::JobNotFound => return,
        Err(error) => found
            .damage
            .push(damage(job_id, format!("its file cannot be read: {}", error.cause().unwrap_or_default()))),
        Ok(Inspection::Ended(..)) => found.ended += 1,
        Ok(Inspection::Unfinished(..)) if listed == Some(Listed::Ended) => {
            found.damage.push(damage(job_id, "the job has ended, and its end is missing"));
        }
        Ok(Inspection::Unfinished(..)) => found.unfinished += 1,
        Ok(Inspection::Lost) => {
            if listed.is_none() {
                // Its creation was cut short and nobody was told of it, or it is being created.
                found.damage.truncate(before);
            }
        }
    }
    found.bytes += length.unwrap_or_default();
    check_result(disk, store, job_id, found);
}

fn check_result(disk: &dyn Disk, store: &Path, job_id: &JobId, found: &mut StoreCheck) {
    let path = store.join("results").join(job_id.as_str());
    let mut from = 0;
    loop {
        match result_file::read(disk, &path, job_id, from, PIECE_BYTES) {
            Ok(piece) if piece.is_empty() => return,
            Ok(piece) => {
                from += piece.len() as u64;
                found.bytes += piece.len() as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                found.damage.push(damage(
                    job_id,
                    format!("its whole answer cannot be read from byte {from} on: {error}"),
                ));
                return;
            }
        }
    }
}
