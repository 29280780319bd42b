//! One connection to one guardian: the requests on their way to it, and the runs that wait for its reports.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, atomic::AtomicBool},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{exit::Exit, protocol::Request};
use crate::{error::Result, sync::lock};

pub(super) struct Outgoing {
    pub(super) request: Request,
    pub(super) fds: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct RunWaiters {
    pub(super) started: Option<oneshot::Sender<Result<i32, String>>>,
    pub(super) ended: Option<oneshot::Sender<Exit>>,
}

/// A connection to one guardian. When it breaks, its runs are lost and the next start opens a new one.
#[derive(Debug)]
pub(super) struct GuardianConnection {
    pub(super) requests: mpsc::Sender<Outgoing>,
    pub(super) socket: OwnedFd,
    /// Children that this process had before it started the guardian, which are not the guardian's.
    pub(super) earlier_children: Vec<i32>,
    /// Set when the guardian was asked to end.
    pub(super) is_closing: AtomicBool,
    /// Cancelled when the guardian is gone and nothing of it is left.
    pub(super) is_lost: CancellationToken,
    pub(super) runs: Mutex<HashMap<u64, RunWaiters>>,
}

impl GuardianConnection {
    pub(super) fn runs(&self) -> MutexGuard<'_, HashMap<u64, RunWaiters>> {
        lock(&self.runs)
    }
}
