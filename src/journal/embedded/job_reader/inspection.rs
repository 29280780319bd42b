//! Inspecting a whole job file: what of it is good, and what it says.

use super::super::{
    super::{Damage, JobId},
    disk::Disk,
    file_work::unavailable,
    format::{FrameHead, FrameKind, HEADER_LEN, Slot},
    window::Window,
};
use super::{damaged, find_frame, open, payload, read_record};
use crate::{
    error::Result,
    pb::{Job, storage::JobRecord},
};
use bytes::Bytes;
use prost::Message;
use std::{io, ops::ControlFlow, path::Path};

/// What is found in a job file whose end the catalogue does not know.
#[derive(Debug)]
pub(in crate::journal::embedded) enum Inspection {
    /// The job ended; with its record, its terminal job and the length of the log in bytes.
    Ended(Box<JobRecord>, Box<Job>, u64),
    /// The job has not ended; with its record and the slot at which its log continues.
    Unfinished(Box<JobRecord>, Slot),
    /// The job is lost: too little of its file can be read.
    Lost,
}

/// Reads a whole file and checks every frame. `known` is the record that the catalogue has of the job.
pub(in crate::journal::embedded) fn inspect(
    disk: &dyn Disk,
    path: &Path,
    job_id: &JobId,
    known: Option<&JobRecord>,
    damage: &mut Vec<Damage>,
) -> Result<Inspection> {
    let mut window = open(disk, path, job_id)?;
    inspect_window(&mut window, job_id, known, damage).map_err(|error| unavailable(path, &error))
}

pub(in crate::journal::embedded) fn inspect_window(
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
