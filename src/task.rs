//! Spawning, naming, stopping and awaiting tasks; process signals.
//!
//! Every task of the gateway belongs to a [`Group`]. Stopping a group asks its tasks to end; draining it waits for them up to
//! a deadline and logs the names of those that did not end.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::sync::lock;

/// A named group of tasks that are stopped together. Clones share the group.
#[derive(Clone, Debug)]
pub struct Group {
    name: &'static str,
    stop: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// Counts a task in its group for as long as the task lives, even if it panics or is aborted.
struct RunningTaskGuard(Group, &'static str);

impl Drop for RunningTaskGuard {
    fn drop(&mut self) {
        let mut running = lock(&self.0.running);
        if let Some(count) = running.get_mut(self.1) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.1);
            }
        }
    }
}

impl Group {
    /// Returns an empty group; `name` appears in the log.
    pub fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), tracker: TaskTracker::new(), running: Arc::default() }
    }

    /// Spawns a task under a name. A task that does not end by itself must watch [`Group::stopping`].
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        *lock(&self.running).entry(task).or_default() += 1;
        let counted = RunningTaskGuard(self.clone(), task);
        tokio::spawn(self.tracker.track_future(async move {
            let _counted = counted;
            future.await
        }))
    }

    /// Returns the token that is cancelled when the group is asked to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Asks the tasks to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every task has ended, for at most `deadline`. Returns whether all have; otherwise logs which did not.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.tracker.close();
        let drained = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        if !drained {
            tracing::warn!(group = self.name, tasks = ?self.running(), "tasks did not end in time");
        }
        drained
    }

    /// Returns the number of running tasks by name.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        lock(&self.running).clone()
    }
}

/// The signals that ask the process to end: TERM, INT, and HUP unless it was ignored from the start (nohup(1)).
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

/// The name of the signal that the kernel sends when the terminal closes.
pub const HANG_UP: &str = "SIGHUP";

impl Termination {
    /// Installs the handlers; from here on the signals no longer end the process by default.
    pub fn listen() -> std::io::Result<Self> {
        let hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up,
        })
    }

    /// Waits for the next of these signals and returns its name.
    pub async fn next(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Every branch only waits for a signal, so dropping the others loses nothing.
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hung_up => HANG_UP,
        }
    }
}

/// Returns whether the parent process made this one ignore HUP (proc(5), `/proc/pid/status`: SigIgn, the lowest bit).
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// Returns whether the process has a controlling terminal (proc(5), `/proc/pid/stat`: tty_nr, the seventh field).
pub fn has_terminal() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_ascii_whitespace().nth(4).is_some_and(|terminal| terminal != "0")
}
