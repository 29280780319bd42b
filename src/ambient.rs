//! The inputs that a process takes from its environment: the time of day and random numbers. Simulations replace both.

use std::time::SystemTime;

/// Returns the time of day, for display and storage only. Waits and ages are measured with tokio's monotonic clock instead.
pub(crate) fn time_of_day() -> SystemTime {
    #[cfg(test)]
    if let Some(time) = simulated::time_of_day() {
        return time;
    }
    SystemTime::now()
}

/// Fills a buffer with cryptographically secure random bytes.
///
/// # Errors
/// When the system cannot provide any.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(test)]
    if simulated::fill_random(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes)
}

/// The simulated environment of the current thread.
#[cfg(test)]
pub(crate) mod simulated {
    use std::{
        cell::RefCell,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use tokio::time::Instant;

    /// SplitMix64: a small generator that yields the same numbers on every platform.
    #[derive(Clone, Debug)]
    pub(crate) struct Random(pub u64);

    impl Random {
        /// Returns a number below `bound`.
        pub(crate) fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % bound.max(1)
        }

        /// Returns true with a probability of `chance` percent.
        pub(crate) fn percent(&mut self, chance: u64) -> bool {
            self.below(100) < chance
        }
    }

    struct Surroundings {
        random: Random,
        /// An instant, and the time of day at that instant as the time since 1970.
        clock: Option<(Instant, Duration)>,
    }

    thread_local! {
        static SURROUNDINGS: RefCell<Option<Surroundings>> = const { RefCell::new(None) };
    }

    /// Starts a simulation on this thread.
    pub(crate) fn begin(seed: u64) {
        SURROUNDINGS.set(Some(Surroundings { random: Random(seed), clock: None }));
    }

    /// Sets the simulated time of day to this time since 1970; it advances with the runtime's clock.
    pub(crate) fn set_clock(time: Duration) {
        SURROUNDINGS.with_borrow_mut(|now| {
            if let Some(now) = now {
                now.clock = Some((Instant::now(), time));
            }
        });
    }

    /// Ends the simulation on this thread.
    pub(crate) fn end() {
        SURROUNDINGS.set(None);
    }

    pub(super) fn time_of_day() -> Option<SystemTime> {
        SURROUNDINGS.with_borrow(|now| {
            let (since, time) = now.as_ref()?.clock?;
            Some(UNIX_EPOCH + time + since.elapsed())
        })
    }

    pub(super) fn fill_random(bytes: &mut [u8]) -> bool {
        SURROUNDINGS.with_borrow_mut(|now| {
            let Some(now) = now else { return false };
            bytes.fill_with(|| u8::try_from(now.random.below(256)).unwrap_or_default());
            true
        })
    }
}
