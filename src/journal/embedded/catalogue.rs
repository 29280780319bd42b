//! The file of the catalogue: what must be known of every job at startup without opening its own file.
//!
//! A magic, then entries: length, CRC-32C over position and content, an encoded `CatalogEntry`. The file is read in pieces,
//! whatever its size. A torn entry at its end was never acknowledged and is cut off; damage anywhere before that is reported.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;

use super::{
    super::{Durability, JobId, index::frees_key},
    disk::{Disk, DiskFile, OpenMode, Sequential},
    encoded_entry::EncodedEntry,
};
use crate::pb::{
    Job, TaskOptions,
    storage::{CatalogEntry, JobEnd, JobRecord, catalog_entry::Entry},
};

pub(super) const MAGIC: [u8; 8] = *b"CGWCAT\n1";
const HEAD_LEN: usize = 8;
/// The maximum size of an entry, which holds a record without its task or an end without its outcome.
const MAX_ENTRY_BYTES: usize = 4 * 1024 * 1024;
/// The size of the pieces in which the file is read.
const READ_BYTES: usize = 1024 * 1024;
/// The catalogue is rewritten once it holds more stale entries than this, and more stale entries than others.
const MAX_STALE_ENTRIES: usize = 1024;
/// The stale entries that a deleted job leaves: created, ended, deleted.
const ENTRIES_OF_A_DELETED_JOB: usize = 3;

fn checksum(position: u64, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), content)
}

/// Appends an entry to `buffer`, which starts at position `start` of the file.
pub(super) fn push_content(buffer: &mut Vec<u8>, start: u64, content: &[u8]) {
    let position = start + buffer.len() as u64;
    buffer.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    buffer.extend_from_slice(&checksum(position, content).to_le_bytes());
    buffer.extend_from_slice(content);
}

/// Returns the record as the catalogue stores it: the task is only in the job file.
fn without_task(record: &JobRecord) -> JobRecord {
    let job = record.job.as_ref().map(|job| Job { task: None, ..job.clone() });
    JobRecord { job, ..record.clone() }
}

/// Returns the terminal job as the catalogue stores it: without its task, options, title, outcome and question.
fn without_result(job: &Job) -> Job {
    let options = job.options.as_ref().map(|_| TaskOptions::default());
    Job { task: None, options, outcome: None, question: None, title: String::new(), ..job.clone() }
}

/// The state in which the end of a catalogue was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CatalogueTail {
    /// The file ends with a whole entry.
    #[default]
    Whole,
    /// The last entry is incomplete; it was never acknowledged.
    Torn,
    /// Something before the end cannot be read.
    Damaged,
}

/// The result of reading a catalogue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CatalogueScan {
    /// The end of the last whole entry.
    pub(super) length: u64,
    pub(super) tail: CatalogueTail,
    pub(super) entries: usize,
    /// The number of stale entries.
    pub(super) stale: usize,
}

