//! What a store makes of flipped bits, files cut short and files that are gone.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use conductor_gateway::journal::JobId;
use tempfile::TempDir;

use crate::{
    candidate::{Kind, Outcome},
    check::{Class, Expected, Finding, check},
    units::{self, Shape},
};

const BATCHES: usize = 100;
const FLIPS: u64 = 60;
const CUTS: u64 = 20;
/// Files shorter than this are cut and removed, but no bit of them is flipped.
const MIN_FLIPPED_LEN: u64 = 128;

/// How the store came to rest before it was damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Closed,
    /// Closed after everything was brought into the store's lasting form.
    Settled,
    /// As a kill leaves it.
    Killed,
}

impl Rest {
    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Settled => "settled, closed",
            Self::Killed => "killed",
        }
    }
}

/// redb's `None` is left out: a kill leaves nothing of it to be damaged, and closed it is the same file.
const CASES: [(Kind, Rest); 9] = [
    (Kind::Own, Rest::Closed),
    (Kind::Fjall, Rest::Closed),
    (Kind::Fjall, Rest::Settled),
    (Kind::RedbImmediate, Rest::Closed),
    (Kind::RedbChecked, Rest::Closed),
    (Kind::SqliteOff, Rest::Closed),
    (Kind::Own, Rest::Killed),
    (Kind::RedbImmediate, Rest::Killed),
    (Kind::SqliteOff, Rest::Killed),
];

pub fn run() -> Outcome {
    println!("## Damage: one ended job of {BATCHES} batches\n");
    for shape in Shape::ALL {
        println!("{} batches\n", shape.name());
        println!(
            "| store | damage | cases | harmless | noticed, all readable | noticed, rest readable \
             | noticed, nothing readable | SILENT, missing | SILENT, wrong bytes | silent but logged |"
        );
        println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        let mut details = String::new();
        for (kind, rest) in CASES {
            details += &damage(kind, rest, shape)?;
        }
        println!("\nSilent cases by file:\n\n{details}");
    }
    Ok(())
}

/// Writes the store. The directory holds it as it came to rest.
fn written(kind: Kind, rest: Rest, shape: Shape) -> Outcome<(TempDir, Expected)> {
    let directory = tempfile::tempdir()?;
    let units = units::make(shape, BATCHES)?;
    let job = JobId::generate()?;
    let store = kind.open(directory.path())?;
    store.create(&job)?;
    for unit in &units {
        store.append(&job, unit)?;
    }
    store.finish(&job, units.last().map_or(0, |unit| unit.batch.last_sequence()))?;
    let digests = units.iter().map(|unit| (unit.first(), units::digest(&unit.value))).collect();
    let expected = Expected { job, step: shape.step(), digests };
    // Everything is with the kernel now, so that a copy of the open store is what a kill would leave.
    let directory = if rest == Rest::Killed { copy_of(directory.path())? } else { directory };
    if rest == Rest::Settled {
        store.settle()?;
    }
    store.close()?;
    Ok((directory, expected))
}

/// What was counted for one kind of damage.
#[derive(Default)]
struct Tally {
    classes: BTreeMap<Class, usize>,
    silent_by_file: BTreeMap<String, usize>,
    silent_but_logged: usize,
}

impl Tally {
    fn count(&mut self, finding: &Finding, file: &str) {
        *self.classes.entry(finding.class).or_default() += 1;
        if finding.class >= Class::SilentMissing {
            *self.silent_by_file.entry(file.to_owned()).or_default() += 1;
            self.silent_but_logged += usize::from(finding.is_logged);
        }
    }

    fn print(&self, kind: Kind, rest: Rest, damage: &str) {
        let total: usize = self.classes.values().sum();
        print!("| {}, {} | {damage} | {total} |", kind.name(), rest.name());
        for class in Class::ALL {
            print!(" {} |", self.classes.get(&class).copied().unwrap_or(0));
        }
        println!(" {} |", self.silent_but_logged);
    }
}

/// Damages fresh copies of one store, prints its rows and answers with the silent cases by file.
fn damage(kind: Kind, rest: Rest, shape: Shape) -> Outcome<String> {
    let (whole, expected) = written(kind, rest, shape)?;
    let untouched = check(kind, copy_of(whole.path())?.path(), &expected)?;
    if untouched.class != Class::Harmless || untouched.is_logged {
        return Err(format!("{}, {}: the whole store is not whole", kind.name(), rest.name()).into());
    }
    let mut details = String::new();
    let (mut flips, mut cuts, mut gone) = (Tally::default(), Tally::default(), Tally::default());
    for path in files_of(whole.path())? {
        let name = path.strip_prefix(whole.path())?.to_owned();
        let shown = name.display().to_string();
        let bytes = fs::read(&path)?;
        // Space that was only set aside, at the end of a file, holds nothing to be damaged.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let with_damage = |damage: &dyn Fn(&Path) -> std::io::Result<()>| -> Outcome<Finding> {
            let copy = copy_of(whole.path())?;
            damage(&copy.path().join(&name))?;
            check(kind, copy.path(), &expected)
        };
        for number in 0..if used < MIN_FLIPPED_LEN { 0 } else { FLIPS } {
            let at = (used * (2 * number + 1) / (2 * FLIPS)) as usize;
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (number % 8);
            flips.count(&with_damage(&|path| fs::write(path, &flipped))?, &shown);
        }
        let mut lengths: Vec<u64> = (0..CUTS).map(|number| used * number / CUTS).collect();
        lengths.dedup();
        for length in lengths.into_iter().filter(|length| *length < used) {
            cuts.count(
                &with_damage(&|path| fs::File::options().write(true).open(path)?.set_len(length))?,
                &shown,
            );
        }
        gone.count(&with_damage(&|path| fs::remove_file(path))?, &shown);
        details +=
            &format!("- {}, {}: `{shown}`, {used} of {} bytes used", kind.name(), rest.name(), bytes.len());
        for (what, tally) in [("flipped", &flips), ("cut", &cuts), ("removed", &gone)] {
            if let Some(silent) = tally.silent_by_file.get(&shown) {
                details += &format!("; {what}: {silent} silent");
            }
        }
        details.push('\n');
    }
    flips.print(kind, rest, "bit flipped");
    cuts.print(kind, rest, "cut short");
    gone.print(kind, rest, "file removed");
    Ok(details)
}

/// The files below `directory`, by name.
pub fn files_of(directory: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_of(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// A copy in a directory of its own, empty directories included.
fn copy_of(directory: &Path) -> Outcome<TempDir> {
    let copy = tempfile::tempdir()?;
    copy_into(directory, copy.path())?;
    Ok(copy)
}

fn copy_into(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_into(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
