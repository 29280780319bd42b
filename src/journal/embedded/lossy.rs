//! An in-memory disk that keeps what POSIX guarantees and no more: at a power loss any part of what was not synced may be lost,
//! names as well as contents. It can be full, and can fail permanently for one file. Its behaviour is determined by a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::disk::{Disk, DiskFile, OpenMode};
use crate::{ambient::simulated::Random, sync::lock};

/// The unit that the disk writes atomically.
const SECTOR_BYTES: u64 = 512;

/// A change to a file that is not synced yet.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// A change to a directory that is not synced yet.
#[derive(Clone, Debug)]
enum Naming {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct FileContents {
    synced: Vec<u8>,
    now: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct LossyDiskState {
    random: Random,
    files: BTreeMap<u64, FileContents>,
    next_file: u64,
    synced_names: BTreeMap<PathBuf, u64>,
    names: BTreeMap<PathBuf, u64>,
    namings: Vec<Naming>,
    /// How many more bytes may be written.
    room: u64,
    /// Files that can be read but not written.
    broken: BTreeSet<PathBuf>,
    /// How many more changes and syncs succeed; after them the user of the disk counts as gone.
    changes_left: u64,
}

/// See the documentation of the module. Clones share one disk.
#[derive(Clone, Debug)]
pub(crate) struct LossyDisk(Arc<Mutex<LossyDiskState>>);

/// An open file. It stays valid when its name is removed or reassigned.
#[derive(Debug)]
struct LossyFile {
    disk: LossyDisk,
    file: u64,
    path: PathBuf,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(position, written) => {
            let (from, to) = (*position as usize, *position as usize + written.len());
            bytes.resize(bytes.len().max(to), 0);
            bytes[from..to].copy_from_slice(written);
        }
        Change::Length(length) => bytes.resize(*length as usize, 0),
    }
}

fn rename(names: &mut BTreeMap<PathBuf, u64>, naming: &Naming) {
    match naming {
        Naming::Create(path, file) => drop(names.insert(path.clone(), *file)),
        Naming::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Naming::Remove(path) => drop(names.remove(path)),
    }
}

impl Naming {
    fn is_in(&self, directory: &Path) -> bool {
        let (Self::Create(path, _) | Self::Rename(_, path) | Self::Remove(path)) = self;
        path.parent() == Some(directory)
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl LossyDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(LossyDiskState {
            random: Random(seed),
            files: BTreeMap::new(),
            next_file: 0,
            synced_names: BTreeMap::new(),
            names: BTreeMap::new(),
            namings: Vec::new(),
            room: u64::MAX,
            broken: BTreeSet::new(),
            changes_left: u64::MAX,
        })))
    }

    fn state(&self) -> MutexGuard<'_, LossyDiskState> {
        lock(&self.0)
    }

    /// Limits how many more bytes may be written.
    pub(crate) fn has_room_for(&self, bytes: u64) {
        self.state().room = bytes;
    }

    /// Makes every change and sync fail after the next `changes` ones, as if the user of the disk had died.
    pub(super) fn is_used_for(&self, changes: u64) {
        self.state().changes_left = changes;
    }

    /// Makes all further changes to this file fail.
    pub(super) fn breaks(&self, path: &Path) {
        self.state().broken.insert(path.to_owned());
    }

    /// Simulates a power loss: any part of what was not synced is lost.
    pub(crate) fn loses_power(&self) {
        let mut state = self.state();
        let LossyDiskState { random, files, synced_names, names, namings, .. } = &mut *state;
        for contents in files.values_mut() {
            let mut after = contents.synced.clone();
            for change in contents.changes.drain(..) {
                match change {
                    _ if random.percent(40) => {}
                    // The write is torn between two sectors; a sector itself is written completely or not at all.
                    Change::Write(position, written) if random.percent(20) => {
                        let end = position + random.below(written.len() as u64 + 1);
                        let kept = (end - end % SECTOR_BYTES).saturating_sub(position) as usize;
                        apply(&mut after, &Change::Write(position, written[..kept].to_vec()));
                    }
                    change => apply(&mut after, &change),
                }
            }
            (contents.synced, contents.now) = (after.clone(), after);
        }
        for naming in namings.drain(..) {
            if !random.percent(40) {
                rename(synced_names, &naming);
            }
        }
        *names = synced_names.clone();
    }
}

