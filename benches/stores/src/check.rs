//! Reads a damaged store in a process of its own, because some stores panic, abort or never come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use conductor_gateway::journal::JobId;

use crate::candidate::{Candidate, Kind, Outcome};

/// A check that takes longer is taken for one that never ends.
const LIMIT: Duration = Duration::from_secs(20);

/// What the job holds: the first sequence and the digest of each batch.
pub struct Expected {
    pub job: JobId,
    pub step: u32,
    pub digests: BTreeMap<u32, u64>,
}

/// What reading a damaged store came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Everything read back equal, no error.
    Harmless,
    /// An error, and yet everything read back equal.
    NoticedAllReadable,
    /// An error for what is damaged, other batches readable.
    NoticedRestReadable,
    /// Refuses to open, or nothing can be read.
    NoticedNothingReadable,
    /// Batches are missing without any error.
    SilentMissing,
    /// Wrong bytes were given out as good.
    SilentWrong,
}

impl Class {
    pub const ALL: [Self; 6] = [
        Self::Harmless,
        Self::NoticedAllReadable,
        Self::NoticedRestReadable,
        Self::NoticedNothingReadable,
        Self::SilentMissing,
        Self::SilentWrong,
    ];
}

/// One check: its class, and whether the store at least wrote a line to the log.
pub struct Finding {
    pub class: Class,
    pub is_logged: bool,
}

/// Prints what a store says only to the log.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            say("logged", &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn say(what: &str, text: &str) {
    println!("{what} {}", text.replace('\n', " "));
}

/// Runs one step; an error and a panic are both noticed damage.
fn attempt<T>(step: impl FnOnce() -> Outcome<T>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            say("error", &error.to_string());
            None
        }
        Err(_) => {
            say("error", "panic");
            None
        }
    }
}

/// The child: opens the store, scans the job, then asks for each batch that the scan did not bring.
pub fn read_as_child(kind: &str, path: &str, job: &str, step: u32, count: u32) -> Outcome {
    log::set_logger(&Log)?;
    log::set_max_level(log::LevelFilter::Warn);
    let (kind, job) = (Kind::parse(kind)?, JobId::parse(job)?);
    let Some(store) = attempt(|| kind.open(Path::new(path))) else { return Ok(()) };
    for complaint in store.complaints() {
        say("error", &complaint);
    }
    let seen = scan(&*store, &job);
    for first in (0..count).map(|number| 1 + number * step).filter(|first| !seen.contains(first)) {
        if let Some(Some(piece)) = attempt(|| store.get(&job, first)) {
            println!("read {first} {}", piece.digest());
        }
    }
    attempt(|| store.close());
    Ok(())
}

fn scan(store: &dyn Candidate, job: &JobId) -> BTreeSet<u32> {
    let mut seen = BTreeSet::new();
    attempt(|| {
        store.scan(job, &mut |read| match read {
            Ok((first, piece)) => {
                seen.insert(first);
                println!("read {first} {}", piece.digest());
            }
            Err(error) => say("error", &error.to_string()),
        })
    });
    seen
}

/// Checks the store at `path` in a child and says what came of it.
#[allow(clippy::disallowed_methods, reason = "a tool of its own starts its own children")]
pub fn check(kind: Kind, path: &Path, expected: &Expected) -> Outcome<Finding> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child-read", kind.name()])
        .arg(path)
        .arg(expected.job.as_str())
        .args([expected.step.to_string(), expected.digests.len().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = child.stdout.take().ok_or("the child has no output")?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let text = reader.join().map_err(|_| "the reader of the child panicked")??;
    Ok(classify(&text, status.is_some_and(|status| status.success()), expected))
}

fn classify(text: &str, is_success: bool, expected: &Expected) -> Finding {
    let (mut right, mut is_wrong, mut is_logged) = (BTreeSet::new(), false, false);
    let mut is_noticed = !is_success;
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["read", first, digest] => {
                let first = first.parse().unwrap_or(0);
                if expected.digests.get(&first).is_some_and(|expected| expected.to_string() == digest) {
                    right.insert(first);
                } else {
                    is_wrong = true;
                }
            }
            ["logged", ..] => is_logged = true,
            _ => is_noticed = true,
        }
    }
    let class = if is_wrong {
        Class::SilentWrong
    } else {
        match (is_noticed, right.len() == expected.digests.len()) {
            (false, true) => Class::Harmless,
            (false, false) => Class::SilentMissing,
            (true, true) => Class::NoticedAllReadable,
            (true, false) if right.is_empty() => Class::NoticedNothingReadable,
            (true, false) => Class::NoticedRestReadable,
        }
    };
    Finding { class, is_logged }
}
