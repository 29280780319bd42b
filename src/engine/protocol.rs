//! The messages between gateway and guardian on their socket pair: frames of a length and JSON. The far ends of a
//! process's pipes are sent along with a start request.

use std::{
    collections::BTreeMap,
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use bytes::{Buf, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

/// No valid frame is longer, because arguments and environment together have to fit the kernel's own limit.
const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;
/// Standard output, standard error, and standard input if the process has one.
const MAX_FDS_PER_START: usize = 3;

/// Requests from the gateway.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Starts a process; its ends of the pipes are sent along: output, errors, and input if it has one.
    Start {
        run: u64,
        program: Vec<String>,
        environment: BTreeMap<String, String>,
        directory: String,
        has_input: bool,
        /// When the guardian stops the run by itself, whatever has become of the gateway's own request.
        limit: Option<ProcessTimeLimit>,
    },
    /// Stops a run: TERM to its whole tree, KILL after the grace period.
    Stop { run: u64, grace_ms: u64 },
}

/// The time limit of a run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ProcessTimeLimit {
    pub(super) timeout_ms: u64,
    /// The time between TERM and KILL.
    pub(super) grace_ms: u64,
}

/// Reports from the guardian.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The process was started.
    Started { run: u64, pid: i32 },
    /// It could not be started.
    NotStarted { run: u64, error: String },
    /// The process has ended, and so has its tree, apart from what KILL could not end in time. `strays` is the
    /// number of processes that outlived it.
    Ended { run: u64, code: Option<i32>, signal: Option<i32>, strays: u32 },
}

/// A process's ends of its pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) stdin: Option<OwnedFd>,
}

/// One end of the socket pair.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    received: BytesMut,
    fds: VecDeque<OwnedFd>,
}

impl Channel {
    /// Wraps a connected stream socket.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)?, received: BytesMut::new(), fds: VecDeque::new() })
    }

    /// Sends a message with file descriptors. Not cancel safe: a part of it may have been sent.
    pub(super) async fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.stream, message, fds).await
    }

    /// Returns the next message, or `None` when the other side is gone. Cancel safe.
    pub(super) async fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        loop {
            if self.received.len() >= 4 {
                let length = u32::from_le_bytes([
                    self.received[0], self.received[1], self.received[2], self.received[3],
                ]);
                let length = length as usize;
                if length > MAX_FRAME_BYTES {
                    return Err(io::Error::other("a frame is too long"));
                }
                if self.received.len() >= 4 + length {
                    self.received.advance(4);
                    let frame = self.received.split_to(length);
                    return serde_json::from_slice(&frame).map(Some).map_err(io::Error::other);
                }
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes the file descriptors that were received with a start request.
    pub(super) fn take_fds(&mut self, has_input: bool) -> io::Result<Pipes> {
        let mut take =
            || self.fds.pop_front().ok_or_else(|| io::Error::other("a start came without its pipes"));
        Ok(Pipes { stdout: take()?, stderr: take()?, stdin: has_input.then(&mut take).transpose()? })
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let Self { stream, received, fds } = self;
        stream
            .async_io(Interest::READABLE, || {
                let mut bytes = [0; 16 * 1024];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let slices = &mut [IoSliceMut::new(&mut bytes)];
                let got = recvmsg(stream.as_fd(), slices, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        fds.extend(rights);
                    }
                }
                received.extend_from_slice(&bytes[..got]);
                Ok(got)
            })
            .await
    }
}

async fn send(stream: &UnixStream, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let frame = [&length.to_le_bytes()[..], &body].concat();
    let mut sent = 0;
    while sent < frame.len() {
        sent += stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS_PER_START))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                // The descriptors are sent once, with the first bytes.
                if sent == 0 && !fds.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(fds));
                }
                let slices = &[IoSlice::new(&frame[sent..])];
                Ok(sendmsg(stream.as_fd(), slices, &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
    }
    Ok(())
}
