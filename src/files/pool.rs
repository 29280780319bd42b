//! The few threads that may wait for somebody else's file, so that a mount that hangs holds up neither a runtime thread nor
//! the store.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::error::{Error, Reason};

/// So many of the process' threads for file work may be at such files at a time.
const THREADS: usize = 8;

/// The files were not there in time. What was begun goes on, on its thread, and is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the files were not read or written in time; their disk may hang")]
pub struct Late;

/// See the module's documentation. Clones share the threads.
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
    /// Does the work on one of the threads. Answers within `deadline`, the wait for a thread included.
    ///
    /// # Errors
    /// [`Late`]; work that panicked counts as late.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        let permits = self.permits.clone();
        let done = async move {
            let permit = permits.acquire_owned().await.map_err(|_| Late)?;
            tokio::task::spawn_blocking(move || {
                // Given back by the thread, which may be at it for longer than anybody waits.
                let _permit = permit;
                work()
            })
            .await
            .map_err(|_| Late)
        };
        tokio::time::timeout(deadline, done).await.unwrap_or(Err(Late))
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
            assert_eq!(late.await, Err(Late));
        }
        assert_eq!(pool.run(Duration::from_millis(20), || 1).await, Err(Late), "every thread hangs");
        drop(release);
        assert_eq!(pool.run(Duration::from_secs(5), || 1).await, Ok(1));
    }
}
