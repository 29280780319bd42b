//! Reads the file of one job: its events from any sequence on, its record, its end, and any damage.

use std::{
    io,
    ops::ControlFlow,
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

/// What is found in a job file whose end the catalogue does not know.
#[derive(Debug)]
pub(super) enum Inspection {
    /// The job ended; with its record, its terminal job and the length of the log in bytes.
    Ended(Box<JobRecord>, Box<Job>, u64),
    /// The job has not ended; with its record and the slot at which its log continues.
    Unfinished(Box<JobRecord>, Slot),
    /// The job is lost: too little of its file can be read.
    Lost,
}

/// Reads a whole file and checks every frame. `known` is the record that the catalogue has of the job.
pub(super) fn inspect(
    disk: &dyn Disk,
    path: &Path,
    job_id: &JobId,
    known: Option<&JobRecord>,
    damage: &mut Vec<Damage>,
) -> Result<Inspection> {
    let mut window = open(disk, path, job_id)?;
    inspect_window(&mut window, job_id, known, damage).map_err(|error| unavailable(path, &error))
}

pub(super) fn inspect_window(
    window: &mut Window,
    job_id: &JobId,
    known: Option<&JobRecord>,
    damage: &mut Vec<Damage>,
) -> io::Result<Inspection> {
    let file_len = window.file_len()?;
    let header = window.get(0, HEADER_LEN as usize)?;
    let slot = Slot::decode_header(job_id, &header);
    if slot.is_none() {
        damage.push(damaged(job_id, "the file's header is damaged"));
    }
    let record = read_record(window, job_id)?;
    let is_record_whole = record.is_some();
    let Some(mut record) = record.or_else(|| known.cloned()) else {
        damage.push(damaged(job_id, "the job's record is damaged; the job is lost"));
        return Ok(Inspection::Lost);
    };
    let mut scan = Scan { job_id, last_sequence: 0, length: HEADER_LEN, end: None, cut_at: None, damage };
    let mut position = HEADER_LEN;
    while let Some((at, head)) = find_frame(window, job_id, position)? {
        let payload = payload(window, at, &head)?;
        if scan.frame(position, at, &head, payload, slot).is_break() {
            break;
        }
        position = at + head.frame_len();
    }
    let Scan { last_sequence, length, end, cut_at, .. } = scan;
    if let Some(job) = end {
        return Ok(Inspection::Ended(Box::new(record), Box::new(job), length));
    }
    if !is_record_whole && slot.is_none() && last_sequence == 0 {
        damage.push(damaged(job_id, "nothing of its file can be read; the job is lost"));
        return Ok(Inspection::Lost);
    }
    if !is_record_whole {
        damage.push(damaged(job_id, "the job's record is damaged; its task is lost"));
    }
    if let Some(job) = record.job.as_mut().filter(|_| slot.is_none()) {
        // It is not known whether the job was started, and a job must not be started twice.
        job.start_time = job.create_time;
    }
    let acknowledged = slot.unwrap_or_default();
    if acknowledged.last_sequence > last_sequence {
        damage.push(Damage {
            job_id: Some(job_id.clone()),
            lost: Some((last_sequence + 1, acknowledged.last_sequence)),
            what: "the file ends too early".into(),
        });
    }
    let slot = Slot {
        length: match cut_at {
            Some(cut_at) => cut_at,
            None if slot.is_some() && length >= acknowledged.length => length,
            // Bytes that may still hold something readable must not be overwritten.
            None => length.max(file_len),
        },
        last_sequence: last_sequence.max(acknowledged.last_sequence),
        end_position: 0,
    };
    Ok(Inspection::Unfinished(Box::new(record), slot))
}

struct Scan<'a> {
    job_id: &'a JobId,
    last_sequence: u32,
    /// The end of the last whole frame.
    length: u64,
    end: Option<Job>,
    /// The position from which on nothing is usable.
    cut_at: Option<u64>,
    damage: &'a mut Vec<Damage>,
}

impl Scan<'_> {
    fn frame(
        &mut self,
        expected_at: u64,
        at: u64,
        head: &FrameHead,
        payload: Option<Bytes>,
        slot: Option<Slot>,
    ) -> ControlFlow<()> {
        let is_acknowledged = slot.is_none_or(|slot| at + head.frame_len() <= slot.length);
        let lost = |first, last| Some((first, last)).filter(|(first, last)| first <= last);
        if at != expected_at {
            let what = format!("no valid frame at {expected_at}");
            let lost = lost(self.last_sequence + 1, head.first_sequence.saturating_sub(1));
            self.damage.push(Damage { job_id: Some(self.job_id.clone()), lost, what });
        }
        let Some(payload) = payload else {
            if !is_acknowledged {
                return ControlFlow::Break(()); // torn by the crash; nobody was told of it
            }
            let what = format!("the checksum of the frame at {at} does not fit");
            let lost = lost(self.last_sequence + 1, head.last_sequence());
            self.damage.push(Damage { job_id: Some(self.job_id.clone()), lost, what });
            self.last_sequence = self.last_sequence.max(head.last_sequence());
            self.length = at + head.frame_len();
            return ControlFlow::Continue(());
        };
        if head.kind == FrameKind::End {
            return self.end(at, head, payload);
        }
        self.last_sequence = self.last_sequence.max(head.last_sequence());
        self.length = at + head.frame_len();
        ControlFlow::Continue(())
    }

    /// Handles an end frame. One that cannot be decoded is ignored: the log continues at its position.
    fn end(&mut self, at: u64, head: &FrameHead, payload: Bytes) -> ControlFlow<()> {
        match Job::decode(payload) {
            Ok(job) => {
                self.length = at + head.frame_len();
                self.end = Some(job);
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.damage.push(damaged(self.job_id, format!("the job's end cannot be read: {error}")));
                self.cut_at = Some(at);
                ControlFlow::Break(())
            }
        }
    }
}
