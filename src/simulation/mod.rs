//! The `job` and `journal` modules in a simulation: time, time of day, random numbers, the store and the work all derive from one
//! seed, so that a run can be repeated exactly with its seed. A life of the gateway ends in a crash at any moment or in an
//! orderly shutdown; the next life starts with what the store held. Thousands of such runs take seconds.
//!
//! `cargo test --lib simulation` runs a thousand seeds; `SIMULATION_SEED=n` runs only seed `n`, `SIMULATION_SEEDS=n` the first
//! `n` seeds. The rules that are checked are those of the contract: docs/reliability.md.
//!
//! *Lives here:* the simulated store, work and clients, and what they remember; tests only. *May import:* everything below the
//! doors. *May not:* be imported.

mod backing_store;
mod clients;
mod gateway;
mod store;
mod variables;
mod worker;
mod world;

use std::{
    cell::RefCell,
    sync::{Arc, Once},
    time::Duration,
};

use tokio::time::Instant;

use self::{
    backing_store::BackingKind,
    gateway::{SimulatedGateway, open_over},
    store::SimulatedStore,
    variables::number,
    worker::SimulatedWorker,
    world::World,
};
use crate::{
    ambient::simulated::{self, Random},
    job::{Filter, JobService, JobsConfig, Submission},
    journal::{Durability, Journal},
    pb::JobState,
    principal::Principal,
    task::Group,
};

/// The time of day at which a simulation begins.
const BEGIN: Duration = Duration::from_secs(1_800_000_000);
/// A life that takes longer than this, in simulated time, is considered hung.
const LIFE: Duration = Duration::from_secs(3 * 3600);

fn config(random: &mut Random, keeps_little: bool) -> JobsConfig {
    let (retention_max_jobs, retention_seconds) =
        if keeps_little { (u32::try_from(random.below(6)).unwrap(), 30) } else { (100_000, 24 * 3600) };
    JobsConfig {
        retention_max_jobs,
        retention_seconds,
        max_running: 1 + u32::try_from(random.below(4)).unwrap(),
        max_queued: 3 + u32::try_from(random.below(30)).unwrap(),
        timeout_seconds: 60,
        tail_bytes: 1 << (8 + random.below(10)),
        ..JobsConfig::default()
    }
}

async fn open(world: &Arc<World>, is_faulty: bool, max_tail_bytes: usize) -> Journal {
    open_over(SimulatedStore::new(world.clone(), 0, is_faulty), max_tail_bytes).await
}

/// Runs one life, from a start to a crash or an orderly shutdown. The last life goes on until every job has ended.
async fn live(world: &Arc<World>, config: JobsConfig, is_last: bool) {
    let has_two = !is_last && world.percent(30);
    let mut gateways = Vec::new();
    for gateway in 0..1 + u32::from(has_two) {
        gateways.push(SimulatedGateway::start(world, gateway, config.clone(), !is_last).await);
    }
    let clients = Group::new("clients");
    let number = if is_last { 0 } else { world.below(6) };
    for client in 0..number {
        let at = usize::try_from(world.below(gateways.len() as u64)).unwrap();
        clients.spawn("client", clients::live(world.clone(), gateways[at].clone(), client));
    }
    for gateway in &gateways {
        clients.spawn("reader", clients::reread(world.clone(), gateway.clone()));
    }
    if is_last {
        let gateway = gateways.remove(0);
        assert!(clients.drain(LIFE).await, "a reader hangs");
        clients::check_all(world, &gateway).await;
        gateway.finish_running(Duration::from_secs(60)).await;
        gateway.close_streams();
        assert!(gateway.journal().close(Duration::from_secs(60)).await, "everything was stored");
        return;
    }
    tokio::time::sleep(Duration::from_millis(world.below(8_000))).await;
    if has_two && world.percent(70) {
        // The cut may be longer than a lease: other gateways then take over what this one held, and it may return without
        // knowing.
        world.cut_off(0, Duration::from_secs(world.below(60)));
        tokio::time::sleep(Duration::from_secs(world.below(90))).await;
    }
    for gateway in gateways {
        if world.percent(30) {
            gateway.end(world).await;
        }
    }
    // Gateways that were not shut down are dropped in the middle of their work, as in a crash.
}

