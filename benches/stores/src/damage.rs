//! What a store makes of flipped bits, files cut short and files that are gone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use conductor_gateway::journal::JobId;

use crate::{
    candidate::{Kind, Outcome},
    check::{Class, Expected, Finding, check},
    image::{Image, Stored},
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
        println!("\nFiles, and the silent cases of each:\n\n{details}");
    }
    Ok(())
}

/// Writes the store and takes its files as they came to rest.
fn written(kind: Kind, rest: Rest, shape: Shape) -> Outcome<(Image, Expected)> {
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
    if rest == Rest::Settled {
        store.settle()?;
    }
    // Everything is with the kernel now: the files of the open store are what a kill would leave.
    let killed = Image::of(directory.path())?;
    store.close()?;
    let image = if rest == Rest::Killed { killed } else { Image::of(directory.path())? };
    Ok((image, expected))
}

/// What was counted for one kind of damage.
#[derive(Default)]
struct Tally {
    classes: BTreeMap<Class, usize>,
    silent_by_file: BTreeMap<PathBuf, usize>,
    silent_but_logged: usize,
}

impl Tally {
    fn count(&mut self, finding: &Finding, file: &Path) {
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
    let untouched = check(kind, whole.place()?.path(), &expected)?;
    if untouched.class != Class::Harmless || untouched.is_logged {
        return Err(format!("{}, {}: the whole store is not whole", kind.name(), rest.name()).into());
    }
    let mut details = String::new();
    let (mut flips, mut cuts, mut gone) = (Tally::default(), Tally::default(), Tally::default());
    for Stored { name, used, length } in &whole.files {
        let shown = name.display();
        let in_use = used.len() as u64;
        let with_damage = |damage: &dyn Fn(&Path) -> std::io::Result<()>| -> Outcome<Finding> {
            let copy = whole.place()?;
            damage(&copy.path().join(name))?;
            check(kind, copy.path(), &expected)
        };
        for number in 0..if in_use < MIN_FLIPPED_LEN { 0 } else { FLIPS } {
            let at = in_use * (2 * number + 1) / (2 * FLIPS);
            let flipped = used[at as usize] ^ (1 << (number % 8));
            let flip = |path: &Path| File::options().write(true).open(path)?.write_all_at(&[flipped], at);
            flips.count(&with_damage(&flip)?, name);
        }
        let mut lengths: Vec<u64> = (0..CUTS).map(|number| in_use * number / CUTS).collect();
        lengths.dedup();
        for to in lengths.into_iter().filter(|to| *to < in_use) {
            let cut = |path: &Path| File::options().write(true).open(path)?.set_len(to);
            cuts.count(&with_damage(&cut)?, name);
        }
        gone.count(&with_damage(&|path| fs::remove_file(path))?, name);
        details += &format!("- {}, {}: `{shown}`, {in_use} of {length} bytes used", kind.name(), rest.name());
        for (what, tally) in [("flipped", &flips), ("cut", &cuts), ("removed", &gone)] {
            if let Some(silent) = tally.silent_by_file.get(name) {
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
