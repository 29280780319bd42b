//! A process that appends is killed; what it had acknowledged must still be there.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use conductor_gateway::journal::JobId;

use crate::{
    candidate::{Kind, Outcome},
    units::{self, Shape},
};

const ROUNDS: usize = 10;
/// Batches of one job before the child goes on with the next.
const JOB_LEN: usize = 200;
const READY: &str = "ready";

/// The child: appends job after job and prints each batch that was acknowledged, until it is killed.
pub fn append_until_killed(kind: &str, path: &str, shape: &str) -> Outcome {
    let units = units::make(Shape::parse(shape)?, JOB_LEN)?;
    let store = Kind::parse(kind)?.open(Path::new(path))?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{READY}")?;
    loop {
        let job = JobId::generate()?;
        store.create(&job)?;
        for unit in &units {
            store.append(&job, unit)?;
            // The whole line in one write: a kill cannot leave half of it.
            let line = format!("{job} {} {}\n", unit.first(), units::digest(&unit.value));
            output.write_all(line.as_bytes())?;
            output.flush()?;
        }
    }
}

/// What became of the acknowledged batches of some rounds.
#[derive(Default)]
struct Tally {
    acknowledged: usize,
    lost: usize,
    wrong: usize,
    not_opened: usize,
    rounds_with_loss: usize,
}

pub fn run() -> Outcome {
    println!("## Crash: SIGKILL at a random moment, {ROUNDS} rounds each\n");
    println!("| store | acknowledged batches | lost | wrong bytes | rounds with loss | not opened again |");
    println!("|---|---:|---:|---:|---:|---:|");
    for kind in Kind::WRITERS {
        let mut tally = Tally::default();
        for number in 0..ROUNDS {
            round(kind, Shape::ALL[number % 2], &mut tally)?;
        }
        let Tally { acknowledged, lost, wrong, rounds_with_loss, not_opened } = tally;
        let name = kind.name();
        println!("| {name} | {acknowledged} | {lost} | {wrong} | {rounds_with_loss} | {not_opened} |");
    }
    println!();
    Ok(())
}

/// Between 20 and 400 ms.
fn random_moment() -> Outcome<Duration> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)?;
    Ok(Duration::from_micros(20_000 + u64::from(u32::from_le_bytes(bytes) % 380_000)))
}

fn round(kind: Kind, shape: Shape, tally: &mut Tally) -> Outcome {
    let directory = tempfile::tempdir()?;
    let acknowledged = killed_child(kind, directory.path(), shape)?;
    let count: usize = acknowledged.values().map(BTreeMap::len).sum();
    tally.acknowledged += count;
    let store = match kind.open(directory.path()) {
        Ok(store) => store,
        Err(error) => {
            eprintln!("{}: {error}", kind.name());
            tally.not_opened += 1;
            tally.lost += count;
            tally.rounds_with_loss += 1;
            return Ok(());
        }
    };
    let lost_before = tally.lost;
    for (job, batches) in acknowledged {
        let mut found = BTreeMap::new();
        let scanned = store.scan(&job, &mut |read| {
            if let Ok((first, piece)) = read {
                found.insert(first, piece.digest());
            }
        });
        if let Err(error) = scanned {
            eprintln!("{}: {error}", kind.name());
        }
        for (first, digest) in batches {
            match found.get(&first) {
                None => tally.lost += 1,
                Some(found) if *found != digest => tally.wrong += 1,
                Some(_) => {}
            }
        }
    }
    if tally.lost > lost_before {
        tally.rounds_with_loss += 1;
    }
    Ok(())
}

/// Lets a child append, kills it, and answers with what it had acknowledged: digests by job and first sequence.
#[allow(clippy::disallowed_methods, reason = "a tool of its own starts its own children")]
fn killed_child(kind: Kind, path: &Path, shape: Shape) -> Outcome<BTreeMap<JobId, BTreeMap<u32, u64>>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child-append", kind.name()])
        .arg(path)
        .arg(shape.name())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let (ready, is_ready) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged: BTreeMap<JobId, BTreeMap<u32, u64>> = BTreeMap::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            if line == READY {
                ready.send(())?;
                continue;
            }
            let [job, first, digest] = line.split(' ').collect::<Vec<_>>()[..] else { break };
            acknowledged.entry(JobId::parse(job)?).or_default().insert(first.parse()?, digest.parse()?);
        }
        Outcome::Ok(acknowledged)
    });
    is_ready.recv_timeout(Duration::from_secs(60))?;
    std::thread::sleep(random_moment()?);
    child.kill()?;
    child.wait()?;
    reader.join().map_err(|_| "the reader of the child panicked")?
}