thread_local! {
    /// The first check that failed. Most checks fail in a task whose panic the tested code rightly catches.
    static FAILED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs a panic hook that records every panic except those that belong to the simulation.
fn watch_panics() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload_as_str() == Some(worker::PANIC) {
                return;
            }
            FAILED.with_borrow_mut(|failed| failed.get_or_insert_with(|| panic.to_string()).len());
            before(panic);
        }));
    });
}

/// Runs one seed and returns the digest of the run, which is the same whenever that seed is run.
fn run(seed: u64, kind: BackingKind) -> u64 {
    watch_panics();
    simulated::begin(seed);
    let mut random = Random(seed);
    let keeps_little = random.percent(25);
    let world = Arc::new(World::new(Random(random.below(u64::MAX)), keeps_little, kind));
    let lives = 1 + random.below(4);
    let mut time = BEGIN;
    for life in 0..=lives {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let config = config(&mut random, keeps_little);
        time += runtime.block_on(async {
            let started = Instant::now();
            simulated::set_clock(time);
            world.note(format_args!("life {life}"));
            world.begin_life(life == lives);
            let lived = tokio::time::timeout(LIFE * 2, live(&world, config, life == lives)).await;
            assert!(lived.is_ok(), "something hangs");
            started.elapsed()
        });
        drop(runtime);
        world.all_stopped();
        assert_eq!(FAILED.take(), None);
        // The time of day may have been changed in between.
        time = time + Duration::from_secs(random.below(20)) - Duration::from_secs(random.below(10));
    }
    simulated::end();
    world.digest()
}

/// Prints the seed if its run panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = format!("SIMULATION_SEED={} cargo test --lib simulation -- --nocapture\n", self.0);
            let _unheard = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
    }
}

fn run_seeds(kind: BackingKind) {
    if let Some(seed) = number("SIMULATION_SEED") {
        let _seed = Seed(seed);
        run(seed, kind);
        return;
    }
    for seed in 0..number("SIMULATION_SEEDS").unwrap_or(1_000) {
        let _seed = Seed(seed);
        run(seed, kind);
    }
}

#[test]
fn what_was_told_holds_whatever_happens() {
    run_seeds(BackingKind::Memory);
}

/// The same over files on a disk that is full at times.
#[test]
fn what_was_told_holds_over_files() {
    run_seeds(BackingKind::Files(Durability::Process));
}

/// The same over files on a disk that loses what was not synced when the power fails.
#[test]
fn what_was_told_holds_without_power() {
    run_seeds(BackingKind::Files(Durability::Fsync));
}

#[test]
fn a_seed_is_the_same_run_again() {
    for (seed, kind) in (5_000..5_030)
        .flat_map(|seed| [(seed, BackingKind::Memory), (seed, BackingKind::Files(Durability::Fsync))])
    {
        let _seed = Seed(seed);
        assert_eq!(run(seed, kind), run(seed, kind));
    }
}

fn submission() -> Submission {
    Submission {
        caller: crate::principal::Principal::local(),
        door: crate::pb::Door::Grpc,
        task: Some(crate::pb::Task { task: Some(crate::pb::task::Task::Command("x".into())) }),
        options: crate::pb::TaskOptions::default(),
        is_held: false,
        trace: None,
    }
}

