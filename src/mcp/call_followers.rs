//! Which jobs have a client's call waiting for them, and for how long a job continues after that call was cut off.
//!
//! In the protocol version without sessions, a closed stream is the only sign of a cancelled call, and the only sign of
//! a lost connection. A client that has given its call a key can send it again, and gets time to do so.
//! (`mcp_messages::a_cut_call_is_sent_again_with_its_key`)

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::sync::lock;

/// A client that was cut off has this long to come back before its job is cancelled.
const RETURN_TIME: Duration = Duration::from_secs(60);

/// The number of calls that wait for each job.
#[derive(Clone, Debug, Default)]
pub(super) struct CallFollowers(Arc<Mutex<HashMap<String, usize>>>);

/// Counts a call as waiting for a job for as long as this lives.
#[derive(Debug)]
pub(super) struct FollowerGuard {
    followed: CallFollowers,
    job_id: String,
}

impl CallFollowers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        lock(&self.0)
    }

    /// Counts a call as waiting for a job until the returned guard is dropped.
    pub(super) fn follow(&self, job_id: &str) -> FollowerGuard {
        *self.lock().entry(job_id.to_owned()).or_default() += 1;
        FollowerGuard { followed: self.clone(), job_id: job_id.to_owned() }
    }
}

impl FollowerGuard {
    /// Returns when the client of a call that was cut off has not come back in time. Where another call waits for the
    /// job by then, that call decides: this one is no longer counted and never returns.
    pub(super) async fn wait_until_abandoned(self) {
        tokio::time::sleep(RETURN_TIME).await;
        let is_alone = self.followed.lock().get(&self.job_id).is_none_or(|calls| *calls == 1);
        drop(self);
        if !is_alone {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for FollowerGuard {
    fn drop(&mut self) {
        let mut followed = self.followed.lock();
        if let Some(calls) = followed.get_mut(&self.job_id) {
            *calls -= 1;
            if *calls == 0 {
                followed.remove(&self.job_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_calls_that_are_cut_off_the_last_one_decides() {
        let followed = CallFollowers::default();
        let mut first = std::pin::pin!(followed.follow("job").wait_until_abandoned());
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut first).await.is_err());
        let second = followed.follow("job").wait_until_abandoned();
        let second = async { tokio::time::timeout(RETURN_TIME * 2, second).await };
        let first = async { tokio::time::timeout(RETURN_TIME * 2, &mut first).await };
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_err() && second.is_ok(), "{first:?} {second:?}");
        assert!(followed.lock().is_empty());
    }
}
