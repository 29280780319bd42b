//! Reads the file of one job: its events from any sequence on, its record, its end, and any damage.

pub(super) mod inspection;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;

use super::{
    super::{Damage, JobId, LogReader, ReadChunk, StoredJob},
    directory::set_aside_once,
    disk::{Disk, OpenMode},
    file_work::{off_runtime, unavailable},
    format::{FRAME_HEAD_LEN, FRAME_MAGIC, FrameHead, FrameKind, HEADER_LEN, Slot, read_batch},
    open_file_pool::OpenFilePool,
    window::Window,
};
use crate::{
    error::Result,
    pb::{Job, storage::JobRecord},
};

/// Below this distance a scan frame by frame is as fast as the binary search.
const NEAR_BYTES: u64 = 512 * 1024;

fn open(disk: &dyn Disk, path: &Path, job_id: &JobId) -> Result<Window> {
    match disk.open(path, OpenMode::Reading) {
        Ok(file) => Ok(Window::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(JobId::not_found(job_id.as_str())),
        Err(error) => Err(unavailable(path, &error)),
    }
}

/// Returns the position and head of the frame at `position`, or of the next valid frame if that one is damaged.
pub(super) fn find_frame(
    window: &mut Window,
    job_id: &JobId,
    position: u64,
) -> io::Result<Option<(u64, FrameHead)>> {
    let head = window.get(position, FRAME_HEAD_LEN)?;
    if let Some(head) = FrameHead::decode(job_id, position, &head) {
        return Ok(Some((position, head)));
    }
    const STEP: usize = 64 * 1024;
    let mut from = position;
    loop {
        let bytes = window.get(from, STEP)?;
        if bytes.len() < FRAME_HEAD_LEN {
            return Ok(None);
        }
        for at in 0..=bytes.len() - FRAME_HEAD_LEN {
            if bytes[at..at + 4] != FRAME_MAGIC {
                continue;
            }
            if let Some(head) = FrameHead::decode(job_id, from + at as u64, &bytes[at..]) {
                return Ok(Some((from + at as u64, head)));
            }
        }
        from += (bytes.len() - FRAME_HEAD_LEN + 1) as u64;
    }
}

fn payload(window: &mut Window, position: u64, head: &FrameHead) -> io::Result<Option<Bytes>> {
    let payload = window.get(position + FRAME_HEAD_LEN as u64, head.payload_len as usize)?;
    Ok((payload.len() == head.payload_len as usize && head.fits(&payload)).then_some(payload))
}

/// Reads events. See [`LogReader`].
#[derive(Debug)]
pub(super) struct JobReader {
    job_id: JobId,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    kept_files: OpenFilePool,
    /// Absent while a read runs on another thread. The file is opened again if that read was cancelled, or if it could not be
    /// kept open.
    state: Option<ReadPosition>,
    /// Where to continue after the file is opened again.
    position: u64,
}

#[derive(Debug)]
pub(super) struct ReadPosition {
    pub(super) window: Window,
    pub(super) position: u64,
}

impl JobReader {
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        job_id: &JobId,
        kept_files: OpenFilePool,
    ) -> Result<Self> {
        let state = ReadPosition { window: open(&**disk, path, job_id)?, position: HEADER_LEN };
        let (job_id, disk, path) = (job_id.clone(), disk.clone(), path.to_owned());
        Ok(Self { job_id, disk, path, kept_files, state: Some(state), position: HEADER_LEN })
    }
}

