//! A few threads that may block on files of others, so that a mount that hangs blocks neither a runtime thread nor the store.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::interrupt::Interrupt;
use crate::error::{Error, Reason};

/// How many of the blocking threads of the process may work on such files at a time.
const THREADS: usize = 8;

/// The deadline passed. Work that has begun continues on its thread, and its result is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the files were not read or written in time; their disk may hang")]
pub struct DeadlineElapsed;

/// See the documentation of the module. Clones share the threads.
#[derive(Clone, Debug)]
pub struct Pool {
    permits: Arc<Semaphore>,
}

impl Default for Pool {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(THREADS)) }
    }
}

impl Pool {
    /// Runs `work` on one of the threads and returns within `deadline`, which includes the wait for a thread.
    ///
    /// # Errors
    /// [`DeadlineElapsed`], also if the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DeadlineElapsed> {
        let permits = self.permits.clone();
        let done = async move {
            let permit = permits.acquire_owned().await.map_err(|_| DeadlineElapsed)?;
            tokio::task::spawn_blocking(move || {
                // The permit is released by the thread, which may work for longer than anybody waits.
                let _permit = permit;
                work()
            })
            .await
            .map_err(|_| DeadlineElapsed)
        };
        tokio::time::timeout(deadline, done).await.unwrap_or(Err(DeadlineElapsed))
    }
}

impl Pool {
    /// The same for work that can fail.
    ///
    /// # Errors
    /// Those of the work; [`Reason::ToolFailed`] where it was late.
    pub async fn run_fallible<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
    ) -> crate::error::Result<T> {
        let done = self.run(deadline, work).await;
        done.map_err(|late| Error::new(Reason::ToolFailed, late.to_string()))?
    }
}

impl Pool {
    /// As [`Pool::run_fallible`], for work that checks an [`Interrupt`], which is set when `stop` is ready, `deadline` has
    /// passed or this future is dropped. After `stop`, waits at most `grace` longer, within `deadline`, and still returns the
    /// result if the work succeeds. Work that ignores the interrupt continues on its thread.
    ///
    /// # Errors
    /// Those of the work; [`Reason::ToolFailed`] after `deadline`; after `stop` its error, with the message of the work's.
    pub(crate) async fn run_interruptible<T: Send + 'static>(
        &self,
        deadline: Duration,
        grace: Duration,
        stop: impl Future<Output = Error>,
        work: impl FnOnce(&Interrupt) -> crate::error::Result<T> + Send + 'static,
    ) -> crate::error::Result<T> {
        let interrupt = InterruptOnDrop(Interrupt::default());
        let told = interrupt.0.clone();
        let mut working = std::pin::pin!(self.run_fallible(deadline, move || work(&told)));
        let stopped = tokio::select! {
            // What is done counts. Cancel safe: the work goes on until it is interrupted.
            biased;
            done = &mut working => return done,
            stopped = stop => stopped,
        };
        interrupt.0.interrupt();
        match tokio::time::timeout(grace, working).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                Err(Error::new(stopped.reason(), format!("{}; {}", stopped.message(), error.message())))
            }
            Err(_) => Err(stopped),
        }
    }
}

struct InterruptOnDrop(Interrupt);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_hangs_is_given_up_and_keeps_its_thread_only() {
        let pool = Pool::default();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        for _ in 0..THREADS {
            let wait = wait.clone();
            let late = pool.run(Duration::from_millis(20), move || {
                let _released = wait.lock().map(|wait| wait.recv());
            });
            assert_eq!(late.await, Err(DeadlineElapsed));
        }
        assert_eq!(
            pool.run(Duration::from_millis(20), || 1).await,
            Err(DeadlineElapsed),
            "every thread hangs"
        );
        drop(release);
        assert_eq!(pool.run(Duration::from_secs(5), || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn work_that_takes_its_time_is_interrupted() {
        let pool = Pool::default();
        let (cleaned, was_cleaned) = std::sync::mpsc::channel();
        let work = move |interrupt: &Interrupt| -> crate::error::Result<()> {
            let error = loop {
                match interrupt.check() {
                    Ok(()) => std::thread::yield_now(),
                    Err(error) => break error,
                }
            };
            cleaned.send(()).unwrap();
            Err(Error::new(Reason::ToolFailed, error.to_string()))
        };
        let hour = Duration::from_secs(3600);
        let stop = async { Error::cancelled() };
        let stopped = pool.run_interruptible(hour, hour, stop, work.clone()).await.unwrap_err();
        assert_eq!(stopped.reason(), Reason::Cancelled);
        assert_eq!(stopped.message(), "the job was cancelled; it was interrupted");
        was_cleaned.recv().unwrap();
        // Nobody waits any more, or the work is late.
        let never = std::future::pending();
        let late = pool.run_interruptible(Duration::from_millis(20), hour, never, work);
        assert_eq!(late.await.unwrap_err().reason(), Reason::ToolFailed);
        was_cleaned.recv().unwrap();
        let done = pool.run_interruptible(hour, hour, std::future::pending(), |_| Ok(1)).await;
        assert_eq!(done.unwrap(), 1);
    }
}
