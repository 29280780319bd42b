//! How long an append takes, and how fast one job is read back.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use conductor_gateway::journal::JobId;

use crate::{
    candidate::{Kind, Outcome},
    units::{self, Shape, Unit},
};

const JOBS: usize = 20;
const READS: usize = 5;

/// Appends to one job.
fn one_job_len(shape: Shape) -> usize {
    match shape {
        Shape::Large => 1000,
        Shape::Small => 2000,
    }
}

/// Appends to each of many jobs.
const MANY_JOBS_LEN: usize = 150;

/// What one pattern did with one candidate.
struct Figures {
    median: Duration,
    p99: Duration,
    reopen: Duration,
    read_rate: f64,
    disk: u64,
}

pub fn run() -> Outcome {
    println!("## Latency\n");
    println!("{}\n", hop()?);
    for shape in Shape::ALL {
        let units = units::make(shape, one_job_len(shape))?;
        for jobs in [1, JOBS] {
            let count = if jobs == 1 { units.len() } else { MANY_JOBS_LEN };
            println!("{} batches, {jobs} job(s), {} appends\n", shape.name(), jobs * count);
            println!("| store | append median | append p99 | reopen | read one job | on disk |");
            println!("|---|---:|---:|---:|---:|---:|");
            for kind in Kind::WRITERS {
                let figures = measure(kind, &units[..count], jobs)?;
                println!(
                    "| {} | {} | {} | {:.0} ms | {:.0} MB/s | {:.1} MB |",
                    kind.name(),
                    shown(figures.median),
                    shown(figures.p99),
                    figures.reopen.as_secs_f64() * 1e3,
                    figures.read_rate / 1e6,
                    figures.disk as f64 / 1e6,
                );
            }
            println!();
        }
    }
    Ok(())
}

fn shown(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}

/// The value below which `part` of the sorted samples lie.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// What the way to a blocking thread and back costs; it is part of every figure.
fn hop() -> Outcome<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let mut samples = Vec::with_capacity(2000);
    for _ in 0..2000 {
        let start = Instant::now();
        runtime.block_on(async { tokio::task::spawn_blocking(|| ()).await })?;
        samples.push(start.elapsed());
    }
    samples.sort_unstable();
    let (median, p99) = (quantile(&samples, 0.5), quantile(&samples, 0.99));
    Ok(format!("An empty call on a blocking thread: median {}, p99 {}.", shown(median), shown(p99)))
}

fn measure(kind: Kind, units: &[Arc<Unit>], jobs: usize) -> Outcome<Figures> {
    // What the candidate before left to be written must not be written during this one.
    std::process::Command::new("sync").status()?;
    let directory = tempfile::tempdir()?;
    let ids: Vec<JobId> = (0..jobs).map(|_| JobId::generate()).collect::<Result<_, _>>()?;
    let store = kind.open(directory.path())?;
    for id in &ids {
        store.create(id)?;
    }
    let mut samples = Vec::with_capacity(jobs * units.len());
    for unit in units {
        for id in &ids {
            let start = Instant::now();
            store.append(id, unit)?;
            samples.push(start.elapsed());
        }
    }
    let last = units.last().map_or(0, |unit| unit.batch.last_sequence());
    for id in &ids {
        store.finish(id, last)?;
    }
    store.close()?;
    samples.sort_unstable();
    let disk = disk_usage(directory.path())?;

    let mut opens = Vec::new();
    let mut rates = Vec::new();
    for id in ids.iter().cycle().take(READS) {
        let start = Instant::now();
        let store = kind.open(directory.path())?;
        opens.push(start.elapsed());
        let (mut bytes, mut failed) = (0, 0);
        let start = Instant::now();
        store.scan(id, &mut |read| match read {
            Ok((_, piece)) => bytes += piece.len(),
            Err(_) => failed += 1,
        })?;
        rates.push(bytes as f64 / start.elapsed().as_secs_f64());
        let expected: usize = units.iter().map(|unit| unit.value.len()).sum();
        if bytes != expected || failed > 0 {
            return Err(format!("{}: read {bytes} of {expected} bytes", kind.name()).into());
        }
        store.close()?;
    }
    opens.sort_unstable();
    rates.sort_by(f64::total_cmp);
    Ok(Figures {
        median: quantile(&samples, 0.5),
        p99: quantile(&samples, 0.99),
        reopen: quantile(&opens, 0.5),
        read_rate: rates[rates.len() / 2],
        disk,
    })
}

/// The blocks that the files take, which is less than their length where they have holes.
fn disk_usage(directory: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for file in crate::damage::files_of(directory)? {
        total += std::fs::metadata(file)?.blocks() * 512;
    }
    Ok(total)
}
