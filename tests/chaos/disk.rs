//! The real binary over a disk that the test is in charge of (`disk.c`): it sticks, is full, and loses what was not synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use crate::{
    scenario::Random,
    support::{Gateway, Options, mean_engine, write_workspace},
};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// See the module's documentation.
pub struct Disk {
    directory: Arc<tempfile::TempDir>,
}

impl Disk {
    pub fn new() -> Self {
        let disk = Self { directory: Arc::new(tempfile::tempdir().unwrap()) };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/disk.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(disk.path("disk.so")).arg(source).arg("-ldl");
        let compiled = compiler.output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        fs::create_dir(disk.path("synced")).unwrap();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("conductor-data")
    }

    /// A gateway with the mean engine whose store is on this disk.
    pub fn start(&self, options: Options) -> Gateway {
        let root = self.path("engine");
        write_workspace(&root);
        let mut options = options
            .set("conductor.project_path", root.display())
            .set("conductor.command", format!("[{}]", mean_engine().display()))
            .with_ledger(&root);
        let variables = [
            ("LD_PRELOAD", "disk.so"),
            ("DISK_UNDER", "conductor-data"),
            ("DISK_STUCK", "stuck"),
            ("DISK_FULL", "full"),
            ("DISK_SYNCED", "synced"),
        ];
        for (name, file) in variables {
            options.environment.push((name, self.path(file).display().to_string()));
        }
        Gateway::start_in(self.directory.clone(), options)
    }

    /// Whether whatever changes anything waits.
    pub fn is_stuck(&self, is_so: bool) {
        self.is(is_so, "stuck");
    }

    /// Whether nothing more fits.
    pub fn is_full(&self, is_so: bool) {
        self.is(is_so, "full");
    }

    fn is(&self, is_so: bool, what: &str) {
        match is_so {
            true => fs::write(self.path(what), "").unwrap(),
            false => fs::remove_file(self.path(what)).unwrap(),
        }
    }

    /// The power goes, when nobody uses the disk any more: any part of what was not synced is lost, names as well as contents.
    /// Answers with how many files and names are not what the system had shown.
    pub fn loses_power(&self, random: &mut Random) -> usize {
        let (store, synced) = (self.store(), self.path("synced"));
        let mut lost = 0;
        for directory in directories_of(&store) {
            let inode = fs::metadata(&directory).unwrap().ino();
            let text = fs::read_to_string(synced.join(format!("names.{inode}"))).unwrap_or_default();
            let before: BTreeMap<String, u64> = text
                .lines()
                .filter_map(|line| line.split_once(' '))
                .map(|(inode, name)| (name.to_owned(), inode.parse().unwrap()))
                .collect();
            let now = files_of(&directory);
            let mut after = Vec::new();
            let names: BTreeSet<&String> = before
                .keys()
                // Directories stay, and a socket holds nothing.
                .filter(|name| {
                    let now = fs::symlink_metadata(directory.join(name));
                    now.map_or(*name != "." && *name != "..", |now| now.is_file())
                })
                .chain(now.keys())
                .collect();
            for name in names {
                let (old, new) = (before.get(name).copied(), now.get(name).copied());
                let kept = if old == new || random.below(100) < 40 { old } else { new };
                lost += usize::from(kept != new);
                if let Some(inode) = kept {
                    let current = match new == kept {
                        true => directory.join(name),
                        false => synced.join(format!("file.{inode}")),
                    };
                    let current = fs::read(current).unwrap();
                    let stored = fs::read(synced.join(format!("contents.{inode}"))).unwrap_or_default();
                    let left = torn(&stored, &current, random);
                    lost += usize::from(left != current);
                    after.push((directory.join(name), left));
                }
            }
            for name in now.keys() {
                fs::remove_file(directory.join(name)).unwrap();
            }
            for (path, bytes) in after {
                fs::write(path, bytes).unwrap();
            }
        }
        self.is_all_synced();
        lost
    }

    /// What is there now survives the next loss of power.
    fn is_all_synced(&self) {
        let synced = self.path("synced");
        fs::remove_dir_all(&synced).unwrap();
        fs::create_dir(&synced).unwrap();
        for directory in directories_of(&self.store()) {
            let files = files_of(&directory);
            let lines: String = files.iter().map(|(name, inode)| format!("{inode} {name}\n")).collect();
            let inode = fs::metadata(&directory).unwrap().ino();
            fs::write(synced.join(format!("names.{inode}")), lines).unwrap();
            for (name, inode) in &files {
                fs::copy(directory.join(name), synced.join(format!("contents.{inode}"))).unwrap();
                fs::hard_link(directory.join(name), synced.join(format!("file.{inode}"))).unwrap();
            }
        }
    }
}

/// A directory and those in it. That a directory is there counts as synced.
fn directories_of(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(directories_of(&entry.path()));
        }
    }
    found
}

/// The files of a directory and their inodes.
fn files_of(directory: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino()))
        .collect()
}

/// A file of which some sectors were written since the last sync, and others not.
fn torn(stored: &[u8], current: &[u8], random: &mut Random) -> Vec<u8> {
    let length = match random.below(3) {
        0 => return stored.to_vec(),
        1 => return current.to_vec(),
        _ if random.below(2) == 0 => stored.len(),
        _ => current.len(),
    };
    let mut left = vec![0; length];
    for (index, sector) in left.chunks_mut(SECTOR_BYTES).enumerate() {
        let from = if random.below(2) == 0 { stored } else { current };
        let from = from.get(index * SECTOR_BYTES..).unwrap_or_default();
        let size = sector.len().min(from.len());
        sector[..size].copy_from_slice(&from[..size]);
    }
    left
}