/// Reads the entries of a catalogue in order, up to the first one that cannot be read, and calls `each` with its content.
///
/// # Errors
/// Those of the reader and of `each`.
pub(super) fn read(
    input: &mut impl Read,
    mut each: impl FnMut(&[u8], EncodedEntry<'_>) -> io::Result<()>,
) -> io::Result<CatalogueScan> {
    let mut found = CatalogueScan::default();
    let mut buffer = Buffer { bytes: Vec::new(), at: 0, is_over: false };
    if !buffer.fill(input, MAGIC.len())? || buffer.rest()[..MAGIC.len()] != MAGIC {
        found.tail = if buffer.rest().is_empty() { CatalogueTail::Torn } else { CatalogueTail::Damaged };
        return Ok(found);
    }
    buffer.at += MAGIC.len();
    found.length = MAGIC.len() as u64;
    loop {
        if !buffer.fill(input, HEAD_LEN)? {
            found.tail = if buffer.rest().is_empty() { CatalogueTail::Whole } else { CatalogueTail::Torn };
            return Ok(found);
        }
        let head = buffer.rest();
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let expected = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let is_there = len <= MAX_ENTRY_BYTES && buffer.fill(input, HEAD_LEN + len)?;
        let content = if is_there { &buffer.rest()[HEAD_LEN..HEAD_LEN + len] } else { &[] };
        let is_valid = is_there && checksum(found.length, content) == expected;
        let Some(said) = is_valid.then(|| EncodedEntry::of(content)).flatten() else {
            // The last entry may have been torn, with any part of it written, also without its head. If it was damaged instead,
            // only information that its job file also holds is lost.
            let is_small = !buffer.fill(input, READ_BYTES)?;
            let is_torn = is_small && !has_entry_behind(buffer.rest(), found.length);
            found.tail = if is_torn { CatalogueTail::Torn } else { CatalogueTail::Damaged };
            return Ok(found);
        };
        if matches!(said, EncodedEntry::Deleted { .. }) {
            found.stale += ENTRIES_OF_A_DELETED_JOB;
        }
        each(content, said)?;
        found.entries += 1;
        found.length += (HEAD_LEN + len) as u64;
        buffer.at += HEAD_LEN + len;
    }
}

/// Returns whether a valid entry begins after the first byte of `rest`, which starts at `position`. If so, the unreadable bytes
/// before it are damaged and not a torn end.
fn has_entry_behind(rest: &[u8], position: u64) -> bool {
    (1..rest.len().saturating_sub(HEAD_LEN)).any(|at| {
        let head = &rest[at..at + HEAD_LEN];
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let expected = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let content = rest.get(at + HEAD_LEN..at + HEAD_LEN + len).filter(|_| len > 0);
        content.is_some_and(|content| checksum(position + at as u64, content) == expected)
    })
}

/// A section of the file in memory that moves along as the file is read.
struct Buffer {
    bytes: Vec<u8>,
    at: usize,
    is_over: bool,
}

impl Buffer {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Reads until at least `len` bytes are available. Returns whether they are.
    fn fill(&mut self, input: &mut impl Read, len: usize) -> io::Result<bool> {
        while self.rest().len() < len && !self.is_over {
            self.bytes.drain(..self.at);
            self.at = 0;
            let from = self.bytes.len();
            self.bytes.resize(from + READ_BYTES.max(len), 0);
            let mut filled = from;
            while filled < self.bytes.len() {
                match input.read(&mut self.bytes[filled..]) {
                    Ok(0) => {
                        self.is_over = true;
                        break;
                    }
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.bytes.truncate(filled);
        }
        Ok(self.rest().len() >= len)
    }
}

/// The file of the catalogue, open for new entries.
#[derive(Debug)]
pub(super) struct CatalogueFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None` if the file has to be rewritten before an entry can be added.
    file: Option<Arc<dyn DiskFile>>,
    length: u64,
    durability: Durability,
    entries: usize,
    stale: usize,
}

impl CatalogueFile {
    /// Opens the file at `path`, of which `found` is the result of reading it. A torn end is cut off and nothing is written, so
    /// that this works on a full disk; a damaged or missing file is rewritten when the first entry is added.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        found: Option<CatalogueScan>,
        durability: Durability,
    ) -> Self {
        let CatalogueScan { length, tail, entries, stale } = found.unwrap_or_default();
        let (disk, path) = (disk.clone(), path.to_owned());
        let mut opened = Self { disk, path, file: None, length, durability, entries, stale };
        if found.is_some() && tail != CatalogueTail::Damaged && length >= MAGIC.len() as u64 {
            opened.file = opened.disk.open(&opened.path, OpenMode::Writing).ok();
        }
        if tail == CatalogueTail::Torn
            && let Some(file) = &opened.file
            && let Err(error) = file.set_length(length)
        {
            tracing::warn!(%error, "the torn end of the catalogue could not be cut; it is written over");
        }
        opened
    }

    /// Returns whether a rewrite would save at least half of the file.
    pub(super) fn is_mostly_stale(&self) -> bool {
        self.stale > MAX_STALE_ENTRIES && self.stale > self.entries / 2
    }

    /// Rewrites the file without stale entries, reading the old one in pieces. After an error the old file remains in use.
    pub(super) fn rewrite(&mut self) -> io::Result<()> {
        let old = || -> io::Result<Option<Sequential>> {
            match self.disk.open(&self.path, OpenMode::Reading) {
                Ok(file) => Ok(Some(Sequential::new(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        let mut deleted = BTreeSet::new();
        if let Some(mut old) = old()? {
            read(&mut old, |_, said| {
                if let EncodedEntry::Deleted { job_id } = said {
                    deleted.insert(job_id.to_owned());
                }
                Ok(())
            })?;
        }
        let new_path = self.path.with_extension("new");
        let file = self.disk.open(&new_path, OpenMode::Replacing)?;
        // The bytes that are not written yet, and their position in the file.
        let (mut waiting, mut written) = (MAGIC.to_vec(), 0);
        let (mut length, mut entries) = (MAGIC.len() as u64, 0);
        if let Some(mut old) = old()? {
            read(&mut old, |content, said| {
                let (EncodedEntry::Created { job_id, .. }
                | EncodedEntry::Ended { job_id, .. }
                | EncodedEntry::Deleted { job_id }) = said;
                if deleted.contains(job_id) {
                    return Ok(());
                }
                push_content(&mut waiting, written, content);
                length = written + waiting.len() as u64;
                entries += 1;
                if waiting.len() >= READ_BYTES {
                    file.write_all_at(&waiting, written)?;
                    written = length;
                    waiting.clear();
                }
                Ok(())
            })?;
        }
        file.write_all_at(&waiting, written)?;
        file.sync()?;
        self.disk.rename(&new_path, &self.path)?;
        if let Some(parent) = self.path.parent() {
            self.disk.sync_directory(parent)?;
        }
        (self.file, self.length, self.entries, self.stale) = (Some(file), length, entries, 0);
        Ok(())
    }

    pub(super) fn created(&mut self, record: &JobRecord) -> io::Result<()> {
        self.push(Entry::Created(without_task(record)))
    }

    pub(super) fn ended(&mut self, job: &Job, log_bytes: u64, is_lost: bool) -> io::Result<()> {
        let (job_id, end_of, job) = (job.job_id.clone(), job, Some(without_result(job)));
        self.push(Entry::Ended(JobEnd { job_id, log_bytes, is_lost, frees_key: frees_key(end_of), job }))
    }

    pub(super) fn deleted(&mut self, job_id: &JobId) -> io::Result<()> {
        self.push(Entry::Deleted(job_id.to_string()))?;
        self.stale += ENTRIES_OF_A_DELETED_JOB;
        Ok(())
    }

    /// Syncs the contents of the file.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.sync())
    }

    /// Creates the file if it is missing or damaged. This must precede the creation of the first job file, which otherwise would
    /// look like one whose catalogue was lost.
    pub(super) fn is_there(&mut self) -> io::Result<()> {
        if self.file.is_none() { self.rewrite() } else { Ok(()) }
    }

    /// Adds an entry. After an error it does not count as written, and the next entry takes the same position.
    fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.is_there()?;
        let Some(file) = &self.file else { return Err(io::Error::other("the catalogue is not open")) };
        let mut bytes = Vec::new();
        push_content(&mut bytes, self.length, &CatalogEntry { entry: Some(entry) }.encode_to_vec());
        file.write_all_at(&bytes, self.length)?;
        if self.durability == Durability::Fsync {
            file.sync()?;
        }
        self.length += bytes.len() as u64;
        self.entries += 1;
        Ok(())
    }
}