#[async_trait]
impl LogReader for JobReader {
    async fn read(&mut self, next_sequence: u32, last_sequence: u32, max_bytes: usize) -> Result<ReadChunk> {
        let state = self.state.take();
        let position = self.position;
        let (job_id, disk, path) = (self.job_id.clone(), self.disk.clone(), self.path.clone());
        let work = move || -> Result<(ReadPosition, io::Result<ReadChunk>)> {
            let mut state = match state {
                Some(state) => state,
                None => ReadPosition { window: open(&*disk, &path, &job_id)?, position },
            };
            let chunk = state.read(&job_id, next_sequence, last_sequence, max_bytes);
            if chunk.as_ref().is_ok_and(|chunk| chunk.damage.is_some()) {
                set_aside_once(&*disk, &path);
            }
            Ok((state, chunk))
        };
        let (state, chunk) = off_runtime(&*self.disk, work).await?;
        self.position = state.position;
        let ReadPosition { window, position } = state;
        self.state = window.keep(&self.kept_files).map(|window| ReadPosition { window, position });
        chunk.map_err(|error| unavailable(&self.path, &error))
    }
}

impl ReadPosition {
    pub(super) fn read(
        &mut self,
        job_id: &JobId,
        next: u32,
        last_sequence: u32,
        max_bytes: usize,
    ) -> io::Result<ReadChunk> {
        let chunk = self.read_chunk(job_id, next, last_sequence, max_bytes);
        // Bytes that were read ahead are dropped: the file may have grown by the next call, and an idle reader would hold them.
        self.window.forget();
        chunk
    }

    fn read_chunk(
        &mut self,
        job_id: &JobId,
        next: u32,
        last_sequence: u32,
        max_bytes: usize,
    ) -> io::Result<ReadChunk> {
        self.seek(job_id, next)?;
        let mut chunk = ReadChunk::default();
        let mut expected = next;
        let mut bytes = 0;
        while bytes < max_bytes && expected <= last_sequence {
            let position = self.position;
            let step = self.step(job_id, expected, last_sequence)?;
            match step {
                FrameStep::Skipped => {}
                FrameStep::EventBatch(batch) => {
                    bytes += batch.bytes().len();
                    expected = batch.last_sequence() + 1;
                    chunk.batches.push(batch);
                }
                FrameStep::Lost(first, last, what) => {
                    if chunk.batches.is_empty() {
                        chunk.damage =
                            Some(Damage { job_id: Some(job_id.clone()), lost: Some((first, last)), what });
                    } else {
                        // The damage is reported by the next read, after the events before it.
                        self.position = position;
                    }
                    break;
                }
            }
        }
        Ok(chunk)
    }

    /// Approaches the frame that holds `next` by binary search, so that a reader that resumes at the end of a large log does not
    /// read all of it. Moves forwards only, and never beyond that frame, whatever is damaged.
    ///
    /// A position counts as a frame only if its checksum fits the job and the position. The magic is not valid UTF-8, so that no
    /// text of an event contains it.
    fn seek(&mut self, job_id: &JobId, next: u32) -> io::Result<()> {
        let is_near = match find_frame(&mut self.window, job_id, self.position)? {
            Some((_, head)) => match head.kind {
                FrameKind::Record => next == 1,
                FrameKind::Events => head.last_sequence() + 1 >= next,
                FrameKind::End => true,
            },
            None => true,
        };
        if is_near {
            return Ok(());
        }
        let mut high = self.window.file_len()?;
        while high.saturating_sub(self.position) > NEAR_BYTES {
            let middle = self.position + (high - self.position) / 2;
            match find_frame(&mut self.window, job_id, middle)? {
                Some((at, head))
                    if at < high && head.kind == FrameKind::Events && head.first_sequence <= next =>
                {
                    self.position = at;
                }
                _ => high = middle,
            }
        }
        Ok(())
    }

