//! The on-disk format of a job file: a header and frames.
//!
//! Header (64 bytes): magic, then the *slot*: acknowledged length, last acknowledged sequence, position of the end frame (0 while
//! the job runs), checksum. Frame: a head of 28 bytes, then the payload. All numbers are little endian. The checksum of a frame
//! head is CRC-32C over the job id, the position in the file and the head, which contains the CRC-32C of the payload, so that a
//! frame of another job or position is not valid here. The checksum of the slot covers the job id and the slot.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{EventBatch, JobId, MAX_SEQUENCE};

/// The magic of a job file; its last digit is the version of the format.
const MAGIC: [u8; 8] = *b"CGWJOB\n1";
/// The magic of a frame.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xC6, 0x57, 0xF5, 0xA1];
/// The position of the first frame.
pub(super) const HEADER_LEN: u64 = 64;
/// The length of the head of a frame.
pub(super) const FRAME_HEAD_LEN: usize = 28;
/// The maximum length of a payload. A batch is sealed at 64 KiB and holds at most one more event, of up to 256 KiB, and its ends.
pub(super) const MAX_PAYLOAD_LEN: usize = 4 * 1024 * 1024;

/// How far the file of a job is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) length: u64,
    pub(super) last_sequence: u32,
    pub(super) end_position: u64,
}

pub(super) const SLOT_POSITION: u64 = 8;
const SLOT_LEN: usize = 24;

fn slot_checksum(job_id: &JobId, fields: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(job_id.as_str().as_bytes()), fields)
}

impl Slot {
    pub(super) fn encode(self, job_id: &JobId) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        bytes[..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.last_sequence.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.end_position.to_le_bytes());
        let checksum = slot_checksum(job_id, &bytes[..20]);
        bytes[20..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Encodes the header, the first 64 bytes of the file.
    pub(super) fn encode_header(self, job_id: &JobId) -> [u8; HEADER_LEN as usize] {
        let mut header = [0; HEADER_LEN as usize];
        header[..8].copy_from_slice(&MAGIC);
        header[8..8 + SLOT_LEN].copy_from_slice(&self.encode(job_id));
        header
    }

    /// Reads the slot from the header. Returns `None` if it is damaged.
    pub(super) fn decode_header(job_id: &JobId, header: &[u8]) -> Option<Self> {
        let fields = header.get(8..8 + SLOT_LEN)?;
        if header[..8] != MAGIC || slot_checksum(job_id, &fields[..20]) != u32_at(fields, 20) {
            return None;
        }
        let last_sequence = u32_at(fields, 8);
        (last_sequence <= MAX_SEQUENCE).then(|| Self {
            length: u64_at(fields, 0),
            last_sequence,
            end_position: u64_at(fields, 12),
        })
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Record = 1,
    Events = 2,
    End = 3,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: FrameKind,
    /// The sequence of the first event; 0 for the other kinds.
    pub(super) first_sequence: u32,
    /// The number of events.
    pub(super) count: u32,
    pub(super) payload_len: u32,
    pub(super) payload_checksum: u32,
}

fn head_checksum(job_id: &JobId, position: u64, fields: &[u8]) -> u32 {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(job_id.as_str().as_bytes()), &position.to_le_bytes());
    crc32c::crc32c_append(checksum, fields)
}

impl FrameHead {
    pub(super) fn encode(self, job_id: &JobId, position: u64) -> [u8; FRAME_HEAD_LEN] {
        let mut bytes = [0; FRAME_HEAD_LEN];
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4] = self.kind as u8;
        bytes[8..12].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = head_checksum(job_id, position, &bytes[..24]);
        bytes[24..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Decodes a frame head. Returns `None` if there is no valid one at this position.
    pub(super) fn decode(job_id: &JobId, position: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEAD_LEN)?;
        if bytes[..4] != FRAME_MAGIC || head_checksum(job_id, position, &bytes[..24]) != u32_at(bytes, 24) {
            return None;
        }
        let kind = match bytes[4] {
            1 => FrameKind::Record,
            2 => FrameKind::Events,
            3 => FrameKind::End,
            _ => return None,
        };
        let head = Self {
            kind,
            first_sequence: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            payload_len: u32_at(bytes, 16),
            payload_checksum: u32_at(bytes, 20),
        };
        let is_within = head.first_sequence.checked_add(head.count).is_some_and(|next| next <= MAX_SEQUENCE);
        (is_within && head.payload_len as usize <= MAX_PAYLOAD_LEN).then_some(head)
    }

    /// Returns the sequence of the last event.
    pub(super) fn last_sequence(&self) -> u32 {
        (self.first_sequence + self.count).saturating_sub(1)
    }

    /// Returns the length of head and payload together.
    pub(super) fn frame_len(&self) -> u64 {
        FRAME_HEAD_LEN as u64 + u64::from(self.payload_len)
    }

    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        crc32c::crc32c(payload) == self.payload_checksum
    }
}

/// Appends a frame to `buffer`, which starts at position `start` of the file.
pub(super) fn push_frame(
    buffer: &mut Vec<u8>,
    start: u64,
    job_id: &JobId,
    kind: FrameKind,
    (first_sequence, count): (u32, u32),
    write_payload: impl FnOnce(&mut Vec<u8>),
) {
    let position = start + buffer.len() as u64;
    let head_at = buffer.len();
    buffer.resize(head_at + FRAME_HEAD_LEN, 0);
    write_payload(buffer);
    let payload = &buffer[head_at + FRAME_HEAD_LEN..];
    let head = FrameHead {
        kind,
        first_sequence,
        count,
        payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        payload_checksum: crc32c::crc32c(payload),
    };
    buffer[head_at..head_at + FRAME_HEAD_LEN].copy_from_slice(&head.encode(job_id, position));
}

/// Appends a batch as a payload: the ends of its events, then their bytes.
pub(super) fn push_batch(buffer: &mut Vec<u8>, batch: &EventBatch) {
    buffer.extend(batch.ends().iter().flat_map(|end| end.to_le_bytes()));
    buffer.extend_from_slice(batch.bytes());
}

/// Decodes the batch in a payload whose checksum was verified. Returns `None` if its ends do not describe a batch.
pub(super) fn read_batch(head: &FrameHead, payload: &Bytes) -> Option<Arc<EventBatch>> {
    let ends_len = (head.count as usize).checked_mul(4)?;
    if head.count == 0 || head.first_sequence == 0 || payload.len() < ends_len {
        return None;
    }
    let ends: Box<[u32]> = payload[..ends_len].chunks_exact(4).map(|end| u32_at(end, 0)).collect();
    let bytes = payload.slice(ends_len..);
    let is_rising = ends.windows(2).all(|pair| pair[0] <= pair[1]);
    (is_rising && *ends.last()? as usize == bytes.len())
        .then(|| Arc::new(EventBatch::new(head.first_sequence, bytes, ends)))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
