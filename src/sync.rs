//! Small things that every room does with locks and time, the same way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Locks a mutex. What it protects is whole between any two statements of ours, so that a panic of another holder, which is an answer of
/// its own, is no reason to fail here too.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `time`; for ever where there is none. Cancel safe.
pub async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_panic_of_another_holder_leaves_the_value() {
        let mutex = Mutex::new(1);
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut value = lock(&mutex);
            *value = 2;
            panic!("while it is held");
        }));
        assert!(held.is_err() && mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_it_waits_for_ever() {
        let year = Duration::from_secs(365 * 24 * 3600);
        assert!(tokio::time::timeout(year, sleep_until(None)).await.is_err());
        let until = Instant::now() + Duration::from_secs(1);
        sleep_until(Some(until)).await;
        assert_eq!(Instant::now(), until);
    }
}
