//! What every scenario has: its turn, its size, its seed, its report.

use std::{
    fmt,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, MutexGuard};

/// Scenarios measure, so that they run one after another.
static TURN: Mutex<()> = Mutex::const_new(());

/// What takes longer hangs.
fn deadline() -> Duration {
    Duration::from_secs(size(480, 3600))
}

/// SplitMix64: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn millis_below(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    /// Another sequence of choices, for a task of its own.
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}

pub fn is_full() -> bool {
    std::env::var("CHAOS").is_ok_and(|form| form == "full")
}

/// The size of the short form, or of the full one.
pub fn size<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}

pub struct Scenario {
    name: &'static str,
    seed: u64,
    started: Instant,
    /// Dropped at its end, which the watch hears.
    _watched: std::sync::mpsc::Sender<()>,
    pub random: Random,
    _turn: MutexGuard<'static, ()>,
}

impl Scenario {
    /// Waits for its turn, and begins.
    pub async fn begin(name: &'static str) -> Self {
        let given = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) << 20 | u64::from(std::process::id())
        });
        let turn = TURN.lock().await;
        let (watched, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(deadline()) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{name} did not end within {:?}; CHAOS_SEED={seed}", deadline());
                std::process::abort();
            }
        });
        Self { name, seed, started: Instant::now(), _watched: watched, random: Random(seed), _turn: turn }
    }

    /// Prints its figures.
    pub fn report(&self, figures: impl fmt::Display) {
        println!("{:<12} {figures} ({:.1} s)", self.name, self.started.elapsed().as_secs_f64());
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let form = if is_full() { "CHAOS=full " } else { "" };
            let (seed, name) = (self.seed, self.name);
            eprintln!(
                "{form}CHAOS_SEED={seed} cargo test --test chaos -- --include-ignored --nocapture {name}"
            );
        }
    }
}

/// The value below which this part (of a hundred) of the values lies.
pub fn percentile(values: &mut [Duration], part: usize) -> Duration {
    values.sort_unstable();
    values.get((values.len() * part / 100).min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// What a process has in memory.
pub fn resident_bytes(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
