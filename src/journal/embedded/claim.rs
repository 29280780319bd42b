//! Takes over jobs that nobody holds: their files are checked, and those of unfinished jobs are opened for the next events.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use super::{
    super::{ClaimedJobs, Damage, Durability, JobId, Lease, Unfinished, index::EndSummary},
    EmbeddedStoreInner,
    disk::OpenMode,
    file_work::unavailable,
    job_file::JobFile,
    job_reader::{
        inspection::{Inspection, inspect},
        read_job,
    },
    lock,
};
use crate::error::Result;

impl EmbeddedStoreInner {
    pub(super) fn claim(&self, lease: &Lease, limit: usize) -> ClaimedJobs {
        let mut claimed = ClaimedJobs::default();
        let free = lock(&self.index).claimable(limit);
        for job_id in free {
            match self.claim_one(&job_id, lease, &mut claimed.damage) {
                Ok(unfinished) => claimed.jobs.extend(unfinished),
                Err(error) => {
                    tracing::error!(%job_id, cause = error.cause(), "a job cannot be read, later again");
                    lock(&self.index).defer_claims(&job_id, lease.time);
                }
            }
        }
        claimed
    }

    fn claim_one(
        &self,
        job_id: &JobId,
        lease: &Lease,
        damage: &mut Vec<Damage>,
    ) -> Result<Option<Unfinished>> {
        let path = self.path_of(job_id);
        if let Some(file) = self.open_file(job_id) {
            // Another holder in this process had the job.
            let mut file = lock(&file);
            let record = read_job(&*self.directory.disk, &path, job_id, false)?.record;
            let Some(claim) = lock(&self.index).take(job_id, lease) else { return Ok(None) };
            file.epoch = claim.epoch;
            return Ok(Some(Unfinished { claim, record, last_sequence: file.last_sequence() }));
        }
        let known = lock(&self.index).record(job_id);
        let before = damage.len();
        let inspected = inspect(&*self.directory.disk, &path, job_id, known.as_ref(), damage)?;
        if damage.len() > before {
            self.directory.set_aside(&path);
        }
        match inspected {
            Inspection::Ended(_, job, log_bytes) => {
                self.sync_shown(&path)?;
                // The job has ended, but the catalogue does not know. If the entry cannot be written now, the next start finds
                // the end again.
                let log_bytes = log_bytes + self.result_bytes(job_id);
                if let Err(error) = self.with_catalogue(|catalogue| catalogue.ended(&job, log_bytes, false)) {
                    tracing::warn!(%job_id, cause = error.cause(), "the end of a job is not in the catalogue yet");
                }
                lock(&self.index).found_end(job_id, &job, EndSummary::new(&job, log_bytes, false));
                self.changed.notify_waiters();
                Ok(None)
            }
            Inspection::Unfinished(record, slot) => {
                let (disk, kept) = (&self.directory.disk, self.written_files.clone());
                let mut file = JobFile::resume(disk, (&path, job_id), slot, self.durability, kept)
                    .map_err(|error| unavailable(&path, &error))?;
                lock(&self.index).stored(job_id, slot.last_sequence);
                let Some(claim) = lock(&self.index).take(job_id, lease) else { return Ok(None) };
                file.epoch = claim.epoch;
                lock(&self.open).insert(job_id.clone(), Arc::new(Mutex::new(file)));
                Ok(Some(Unfinished { claim, record: *record, last_sequence: slot.last_sequence }))
            }
            Inspection::Lost => {
                lock(&self.index).mark_lost(job_id);
                Ok(None)
            }
        }
    }

    /// Syncs what was found in a file before it is shown to anybody, because its writer may have ended before syncing it.
    pub(super) fn sync_shown(&self, path: &Path) -> Result<()> {
        if self.durability != Durability::Fsync {
            return Ok(());
        }
        let synced = self.directory.disk.open(path, OpenMode::Writing).and_then(|file| file.sync());
        synced.map_err(|error| unavailable(path, &error))
    }
}
