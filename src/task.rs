//! How tasks are spawned, named, stopped and waited for; process signals.
//!
//! Every task of the gateway belongs to a [`Group`]. Stopping a group asks its tasks to end; draining it waits
//! for them, with a deadline, and says by name which ones did not.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tasks that end together. Clones share the group.
#[derive(Clone, Debug)]
pub struct Group {
    name: &'static str,
    stop: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// Counts a task in its group for as long as the task lives, however it ends.
struct Counted(Group, &'static str);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(self.1) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.1);
            }
        }
    }
}

impl Group {
    /// An empty group.
    pub fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), tracker: TaskTracker::new(), running: Arc::default() }
    }

    /// Starts a task. It has to watch [`Group::stopping`] if it would otherwise outlive the group's stop.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default() += 1;
        let counted = Counted(self.clone(), task);
        tokio::spawn(self.tracker.track_future(async move {
            let _counted = counted;
            future.await
        }))
    }

    /// The token that is cancelled when the group is asked to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Asks the tasks to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every task has ended, at most until `deadline` has passed. Answers whether they have.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.tracker.close();
        let drained = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        if !drained {
            tracing::warn!(group = self.name, tasks = ?self.running(), "tasks did not end in time");
        }
        drained
    }

    /// The tasks that run now: name and number.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The signals that ask the process to end: TERM, INT, and HUP where it was not ignored from the start (nohup(1)).
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

/// The name of the signal that a closed terminal sends.
pub const HANG_UP: &str = "SIGHUP";

impl Termination {
    /// Begins to listen; from here on the signals no longer end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        let hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up,
        })
    }

    /// Waits for the next of them and answers with its name.
    pub async fn next(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Every branch only waits for a signal; losing one loses nothing.
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hung_up => HANG_UP,
        }
    }
}

/// Whether whoever started the process has it ignore HUP (proc(5), `/proc/pid/status`: SigIgn, the lowest bit).
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// Whether the process has a terminal that can be closed (proc(5), `/proc/pid/stat`: tty_nr, the seventh field).
pub fn has_terminal() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_ascii_whitespace().nth(4).is_some_and(|terminal| terminal != "0")
}
