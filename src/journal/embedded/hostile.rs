//! Files of arbitrary frames with valid checksums. Accidental damage cannot produce them, but readers must survive them all the
//! same.

use std::{fs::File, io::Write};

use prost::Message;
use rustix::fs::{MemfdFlags, memfd_create};

use super::{
    super::{EventBatch, JobId, ReadChunk},
    catalogue::{CatalogueTail, MAGIC, push_content, read},
    encoded_entry::{EncodedEntry, EndedEntryBuilder},
    format::{FRAME_MAGIC, FrameKind, HEADER_LEN, Slot, push_batch, push_frame},
    job_reader::{
        ReadPosition, find_frame,
        inspection::{Inspection, inspect_window},
    },
    window::Window,
};
use crate::pb::{
    Job,
    job_event::Payload,
    storage::{CatalogEntry, JobEnd, JobRecord, catalog_entry::Entry},
};

/// Consumes bytes from the front. Once they have run out, numbers read as 0 and slices are empty.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> u32 {
        self.take(4).iter().fold(0, |number, byte| (number << 8) | u32::from(*byte))
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(len.min(self.0.len()));
        self.0 = left;
        taken
    }
}

fn job_id() -> JobId {
    JobId::parse(&format!("job_{}", "0".repeat(36))).expect("an id")
}

fn record() -> JobRecord {
    let job = Job { job_id: job_id().to_string(), ..Job::default() };
    JobRecord { job: Some(job), ..JobRecord::default() }
}

fn job_file(mut bytes: Bytes<'_>) -> Vec<u8> {
    let job_id = job_id();
    let (kind, claimed_sequence) = (bytes.byte(), bytes.number());
    let claimed_place = u64::from(bytes.number()) << (kind >> 2);
    let mut frames = Vec::new();
    let mut next = 1_u32;
    while !bytes.0.is_empty() {
        let (form, len) = (bytes.byte(), usize::from(bytes.byte()));
        let mut push = |kind, numbers, payload: &[u8]| {
            push_frame(&mut frames, HEADER_LEN, &job_id, kind, numbers, |buffer| {
                buffer.extend_from_slice(payload);
            });
        };
        match form % 8 {
            0 => push(FrameKind::Record, (0, 0), &record().encode_to_vec()),
            1..=3 => {
                let first = if form & 8 == 0 { next } else { bytes.number() };
                let payloads = vec![Payload::EndOfStream(Default::default()); len % 4 + 1];
                // The sequences of a batch must not overflow.
                let first = first.min(u32::MAX - 8);
                let batch = EventBatch::encoded(&job_id, first, &payloads);
                let mut payload = Vec::new();
                push_batch(&mut payload, &batch);
                push(FrameKind::Events, (first, u32::try_from(batch.len()).unwrap_or(0)), &payload);
                next = batch.last_sequence() + 1;
            }
            4 => {
                let numbers = (bytes.number(), bytes.number());
                push(FrameKind::Events, numbers, bytes.take(len));
            }
            5 => push(FrameKind::End, (0, 0), &Job::default().encode_to_vec()),
            6 => push(FrameKind::End, (bytes.number(), 0), bytes.take(len)),
            _ => {
                if form & 8 == 0 {
                    frames.extend_from_slice(&FRAME_MAGIC);
                }
                frames.extend_from_slice(bytes.take(len));
            }
        }
    }
    let whole = HEADER_LEN + frames.len() as u64;
    let slot = match kind % 4 {
        0 => Slot { length: whole, last_sequence: next - 1, end_position: 0 },
        1 => Slot { length: claimed_place, last_sequence: claimed_sequence, end_position: claimed_place },
        2 => Slot { length: whole / 2, last_sequence: claimed_sequence % next, end_position: 0 },
        _ => Slot::default(),
    };
    let mut header = slot.encode_header(&job_id).to_vec();
    if kind % 4 == 3 {
        header[9] ^= 1;
    }
    header.extend_from_slice(&frames);
    header
}

