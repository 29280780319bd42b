//! A time limit that counts work and not waiting.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// A limit for the time that something works. While it waits for what others hold, the limit stands still; all such waits together
/// last at most as long as the limit itself, so that nothing lasts longer than twice its limit. Clones share one limit.
#[derive(Clone, Debug)]
pub struct TimeLimit(Arc<watch::Sender<Clock>>);

#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The end of the limit, without the wait that is in progress.
    end: Instant,
    /// How long may still be waited, without the wait that is in progress.
    left_to_wait: Duration,
    /// When the wait in progress began.
    stopped_at: Option<Instant>,
    /// How many wait.
    waiting: usize,
}

impl Clock {
    fn end(&self, now: Instant) -> Instant {
        self.end + self.stopped_at.map_or(Duration::ZERO, |at| (now - at).min(self.left_to_wait))
    }
}

impl TimeLimit {
    /// Begins a limit now.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let clock = Clock { end: Instant::now() + limit, left_to_wait: limit, stopped_at: None, waiting: 0 };
        Self(Arc::new(watch::Sender::new(clock)))
    }

    /// Returns when the limit ends, as it stands. Later waits move it.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.0.borrow().end(Instant::now())
    }

    /// Returns whether the limit has ended.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.end() <= Instant::now()
    }

    /// Waits until the limit has ended. Cancel safe.
    pub async fn passed(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let clock = *changes.borrow_and_update();
            if self.has_passed() {
                return;
            }
            // While it stands still, only the time that may be waited can run out.
            let until = clock.end + clock.stopped_at.map_or(Duration::ZERO, |_| clock.left_to_wait);
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                // The sender lives as long as this limit does.
                _ = changes.changed() => {}
            }
        }
    }

    /// Starts a wait and returns at once. The limit stands still until the guards of all overlapping waits are dropped, or until
    /// all waits together have lasted as long as the limit; then it runs on.
    #[must_use]
    pub fn wait(&self) -> WaitGuard {
        self.0.send_modify(|clock| {
            clock.waiting += 1;
            clock.stopped_at.get_or_insert_with(Instant::now);
        });
        WaitGuard(self.clone())
    }
}

/// A wait, during which a limit stands still.
#[derive(Debug)]
pub struct WaitGuard(TimeLimit);

impl WaitGuard {
    /// Waits until the limit may stand still no longer, which is before it ends. Cancel safe.
    pub async fn passed(&self) {
        let clock = *self.0.0.borrow();
        tokio::time::sleep_until(clock.stopped_at.unwrap_or(clock.end) + clock.left_to_wait).await;
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|clock| {
            clock.waiting -= 1;
            if clock.waiting == 0
                && let Some(at) = clock.stopped_at.take()
            {
                let waited = at.elapsed().min(clock.left_to_wait);
                clock.end += waited;
                clock.left_to_wait -= waited;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn rest(seconds: u32) {
        tokio::time::sleep(SECOND * seconds).await;
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_not_counted() {
        let (limit, began) = (TimeLimit::new(10 * SECOND), Instant::now());
        let waits = async {
            rest(4).await;
            let (first, second) = (limit.wait(), limit.wait());
            rest(2).await;
            drop(first);
            rest(3).await;
            drop(second);
        };
        tokio::join!(limit.passed(), waits);
        assert_eq!(began.elapsed().as_secs(), 15, "waits at one time count once");
        assert!(limit.has_passed());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_lasts_longer_than_twice_its_limit() {
        let (limit, began) = (TimeLimit::new(10 * SECOND), Instant::now());
        rest(9).await;
        let waiting = limit.wait();
        waiting.passed().await;
        assert_eq!(began.elapsed().as_secs(), 19);
        assert!(!limit.has_passed(), "what has waited in vain can still say so");
        limit.passed().await;
        assert_eq!(began.elapsed().as_secs(), 20);
        drop(waiting);
        let _again = limit.wait();
        assert!(limit.has_passed());
    }
}
