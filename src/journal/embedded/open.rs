//! Opening the store at startup: builds the index of all jobs from the catalogue, completed from the job files.
//!
//! Nothing has to be written for this, so that it works on a full disk, and a file that cannot be read affects only its own job.

use std::{
    collections::{BTreeMap, HashSet},
    io,
};

use super::{
    super::{Damage, Durability, JobId, entry::IndexEntry, index::EndSummary},
    EmbeddedStoreInner,
    catalogue::{CatalogueFile, CatalogueTail, read},
    disk::{OpenMode, Sequential},
    encoded_entry::{EncodedEntry, EndedEntryBuilder},
    file_work::unavailable,
    job_reader::inspection::{Inspection, inspect},
    lock,
};
use prost::Message;

use crate::{
    error::Result,
    pb::{Job, storage::JobRecord},
};

impl EmbeddedStoreInner {
    /// Reads the catalogue, the names of all job files, and only those job files that the catalogue does not know.
    pub(super) fn load(&self) -> Result<Vec<Damage>> {
        let mut damage = Vec::new();
        let path = self.directory.catalogue_path();
        let disk = &self.directory.disk;
        let mut created = BTreeMap::new();
        // The names are read in parallel with the catalogue, because both take about equally long.
        let (files, found) = std::thread::scope(|scope| {
            let files = scope.spawn(|| self.directory.job_files());
            let found = match disk.open(&path, OpenMode::Reading) {
                Ok(file) => {
                    let mut ended = EndedEntryBuilder::default();
                    let apply = |_: &[u8], said: EncodedEntry<'_>| {
                        self.apply(&said, &mut created, &mut ended);
                        Ok(())
                    };
                    read(&mut Sequential::new(file), apply).map(Some)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
            (files.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))), found)
        });
        let files = files.map_err(|error| unavailable(&path, &error))?;
        let found = found.map_err(|error| unavailable(&path, &error))?;
        for (job_id, record) in created {
            match JobRecord::decode(&*record) {
                Ok(record) => lock(&self.index).found_unfinished(&job_id, record),
                // The job file is read instead.
                Err(error) => {
                    tracing::warn!(%job_id, %error, "the catalogue's record of a job cannot be read")
                }
            }
        }
        let what = match found {
            None if !files.is_empty() => Some("is missing; made whole from the job files"),
            Some(found) if found.tail == CatalogueTail::Damaged => {
                self.directory.set_aside(&path);
                Some("is damaged; made whole from the job files")
            }
            Some(found) if found.tail == CatalogueTail::Torn => {
                self.directory.set_aside(&path);
                Some("ends within an entry, which was cut off")
            }
            _ => None,
        };
        damage.extend(what.map(|what| Damage { job_id: None, lost: None, what: what.into() }));
        let is_whole = found.is_some_and(|found| found.tail == CatalogueTail::Whole);
        *lock(&self.catalogue) = Some(CatalogueFile::open(disk, &path, found, self.durability));
        let (known, unknown): (Vec<JobId>, Vec<JobId>) = {
            let index = lock(&self.index);
            files.into_iter().partition(|job_id| index.has(job_id))
        };
        self.report_lost_jobs(known, is_whole, &mut damage);
        for job_id in &unknown {
            self.index_unlisted_file(
                job_id,
                found.is_some_and(|found| found.tail != CatalogueTail::Damaged),
                &mut damage,
            );
        }
        self.sync_found();
        let is_mostly_stale = lock(&self.catalogue).as_ref().is_some_and(CatalogueFile::is_mostly_stale);
        if is_mostly_stale && let Err(error) = self.with_catalogue(CatalogueFile::rewrite) {
            tracing::warn!(
                cause = error.cause(),
                "the catalogue could not be written anew; it goes on as it is"
            );
        }
        Ok(damage)
    }

    /// Syncs everything that is shown from now on, because its writer may have ended before syncing it. If this fails, a power
    /// loss before the next sync may bring back the earlier state.
    fn sync_found(&self) {
        if self.durability != Durability::Fsync {
            return;
        }
        let catalogue = self.with_catalogue(|catalogue| catalogue.sync());
        let names = self
            .directory
            .sync_names()
            .map_err(|error| unavailable(&self.directory.catalogue_path(), &error));
        if let Err(error) = catalogue.and(names) {
            tracing::warn!(cause = error.cause(), "the store could not be synced at the start");
        }
    }

    /// `created` holds the records of jobs without an end so far: most jobs end, and each is added to the index once.
    fn apply(
        &self,
        said: &EncodedEntry<'_>,
        created: &mut BTreeMap<JobId, Box<[u8]>>,
        ended: &mut EndedEntryBuilder,
    ) {
        match *said {
            EncodedEntry::Created { job_id, record } => {
                if let Ok(job_id) = JobId::parse(job_id) {
                    created.insert(job_id, record.into());
                }
            }
            EncodedEntry::Ended { job_id, end } => {
                if let Some((job_id, record)) = created.remove_entry(job_id)
                    && let Some((entry, end)) = ended.entry(&record, end)
                {
                    lock(&self.index).found_ended(&job_id, entry, end);
                }
            }
            EncodedEntry::Deleted { job_id } => {
                if let Ok(job_id) = JobId::parse(job_id) {
                    created.remove(&job_id);
                    lock(&self.index).remove(&job_id);
                }
            }
        }
    }

    /// Reports the jobs that the catalogue knows and that have no file as lost. `known` are those that have one.
    fn report_lost_jobs(&self, known: Vec<JobId>, is_whole: bool, damage: &mut Vec<Damage>) {
        if known.len() == lock(&self.index).len() {
            return;
        }
        let known: HashSet<JobId> = known.into_iter().collect();
        let has_none = |job_id: &&JobId| !known.contains(*job_id);
        let mut lost = lock(&self.index).job_ids().filter(has_none).cloned().collect::<Vec<_>>();
        lost.sort_unstable();
        for job_id in lost {
            let what = match is_whole {
                true => "its file is missing; the job is lost",
                false => "its file is missing; the job is lost, or was deleted",
            };
            damage.push(Damage { job_id: Some(job_id.clone()), lost: None, what: what.into() });
            lock(&self.index).mark_lost(&job_id);
        }
    }

    /// Adds a job whose file the catalogue does not know. `is_read` says whether the catalogue could be read to its end.
    fn index_unlisted_file(&self, job_id: &JobId, is_read: bool, damage: &mut Vec<Damage>) {
        let path = self.path_of(job_id);
        let before = damage.len();
        let inspected = inspect(&*self.directory.disk, &path, job_id, None, damage);
        if is_read && matches!(inspected, Ok(Inspection::Lost)) {
            // This job was never acknowledged: its creation was cut short by a full disk or a power loss.
            damage.truncate(before);
            tracing::info!(%job_id, "what is left of a job that was not accepted is removed");
        } else if damage.len() > before {
            self.directory.set_aside(&path);
        }
        let noted = match inspected {
            Ok(Inspection::Ended(record, job, log_bytes)) => {
                // A failure does not prevent the start: see `sync_found`.
                let _synced = self.sync_shown(&path);
                let log_bytes = log_bytes + self.result_bytes(job_id);
                let entry = IndexEntry::new((*record).clone(), Some(&job));
                lock(&self.index).found_ended(job_id, entry, EndSummary::new(&job, log_bytes, false));
                self.note(&record, Some((&job, log_bytes)))
            }
            Ok(Inspection::Unfinished(record, _)) => {
                lock(&self.index).found_unfinished(job_id, (*record).clone());
                self.note(&record, None)
            }
            // The damage was reported and the file copied above, or the job was never accepted.
            Ok(Inspection::Lost) => {
                self.directory.disk.remove(&path).map_err(|error| unavailable(&path, &error))
            }
            Err(error) => {
                // The owner is recorded only in the file, so that the job stays unknown until the next start reads the file
                // again.
                let what = format!("its file cannot be read: {}", error.cause().unwrap_or_default());
                damage.push(Damage { job_id: Some(job_id.clone()), lost: None, what });
                Ok(())
            }
        };
        if let Err(error) = noted {
            tracing::warn!(%job_id, cause = error.cause(), "a job that was found is not in the catalogue yet");
        }
    }

    /// Adds what was found to the catalogue. If that fails, the next start finds it again.
    fn note(&self, record: &JobRecord, end: Option<(&Job, u64)>) -> Result<()> {
        self.with_catalogue(|catalogue| {
            catalogue.created(record)?;
            match end {
                Some((job, log_bytes)) => catalogue.ended(job, log_bytes, false),
                None => Ok(()),
            }
        })
    }
}