fn window(bytes: &[u8]) -> Window {
    let descriptor = memfd_create("job", MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(descriptor);
    file.write_all(bytes).expect("written");
    Window::new(std::sync::Arc::new(file))
}

/// Reads such a file as a start and as a reader do. Checks that reading terminates and that every gap is reported.
pub(crate) fn read_job_file(bytes: &[u8]) {
    let file = job_file(Bytes(bytes));
    let job_id = job_id();
    let mut damage = Vec::new();
    let inspected =
        inspect_window(&mut window(&file), &job_id, None, &mut damage).expect("the file can be read");
    if let Inspection::Unfinished(_, slot) = &inspected {
        assert!(slot.length >= HEADER_LEN, "nothing is written over the header: {slot:?}");
        assert_eq!(slot.end_position, 0);
        let (mut window, mut position) = (window(&file), HEADER_LEN);
        while let Some((at, head)) = find_frame(&mut window, &job_id, position).expect("the file can be read")
        {
            let is_end = head.kind == FrameKind::End && at + head.frame_len() <= slot.length;
            assert!(!is_end || slot.length > file.len() as u64, "events would be written behind an end");
            position = at + head.frame_len();
        }
    }
    assert!(!matches!(inspected, Inspection::Lost) || !damage.is_empty(), "what is lost is told");
    for last_sequence in [3, 1000, u32::MAX - 1] {
        let mut state = ReadPosition { window: window(&file), position: HEADER_LEN };
        let mut next = 1;
        while next <= last_sequence {
            let before = next;
            let ReadChunk { batches, damage } =
                state.read(&job_id, next, last_sequence, 100).expect("the file can be read");
            for batch in batches {
                assert!(batch.first_sequence() <= next && next <= batch.last_sequence(), "a hole at {next}");
                next = batch.last_sequence() + 1;
            }
            if let Some(damage) = damage {
                let (first, last) = damage.lost.expect("events are named");
                assert!(first == next && last >= first, "{damage:?} at {next}");
                next = last + 1;
            }
            assert!(next > before, "it goes on");
        }
    }
}

fn take_in(_: &[u8], said: EncodedEntry<'_>) -> std::io::Result<()> {
    if let EncodedEntry::Created { record, .. } = said {
        let _entry = EndedEntryBuilder::default().entry(record, record);
    }
    Ok(())
}

/// Reads a catalogue of arbitrary bytes, then one of arbitrary entries.
pub(crate) fn read_catalogue(bytes: &[u8]) {
    let found = read(&mut &bytes[..], take_in).expect("bytes can be read");
    assert!(found.length <= bytes.len() as u64);
    let mut bytes = Bytes(bytes);
    let mut file = MAGIC.to_vec();
    let mut is_whole = true;
    while !bytes.0.is_empty() {
        let (form, len) = (bytes.byte(), usize::from(bytes.byte()));
        let job_id = match form & 8 {
            0 => job_id().to_string(),
            _ => format!("job_{:0>36}", len % 3),
        };
        let job = Job { job_id: job_id.clone(), ..Job::default() };
        let entry = match form % 5 {
            0 => Entry::Created(JobRecord { job: Some(job), ..JobRecord::default() }),
            1 => Entry::Ended(JobEnd {
                job_id,
                job: Some(job),
                log_bytes: u64::from(bytes.number()) << (len % 32),
                is_lost: form & 16 != 0,
                frees_key: form & 32 != 0,
            }),
            2 => Entry::Deleted(job_id),
            3 => {
                let content = bytes.take(len);
                is_whole &= EncodedEntry::of(content).is_some();
                push_content(&mut file, 0, content);
                continue;
            }
            _ => Entry::Ended(JobEnd { job_id: "none".into(), ..JobEnd::default() }),
        };
        push_content(&mut file, 0, &CatalogEntry { entry: Some(entry) }.encode_to_vec());
    }
    let found = read(&mut &file[..], take_in).expect("bytes can be read");
    assert_eq!(found.tail == CatalogueTail::Whole, is_whole, "what is no entry is noticed");
    let cut = &file[..file.len() - (file.len() - MAGIC.len()).min(1)];
    let found = read(&mut &cut[..], take_in).expect("bytes can be read");
    assert!(found.tail != CatalogueTail::Damaged || !is_whole, "a torn end is no damage");
}
