//! The catalogue: what a start has to know of every job without opening its file.
//!
//! Magic, then entries: length, CRC-32C over place and content, an encoded `CatalogEntry`.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use prost::Message;

use super::super::{Durability, Ended, JobId};
use crate::pb::{
    Job, TaskOptions,
    storage::{CatalogEntry, JobEnd, JobRecord, catalog_entry::Entry},
};

pub(super) const MAGIC: [u8; 8] = *b"CGWCAT\n1";
const HEAD_LEN: usize = 8;
/// A catalogue is written anew once it holds more entries that no longer matter than this, and than others.
const MAX_STALE_ENTRIES: usize = 1024;

/// The catalogue, open for new entries.
#[derive(Debug)]
pub(super) struct Catalogue {
    file: File,
    length: u64,
    durability: Durability,
    entries: usize,
    /// Entries that no longer matter.
    stale: usize,
}

/// What a catalogue says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) records: BTreeMap<JobId, JobRecord>,
    pub(super) ended: BTreeMap<JobId, Ended>,
    /// Where the first entry begins that cannot be read.
    pub(super) damaged_at: Option<u64>,
    /// Entries that no longer matter.
    pub(super) stale: usize,
}

fn checksum(position: u64, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), content)
}

fn push_entry(buffer: &mut Vec<u8>, start: u64, entry: Entry) {
    push_content(buffer, start, &CatalogEntry { entry: Some(entry) }.encode_to_vec());
}

/// Appends an entry to `buffer`, which begins at `start` in the file.
pub(super) fn push_content(buffer: &mut Vec<u8>, start: u64, content: &[u8]) {
    let position = start + buffer.len() as u64;
    buffer.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    buffer.extend_from_slice(&checksum(position, content).to_le_bytes());
    buffer.extend_from_slice(content);
}

/// The record as the catalogue keeps it: the task stays in the job's file.
fn without_task(record: &JobRecord) -> JobRecord {
    let job = record.job.as_ref().map(|job| Job { task: None, ..job.clone() });
    JobRecord { job, request_digest: record.request_digest.clone() }
}

/// The terminal job as the catalogue keeps it.
fn without_result(job: &Job) -> Job {
    let options = job.options.as_ref().map(|_| TaskOptions::default());
    Job { task: None, options, outcome: None, usage: None, question: None, ..job.clone() }
}

impl Contents {
    /// Reads a catalogue up to the first entry that is damaged.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            contents.damaged_at = Some(0);
            return contents;
        }
        let mut at = MAGIC.len();
        while at < bytes.len() {
            let Some((entry, next)) = read_entry(bytes, at) else {
                contents.damaged_at = Some(at as u64);
                break;
            };
            contents.apply(entry);
            at = next;
        }
        contents
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Created(record) => {
                let id = record.job.as_ref().map(|job| job.job_id.as_str()).unwrap_or_default();
                if let Ok(job_id) = JobId::parse(id) {
                    self.records.insert(job_id, record);
                }
            }
            Entry::Ended(JobEnd { job_id, job, log_bytes }) => {
                let Ok(job_id) = JobId::parse(&job_id) else { return };
                let (Some(record), Some(job)) = (self.records.get(&job_id), job) else { return };
                self.ended.insert(job_id, Ended { record: record.clone(), job, log_bytes });
            }
            Entry::Deleted(job_id) => {
                let Ok(job_id) = JobId::parse(&job_id) else { return };
                self.records.remove(&job_id);
                self.ended.remove(&job_id);
                self.stale += 3;
            }
        }
    }
}

fn read_entry(bytes: &[u8], at: usize) -> Option<(Entry, usize)> {
    let head = bytes.get(at..at + HEAD_LEN)?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let expected = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let end = at.checked_add(HEAD_LEN)?.checked_add(len)?;
    let content = bytes.get(at + HEAD_LEN..end)?;
    if checksum(at as u64, content) != expected {
        return None;
    }
    Some((CatalogEntry::decode(content).ok()?.entry?, end))
}

impl Catalogue {
    /// Opens a catalogue whose bytes are all readable and hold what `contents` says.
    pub(super) fn open(path: &Path, contents: &Contents, durability: Durability) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        let entries = contents.records.len() + contents.ended.len() + contents.stale;
        Ok(Self { file, length, durability, entries, stale: contents.stale })
    }

    /// Whether writing it anew saves at least half of it.
    pub(super) fn is_mostly_stale(&self) -> bool {
        self.stale > MAX_STALE_ENTRIES && self.stale > self.entries / 2
    }

    /// Writes it anew without what no longer matters. After an error it goes on as it is.
    pub(super) fn compact(&mut self, path: &Path) -> io::Result<()> {
        let Contents { records, ended, damaged_at, .. } = Contents::read(&std::fs::read(path)?);
        if let Some(at) = damaged_at {
            return Err(io::Error::other(format!("the entry at {at} is damaged")));
        }
        let unfinished = records.into_iter().filter(|(job_id, _)| !ended.contains_key(job_id)).collect();
        *self = Self::rewrite(path, &unfinished, &[], &ended, self.durability)?;
        Ok(())
    }

    /// Writes a new catalogue and puts it in place of the old one at once.
    pub(super) fn rewrite(
        path: &Path,
        unfinished: &BTreeMap<JobId, JobRecord>,
        lost: &[JobRecord],
        ended: &BTreeMap<JobId, Ended>,
        durability: Durability,
    ) -> io::Result<Self> {
        let mut bytes = MAGIC.to_vec();
        for record in unfinished.values().chain(lost) {
            push_entry(&mut bytes, 0, Entry::Created(without_task(record)));
        }
        for (job_id, ended) in ended {
            push_entry(&mut bytes, 0, Entry::Created(without_task(&ended.record)));
            push_entry(&mut bytes, 0, end_entry(job_id, &ended.job, ended.log_bytes));
        }
        let new_path = path.with_extension("new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&new_path)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        std::fs::rename(&new_path, path)?;
        let entries = unfinished.len() + lost.len() + 2 * ended.len();
        Ok(Self { file, length: bytes.len() as u64, durability, entries, stale: 0 })
    }

    pub(super) fn created(&mut self, record: &JobRecord) -> io::Result<()> {
        self.push(Entry::Created(without_task(record)))
    }

    pub(super) fn ended(&mut self, job: &Job, log_bytes: u64) -> io::Result<()> {
        let Ok(job_id) = JobId::parse(&job.job_id) else { return Ok(()) };
        self.push(end_entry(&job_id, job, log_bytes))
    }

    pub(super) fn deleted(&mut self, job_id: &JobId) -> io::Result<()> {
        self.push(Entry::Deleted(job_id.to_string()))?;
        self.stale += 3;
        Ok(())
    }

    /// After an error nothing counts as written, and the next entry takes the same place.
    fn push(&mut self, entry: Entry) -> io::Result<()> {
        let mut bytes = Vec::new();
        push_entry(&mut bytes, self.length, entry);
        self.file.write_all_at(&bytes, self.length)?;
        if self.durability == Durability::Fsync {
            self.file.sync_data()?;
        }
        self.length += bytes.len() as u64;
        self.entries += 1;
        Ok(())
    }
}

fn end_entry(job_id: &JobId, job: &Job, log_bytes: u64) -> Entry {
    Entry::Ended(JobEnd { job_id: job_id.to_string(), job: Some(without_result(job)), log_bytes })
}