/// A client disconnects while its job is being stored: the job is cancelled if the client held it, and runs otherwise.
#[test]
fn who_leaves_while_it_submits_takes_only_what_it_held() {
    for (seed, is_held) in (0..20).flat_map(|seed| [(seed, true), (seed, false)]) {
        simulated::begin(seed);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = Arc::new(World::new(Random(seed), false, BackingKind::Memory));
            let journal = open(&world, false, 1024).await;
            let worker = Arc::new(SimulatedWorker::new(world.clone(), 0, 4));
            let config = JobsConfig { max_running: 4, timeout_seconds: 60, ..JobsConfig::default() };
            let service = JobService::start(config, journal, worker).await;
            let submission = Submission { is_held, ..submission() };
            let left = tokio::time::timeout(Duration::ZERO, service.submit(submission)).await;
            assert!(left.is_err(), "nobody heard the answer");
            tokio::time::sleep(Duration::from_secs(300)).await;
            let by = crate::principal::Principal::local();
            let page = service.list(&by, &Filter::default(), 0, "", false).await.unwrap();
            let [job] = &page.jobs[..] else { panic!("one job: {:?}", page.jobs) };
            assert!(job.state().is_terminal());
            assert_eq!(job.state() == JobState::Cancelled, is_held, "{job:?}");
        });
        drop(runtime);
        simulated::end();
    }
}

/// The time of day is changed by an hour, forwards and backwards, while jobs wait for retention: only elapsed time counts.
#[test]
fn a_clock_that_is_set_makes_nothing_older() {
    const HOUR: Duration = Duration::from_secs(3600);
    simulated::begin(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        simulated::set_clock(BEGIN);
        let world = Arc::new(World::new(Random(1), true, BackingKind::Memory));
        let journal = open(&world, false, 1024).await;
        let worker = Arc::new(SimulatedWorker::new(world.clone(), 0, 4));
        let config = JobsConfig { retention_seconds: 1800, max_running: 4, ..JobsConfig::default() };
        let service = JobService::start(config, journal, worker).await;
        let by = crate::principal::Principal::local();
        let job_id = service.submit(submission()).await.unwrap().job_id;
        service.wait(&by, &job_id).await.unwrap();
        simulated::set_clock(BEGIN + HOUR);
        tokio::time::sleep(Duration::from_secs(1500)).await;
        assert!(service.get(&by, &job_id).await.is_ok(), "an hour forth removes nothing");
        simulated::set_clock(BEGIN - HOUR);
        tokio::time::sleep(Duration::from_secs(240)).await;
        assert!(service.get(&by, &job_id).await.is_ok());
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert!(service.get(&by, &job_id).await.is_err(), "and an hour back keeps nothing longer");
    });
    simulated::end();
}

/// A job whose own log fails for good, while the store accepts other writes, ends as lost after some minutes, releases its permit
/// and is listed with its end; no other job is affected.
#[test]
fn a_log_that_fails_for_good_ends_its_own_job() {
    simulated::begin(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(Random(1), false, BackingKind::Memory));
        let (bad, good) = (Principal::from_proxy("bad"), Principal::local());
        let store = SimulatedStore::new(world.clone(), 0, false).never_taking(bad.clone());
        let journal = open_over(store, 1024).await;
        let worker = Arc::new(SimulatedWorker::new(world.clone(), 0, 4));
        let config = JobsConfig { max_running: 4, timeout_seconds: 60, ..JobsConfig::default() };
        let service = JobService::start(config, journal, worker).await;
        let lost = service.submit(Submission { caller: bad.clone(), ..submission() }).await.unwrap().job_id;
        let mut reader = service.follow(&bad, &lost, 0).await.unwrap();
        let kept = service.submit(submission()).await.unwrap().job_id;
        assert!(service.wait(&good, &kept).await.unwrap().state().is_terminal());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(service.counts(), (0, 0), "its permit was given back long before");
        tokio::time::sleep(Duration::from_secs(300)).await;
        let told = reader.next().await.unwrap_err();
        assert_eq!(told.reason(), crate::error::Reason::DataLoss);
        assert!(reader.next().await.unwrap().is_none(), "and that was its end");
        assert_eq!(service.get(&bad, &lost).await.unwrap_err().reason(), crate::error::Reason::DataLoss);
        let page = service.list(&bad, &Filter::default(), 0, "", false).await.unwrap();
        let [job] = &page.jobs[..] else { panic!("one job: {:?}", page.jobs) };
        assert_eq!(job.state(), JobState::Interrupted);
    });
    simulated::end();
}