    fn step(&mut self, job_id: &JobId, expected: u32, last_sequence: u32) -> io::Result<FrameStep> {
        let Some((position, head)) = find_frame(&mut self.window, job_id, self.position)? else {
            return Ok(FrameStep::Lost(expected, last_sequence, "the file ends too early".into()));
        };
        match head.kind {
            FrameKind::End => {
                return Ok(FrameStep::Lost(
                    expected,
                    last_sequence,
                    format!("no event frame at {}", self.position),
                ));
            }
            FrameKind::Events if head.first_sequence > expected => {
                let what = format!("no valid frame at {}", self.position);
                self.position = position;
                return Ok(FrameStep::Lost(expected, (head.first_sequence - 1).min(last_sequence), what));
            }
            FrameKind::Events if head.last_sequence() >= expected => {}
            _ => {
                self.position = position + head.frame_len();
                return Ok(FrameStep::Skipped);
            }
        }
        let batch =
            payload(&mut self.window, position, &head)?.and_then(|payload| read_batch(&head, &payload));
        self.position = position + head.frame_len();
        Ok(match batch {
            Some(batch) => FrameStep::EventBatch(batch),
            None => FrameStep::Lost(
                expected,
                head.last_sequence().min(last_sequence),
                format!("the checksum of the frame at {position} does not fit"),
            ),
        })
    }
}

enum FrameStep {
    Skipped,
    EventBatch(std::sync::Arc<super::super::EventBatch>),
    Lost(u32, u32, String),
}

fn damaged(job_id: &JobId, what: impl Into<String>) -> Damage {
    Damage { job_id: Some(job_id.clone()), lost: None, what: what.into() }
}

fn read_record(window: &mut Window, job_id: &JobId) -> io::Result<Option<JobRecord>> {
    let head = window.get(HEADER_LEN, FRAME_HEAD_LEN)?;
    let head = FrameHead::decode(job_id, HEADER_LEN, &head).filter(|head| head.kind == FrameKind::Record);
    let Some(head) = head else { return Ok(None) };
    Ok(payload(window, HEADER_LEN, &head)?.and_then(|payload| JobRecord::decode(payload).ok()))
}

fn read_end(window: &mut Window, job_id: &JobId, position: u64) -> io::Result<Option<Job>> {
    let head = window.get(position, FRAME_HEAD_LEN)?;
    let head = FrameHead::decode(job_id, position, &head).filter(|head| head.kind == FrameKind::End);
    let Some(head) = head else { return Ok(None) };
    Ok(payload(window, position, &head)?.and_then(|payload| Job::decode(payload).ok()))
}

/// Finds the end frame of an ended job if the header does not give its position, because the writer ended, or the power was lost,
/// after the frame was stored but before the header was updated.
fn find_end(window: &mut Window, job_id: &JobId, slot: &Slot) -> io::Result<u64> {
    let mut position = slot.length;
    while let Some((at, head)) = find_frame(window, job_id, position)? {
        if head.kind == FrameKind::End {
            return Ok(at);
        }
        position = at + head.frame_len();
    }
    Ok(position)
}

/// Returns the record of a job, and its terminal job if it has ended. `has_ended` says whether the catalogue marks it as ended.
pub(super) fn read_job(disk: &dyn Disk, path: &Path, job_id: &JobId, has_ended: bool) -> Result<StoredJob> {
    let mut window = open(disk, path, job_id)?;
    let read = |window: &mut Window| -> io::Result<Result<StoredJob, Damage>> {
        let header = window.get(0, HEADER_LEN as usize)?;
        let Some(slot) = Slot::decode_header(job_id, &header) else {
            return Ok(Err(damaged(job_id, "the file's header is damaged")));
        };
        let Some(record) = read_record(window, job_id)? else {
            return Ok(Err(damaged(job_id, "the job's record is damaged")));
        };
        let end_position = match slot.end_position {
            0 if !has_ended => return Ok(Ok(StoredJob { record, ended: None })),
            0 => find_end(window, job_id, &slot)?,
            known => known,
        };
        let ended = read_end(window, job_id, end_position)?;
        Ok(ended.map_or_else(
            || Err(damaged(job_id, "the job's end is damaged")),
            |job| Ok(StoredJob { record, ended: Some(job) }),
        ))
    };
    read(&mut window).map_err(|error| unavailable(path, &error))?.map_err(|damage| {
        set_aside_once(disk, path);
        damage.to_error()
    })
}
