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
const ROUNDS: usize = 3;
/// Reads of one job after each round.
const READS: usize = 3;

/// Appends to one job.
fn one_job_len(shape: Shape) -> usize {
    match shape {
        Shape::Large => 1000,
        Shape::Small => 2000,
    }
}

/// Appends to each of many jobs.
const MANY_JOBS_LEN: usize = 150;

/// What one pattern did with one candidate, over all rounds.
#[derive(Default)]
struct Samples {
    appends: Vec<Duration>,
    opens: Vec<Duration>,
    /// Bytes in a second.
    reads: Vec<f64>,
    disk: u64,
}

pub fn run() -> Outcome {
    println!("## Latency\n");
    println!("{}\n", hop()?);
    for shape in Shape::ALL {
        let units = units::make(shape, one_job_len(shape))?;
        for jobs in [1, JOBS] {
            let count = if jobs == 1 { units.len() } else { MANY_JOBS_LEN };
            println!("{} batches, {jobs} job(s), {ROUNDS} x {} appends\n", shape.name(), jobs * count);
            println!("| store | append median | append p99 | reopen | read one job | on disk |");
            println!("|---|---:|---:|---:|---:|---:|");
            // In turns, so that a noisy moment of the machine does not fall on one candidate alone.
            let mut all: [Samples; Kind::WRITERS.len()] = Default::default();
            for _ in 0..ROUNDS {
                for (kind, samples) in Kind::WRITERS.into_iter().zip(&mut all) {
                    measure(kind, &units[..count], jobs, samples)?;
                }
            }
            for (kind, samples) in Kind::WRITERS.into_iter().zip(all) {
                samples.print(kind);
            }
            println!();
        }
    }
    Ok(())
}

impl Samples {
    fn print(mut self, kind: Kind) {
        self.appends.sort_unstable();
        self.opens.sort_unstable();
        self.reads.sort_by(f64::total_cmp);
        println!(
            "| {} | {} | {} | {:.1} ms | {:.0} MB/s | {:.1} MB |",
            kind.name(),
            shown(quantile(&self.appends, 0.5)),
            shown(quantile(&self.appends, 0.99)),
            quantile(&self.opens, 0.5).as_secs_f64() * 1e3,
            self.reads[self.reads.len() / 2] / 1e6,
            self.disk as f64 / 1e6,
        );
    }
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

fn measure(kind: Kind, units: &[Arc<Unit>], jobs: usize, samples: &mut Samples) -> Outcome {
    // What the candidate before left to be written must not be written during this one.
    std::process::Command::new("sync").status()?;
    let directory = tempfile::tempdir()?;
    let ids: Vec<JobId> = (0..jobs).map(|_| JobId::generate()).collect::<Result<_, _>>()?;
    let store = kind.open(directory.path())?;
    for id in &ids {
        store.create(id)?;
    }
    samples.appends.reserve(jobs * units.len());
    for unit in units {
        for id in &ids {
            let start = Instant::now();
            store.append(id, unit)?;
            samples.appends.push(start.elapsed());
        }
    }
    let last = units.last().map_or(0, |unit| unit.batch.last_sequence());
    for id in &ids {
        store.finish(id, last)?;
    }
    store.close()?;
    samples.disk = disk_usage(directory.path())?;
    for id in ids.iter().cycle().take(READS) {
        let start = Instant::now();
        let store = kind.open(directory.path())?;
        samples.opens.push(start.elapsed());
        let (mut bytes, mut failed) = (0, 0);
        let start = Instant::now();
        store.scan(id, &mut |read| match read {
            Ok((_, piece)) => bytes += piece.touched_len(),
            Err(_) => failed += 1,
        })?;
        samples.reads.push(bytes as f64 / start.elapsed().as_secs_f64());
        let expected: usize = units.iter().map(|unit| unit.value.len()).sum();
        if bytes != expected || failed > 0 {
            return Err(format!("{}: read {bytes} of {expected} bytes", kind.name()).into());
        }
        store.close()?;
    }
    Ok(())
}

/// The blocks that the files take, which is less than their length where they have holes.
fn disk_usage(directory: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for file in crate::image::contents_of(directory)?.1 {
        total += std::fs::metadata(file)?.blocks() * 512;
    }
    Ok(total)
}
