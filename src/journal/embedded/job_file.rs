//! Writes the file of one job.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;

use super::{
    super::{Durability, EventBatch, JobId},
    disk::{Disk, OpenMode},
    format::{FrameKind, HEADER_LEN, SLOT_POSITION, Slot, push_batch, push_frame},
    open_file_pool::{OpenFilePool, PooledFile},
};
use crate::pb::{Job, storage::JobRecord};

/// The file of an unfinished job. Of what is acknowledged, only the slot in the header is ever overwritten.
#[derive(Debug)]
pub(super) struct JobFile {
    job_id: JobId,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Kept open from the second write on, if a permit is available: an idle job must not hold a file descriptor.
    file: Option<PooledFile>,
    writes: u32,
    kept_files: OpenFilePool,
    slot: Slot,
    /// The epoch of the latest claim; writes under any other epoch are refused.
    pub(super) epoch: u64,
    buffer: Vec<u8>,
}

impl JobFile {
    /// Creates the file with the job's record.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        (path, job_id): (&Path, &JobId),
        record: &JobRecord,
        durability: Durability,
        kept_files: OpenFilePool,
    ) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Creating)?;
        let mut frame = Vec::new();
        push_frame(&mut frame, HEADER_LEN, job_id, FrameKind::Record, (0, 0), |buffer| {
            record.encode_raw(buffer);
        });
        let slot = Slot { length: HEADER_LEN + frame.len() as u64, ..Slot::default() };
        let mut start = slot.encode_header(job_id).to_vec();
        start.extend_from_slice(&frame);
        file.write_all_at(&start, 0)?;
        if durability == Durability::Fsync {
            file.sync()?;
            if let Some(parent) = path.parent() {
                disk.sync_directory(parent)?;
            }
        }
        Ok(Self::at(disk, (path, job_id), slot, kept_files))
    }

    fn at(
        disk: &Arc<dyn Disk>,
        (path, job_id): (&Path, &JobId),
        slot: Slot,
        kept_files: OpenFilePool,
    ) -> Self {
        let (job_id, path, disk) = (job_id.clone(), path.to_owned(), disk.clone());
        Self { job_id, path, disk, file: None, writes: 0, kept_files, slot, epoch: 1, buffer: Vec::new() }
    }

    /// Returns the sequence of the last stored event.
    pub(super) fn last_sequence(&self) -> u32 {
        self.slot.last_sequence
    }

    /// Opens the file of an unfinished job, whose log continues at `slot`.
    pub(super) fn resume(
        disk: &Arc<dyn Disk>,
        (path, job_id): (&Path, &JobId),
        slot: Slot,
        durability: Durability,
        kept_files: OpenFilePool,
    ) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Writing)?;
        // The bytes after the slot were never acknowledged; if they stayed, a whole frame among them could be mistaken for a new
        // one.
        if file.length()? > slot.length {
            file.set_length(slot.length)?;
        }
        if durability == Durability::Fsync {
            // The writer may have ended before syncing the file, and its contents are shown from now on.
            file.sync()?;
        }
        Ok(Self::at(disk, (path, job_id), slot, kept_files))
    }

    /// Appends batches. After an error none of them counts as appended, and the next append writes to the same position.
    pub(super) fn append(&mut self, batches: &[Arc<EventBatch>], durability: Durability) -> io::Result<()> {
        let Some(last) = batches.last() else { return Ok(()) };
        self.buffer.clear();
        for batch in batches {
            let numbers = (batch.first_sequence(), u32::try_from(batch.len()).unwrap_or(0));
            push_frame(
                &mut self.buffer,
                self.slot.length,
                &self.job_id,
                FrameKind::Events,
                numbers,
                |buffer| {
                    push_batch(buffer, batch);
                },
            );
        }
        let last_sequence = last.last_sequence();
        self.commit(|slot, written| Slot { length: slot.length + written, last_sequence, ..slot }, durability)
    }

    /// Writes the end frame, unless it is already written, and returns the size of the file.
    pub(super) fn finish(&mut self, job: &Job, durability: Durability) -> io::Result<u64> {
        if self.slot.end_position == 0 {
            self.buffer.clear();
            push_frame(&mut self.buffer, self.slot.length, &self.job_id, FrameKind::End, (0, 0), |buffer| {
                job.encode_raw(buffer);
            });
            let advance = |slot: Slot, written| Slot {
                length: slot.length + written,
                end_position: slot.length,
                ..slot
            };
            self.commit(advance, durability)?;
        }
        Ok(self.slot.length)
    }

    /// Writes the buffer after the acknowledged bytes and then acknowledges it in the slot.
    fn commit(&mut self, advance: impl FnOnce(Slot, u64) -> Slot, durability: Durability) -> io::Result<()> {
        let file = match self.file.take() {
            Some(kept) => kept,
            None => PooledFile::new(self.disk.open(&self.path, OpenMode::Writing)?),
        };
        file.write_all_at(&self.buffer, self.slot.length)?;
        let slot = advance(self.slot, self.buffer.len() as u64);
        // The slot says what can be read, so it must not reach the disk before the frames. It may reach it later, with the next
        // sync, because frames beyond the acknowledged length are found all the same.
        if durability == Durability::Fsync {
            file.sync()?;
        }
        file.write_all_at(&slot.encode(&self.job_id), SLOT_POSITION)?;
        if durability == Durability::Fsync && slot.end_position != 0 {
            // No later sync follows the end.
            file.sync()?;
        }
        self.slot = slot;
        self.writes = self.writes.saturating_add(1);
        if self.writes > 1 {
            self.file = self.kept_files.keep(file);
        }
        // The buffer must not keep the size of a burst for the rest of the job.
        self.buffer.shrink_to(128 * 1024);
        Ok(())
    }
}
