//! A process that the guardian has started: its pipes, and the handle that ends it.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::unix::pipe::{Receiver, Sender},
    sync::{mpsc, oneshot},
};

use super::{
    exit::Exit,
    guardian_connection::{GuardianConnection, Outgoing},
    protocol::Request,
};
use crate::task::Group;

/// A process that was started, with the gateway's ends of its pipes. Dropping it kills its whole tree.
#[derive(Debug)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// The gateway's ends of its pipes, until they are taken.
    pub(super) pipes: Option<OurPipes>,
    pub(super) stop: StopHandle,
    pub(super) ended: oneshot::Receiver<Exit>,
}

impl Process {
    /// Returns the gateway's ends of its pipes the first time, and `None` afterwards.
    pub fn take_pipes(&mut self) -> Option<OurPipes> {
        self.pipes.take()
    }
}

/// The gateway's ends of a process's pipes.
#[derive(Debug)]
pub struct OurPipes {
    /// Its standard output.
    pub stdout: Receiver,
    /// Its standard error.
    pub stderr: Receiver,
    /// Its standard input; `None` if that is `/dev/null`.
    pub stdin: Option<Sender>,
}

/// Stops a run when asked to, and when dropped before the run has ended.
#[derive(Debug)]
pub(super) struct StopHandle {
    pub(super) run: u64,
    pub(super) link: Arc<GuardianConnection>,
}

impl StopHandle {
    /// Sends TERM to the whole tree, and KILL after `grace`.
    pub(super) fn stop(&self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Stop { run: self.run, grace_ms };
        let outgoing = Outgoing { request, fds: Vec::new() };
        if let Err(mpsc::error::TrySendError::Full(outgoing)) = self.link.requests.try_send(outgoing) {
            // A full queue means that hundreds of starts wait; the stop must not be lost, so it waits too.
            let requests = self.link.requests.clone();
            Group::new("supervisor").spawn("late_stop", async move {
                let _lost_with_the_guardian = requests.send(outgoing).await;
            });
        }
    }
}

impl Drop for StopHandle {
    fn drop(&mut self) {
        if self.link.runs().contains_key(&self.run) {
            self.stop(Duration::ZERO);
        }
    }
}