impl LossyDiskState {
    /// Counts one change or sync; must be called before each of them.
    fn counts(&mut self) -> io::Result<()> {
        self.changes_left =
            self.changes_left.checked_sub(1).ok_or_else(|| io::Error::other("nobody is there"))?;
        Ok(())
    }

    fn change(&mut self, file: u64, path: &Path, change: Change) -> io::Result<()> {
        self.counts()?;
        if self.broken.contains(path) {
            return Err(io::Error::other("input/output error"));
        }
        let (mut change, mut is_full) = (change, false);
        if let Change::Write(position, bytes) = &mut change {
            // Overwritten bytes need no additional space.
            let held = self.files.get(&file).map_or(0, |contents| contents.now.len() as u64);
            let end = *position + bytes.len() as u64;
            let kept = end.min(held.max(*position).saturating_add(self.room));
            is_full = kept < end;
            // A part of the data may have been written.
            bytes.truncate((kept - *position) as usize);
            self.room -= kept.saturating_sub(held.max(*position));
        }
        let contents = self.files.entry(file).or_default();
        apply(&mut contents.now, &change);
        contents.changes.push(change);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Releases the space of the file that has this name.
    fn free(&mut self, path: &Path) {
        let freed = self.names.get(path).map_or(0, |file| self.files[file].now.len() as u64);
        self.room = self.room.saturating_add(freed);
    }

    fn name(&mut self, naming: Naming) {
        rename(&mut self.names, &naming);
        self.namings.push(naming);
    }
}

impl DiskFile for LossyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = &state.files[&self.file].now;
        let rest = bytes.get(position as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.disk.state().change(self.file, &self.path, Change::Write(position, bytes.to_vec()))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.file].now.len() as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.state().change(self.file, &self.path, Change::Length(length))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.counts()?;
        let contents = state.files.entry(self.file).or_default();
        let FileContents { synced, changes, .. } = contents;
        changes.drain(..).for_each(|change| apply(synced, &change));
        Ok(())
    }
}

impl Disk for LossyDisk {
    fn open(&self, path: &Path, what_for: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let known = state.names.get(path).copied();
        let file = match (known, what_for) {
            (Some(_), OpenMode::Creating) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Reading | OpenMode::Writing) => return Err(not_found()),
            (Some(file), OpenMode::Replacing) => {
                state.change(file, path, Change::Length(0))?;
                file
            }
            (Some(file), _) => file,
            (None, _) => {
                state.counts()?;
                // A name needs space as well.
                state.room = state.room.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                let file = state.next_file;
                state.next_file += 1;
                state.files.insert(file, FileContents::default());
                state.name(Naming::Create(path.to_owned(), file));
                file
            }
        };
        Ok(Arc::new(LossyFile { disk: self.clone(), file, path: path.to_owned() }))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        let file = state.names.get(path).ok_or_else(not_found)?;
        Ok(state.files[file].now.len() as u64)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let within = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(within.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(not_found());
        }
        state.counts()?;
        state.free(to);
        state.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(not_found());
        }
        state.counts()?;
        state.free(path);
        state.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.counts()?;
        let LossyDiskState { synced_names, namings, .. } = &mut *state;
        namings.retain(|naming| {
            let is_synced = naming.is_in(path);
            if is_synced {
                rename(synced_names, naming);
            }
            !is_synced
        });
        Ok(())
    }

    fn replace(&self, path: &Path, bytes: &[u8], is_synced: bool) -> io::Result<()> {
        let beside = path.with_extension("replacement");
        let file = self.open(&beside, OpenMode::Replacing)?;
        file.write_all_at(bytes, 0)?;
        if is_synced {
            file.sync()?;
        }
        self.rename(&beside, path)?;
        match path.parent().filter(|_| is_synced) {
            Some(directory) => self.sync_directory(directory),
            None => Ok(()),
        }
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let bytes = {
            let state = self.state();
            let file = state.names.get(from).ok_or_else(not_found)?;
            state.files[file].now.clone()
        };
        self.open(to, OpenMode::Replacing)?.write_all_at(&bytes, 0)
    }

    fn is_inline(&self) -> bool {
        true
    }
}
