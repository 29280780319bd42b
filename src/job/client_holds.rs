//! How many clients hold a job.

/// The clients that hold a job which has not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientHolds {
    holders: usize,
    /// Someone submitted or joined the job without a guard, so it goes on whoever leaves.
    is_wanted: bool,
}

impl ClientHolds {
    pub(super) fn join(&mut self, is_held: bool) {
        match is_held {
            true => self.holders += 1,
            false => self.is_wanted = true,
        }
    }

    /// Records that one holder has left. Returns whether the job has to be cancelled.
    pub(super) fn leave(&mut self) -> bool {
        self.holders -= 1;
        self.holders == 0 && !self.is_wanted
    }
}
