//! Small things that every room does with locks and time, the same way.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Locks a mutex. What it protects is whole between any two statements of ours, so that a panic of another holder, which is an answer of
/// its own, is no reason to fail here too.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `time`; for ever where there is none. Cancel safe.
pub(crate) async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Returns the pause after a failed attempt, counted from 1: `first`, then twice as long each time up to `longest`, a quarter more or less so
/// that many who failed together do not come back together.
pub(crate) fn back_off(attempt: u32, first: Duration, longest: Duration) -> Duration {
    let pause = first.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(longest);
    let mut byte = [0u8];
    let jitter = getrandom::fill(&mut byte).map_or(0.5, |()| f64::from(byte[0]) / 255.0);
    pause.mul_f64(0.75 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        for (attempt, right) in [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (u32::MAX, 60)] {
            let pause = back_off(attempt, first, longest).as_secs_f64() / f64::from(right);
            assert!((0.74..1.26).contains(&pause), "{attempt}: {pause}");
        }
    }

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
