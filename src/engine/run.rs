//! One run: its output as it arrives, its limits, and its end.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::oneshot,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    exit::{Exit, Limits},
    output::{Decoder, OutputChunk, Stream},
    process::{OurPipes, Process, StopHandle},
    tree,
    tree::StdinState,
};

/// The size of one read, which is the largest chunk.
const READ_BYTES: usize = 32 * 1024;
/// How long output that is still in the pipes is read after the whole tree has ended.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long writing to a process's input may take; a process that does not read in time receives no further input.
const SAY_TIME: Duration = Duration::from_secs(5);

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process ended by itself.
    Natural,
    /// It was stopped at its time limit.
    TimedOut,
    /// It was stopped on request.
    Cancelled,
    /// It had printed its outcome and did not exit, so it was stopped.
    Concluded,
}

/// A run that has ended together with its process tree.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How the process ended.
    pub exit: Exit,
    /// Why the run ended.
    pub ending: Ending,
    /// The end of its standard output, at most `max_kept_bytes`.
    pub stdout: Vec<u8>,
    /// Whether standard output was longer than what is kept.
    pub is_stdout_cut: bool,
    /// The end of its standard error, at most 16 KiB.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Returns whether it had printed its outcome and had to be stopped.
    pub fn is_concluded(&self) -> bool {
        self.ending == Ending::Concluded
    }
}

/// A process that was started. Dropping it kills its whole tree.
#[derive(Debug)]
pub struct ProcessRun {
    pid: i32,
    input: Option<Sender>,
    stop: StopHandle,
    ended: oneshot::Receiver<Exit>,
    exit: Option<Exit>,
    ending: Ending,
    stdout: Output,
    stderr: Output,
    limits: Limits,
    deadline: Instant,
    is_stopped: bool,
}

#[derive(Debug)]
struct Output {
    pipe: Option<Receiver>,
    decoder: Decoder,
    kept: VecDeque<u8>,
    max_kept: usize,
    is_cut: bool,
    buffer: Vec<u8>,
}

impl Output {
    fn new(stream: Stream, pipe: Receiver, limit: u32, max_kept: usize) -> Self {
        Self {
            pipe: Some(pipe),
            decoder: Decoder::new(stream, limit),
            kept: VecDeque::new(),
            max_kept,
            is_cut: false,
            buffer: Vec::new(),
        }
    }

    /// Reads once. Stays pending forever after the stream has ended. Cancel safe.
    async fn read(&mut self) -> Option<OutputChunk> {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        self.buffer.clear();
        self.buffer.reserve(READ_BYTES);
        match pipe.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => {
                self.pipe = None;
                self.decoder.finish()
            }
            Ok(_) => {
                self.kept.extend(&self.buffer);
                let over = self.kept.len().saturating_sub(self.max_kept);
                if over > 0 {
                    self.is_cut = true;
                    self.kept.drain(..over);
                }
                self.decoder.push(&self.buffer)
            }
        }
    }
}

impl ProcessRun {
    pub(super) fn new(process: Process, pipes: OurPipes, limits: Limits) -> Self {
        let Process { pid, stop, ended, .. } = process;
        let OurPipes { stdout, stderr, stdin } = pipes;
        Self {
            pid,
            input: stdin,
            stop,
            ended,
            exit: None,
            ending: Ending::Natural,
            stdout: Output::new(Stream::Stdout, stdout, limits.max_output_bytes, limits.max_kept_bytes),
            stderr: Output::new(Stream::Stderr, stderr, limits.max_output_bytes, 16 * 1024),
            deadline: Instant::now() + limits.timeout,
            limits,
            is_stopped: false,
        }
    }

    /// Returns what the process is doing about its input at this moment. Reads `/proc` on a blocking thread, because that may
    /// block for a process that hangs in the kernel.
    pub async fn attention(&self) -> StdinState {
        match &self.input {
            // Input that the process has not read yet will wake it, so it is not asking anything.
            Some(input) if rustix::io::ioctl_fionread(input).is_ok_and(|unread| unread > 0) => {
                StdinState::Elsewhere
            }
            Some(_) => {
                let pid = self.pid;
                tokio::task::spawn_blocking(move || tree::attention(pid))
                    .await
                    .unwrap_or(StdinState::Elsewhere)
            }
            None => StdinState::Elsewhere,
        }
    }

    /// Returns whether the process has a TCP connection, on which it is then most likely waiting for a response.
    pub async fn is_connected(&self) -> bool {
        let pid = self.pid;
        tokio::task::spawn_blocking(move || tree::is_connected(pid)).await.unwrap_or(false)
    }

    /// Returns what has been kept of its standard output so far.
    pub fn stdout_so_far(&mut self) -> &[u8] {
        self.stdout.kept.make_contiguous()
    }

    /// Stops the process, which has printed its complete outcome.
    pub fn conclude(&mut self) {
        self.stop(Ending::Concluded);
    }

    /// Writes to the process's input. A process that does not read is not an error: how it ends shows what became of it.
    pub async fn say(&mut self, text: &str) {
        if let Some(input) = &mut self.input
            && !matches!(tokio::time::timeout(SAY_TIME, input.write_all(text.as_bytes())).await, Ok(Ok(())))
        {
            self.input = None;
        }
    }

    /// Closes the process's input, which it reads as the end of the file.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    fn stop(&mut self, ending: Ending) {
        if !self.is_stopped {
            self.is_stopped = true;
            self.ending = ending;
            self.stop.stop(self.limits.kill_grace);
        }
    }

    /// Returns the next piece of output, or `None` once the process tree has ended and its pipes are closed or five seconds have
    /// passed; output that a process outside the tree still holds is lost then. Begins to stop the run at its time limit or when
    /// `cancel` is cancelled, and keeps returning output until it has ended. Cancel safe.
    pub async fn next(&mut self, cancel: &CancellationToken) -> Option<OutputChunk> {
        loop {
            let is_open = self.stdout.pipe.is_some() || self.stderr.pipe.is_some();
            if self.exit.is_some() && !is_open {
                return None;
            }
            let has_ended = self.exit.is_some();
            tokio::select! {
                // Dropping a branch loses nothing: reads keep what they have read, and the others only wait.
                chunk = self.stdout.read() => if chunk.is_some() { return chunk },
                chunk = self.stderr.read() => if chunk.is_some() { return chunk },
                exit = &mut self.ended, if !has_ended => {
                    self.exit = Some(exit.unwrap_or(Exit::Lost));
                    let is_done = matches!(self.exit, Some(Exit::Code(0) | Exit::Lost));
                    if !self.is_stopped && !is_done && Instant::now() >= self.deadline {
                        // The guardian stopped the run by itself. A run that exited with 0 had finished in time, and only
                        // its report is late.
                        self.ending = Ending::TimedOut;
                    }
                    self.deadline = Instant::now() + DRAIN_TIME;
                }
                () = tokio::time::sleep_until(self.deadline), if has_ended || !self.is_stopped => {
                    if has_ended {
                        // The tree has ended, but a process that is not ours still holds a pipe.
                        self.stdout.pipe = None;
                        self.stderr.pipe = None;
                    } else {
                        self.stop(Ending::TimedOut);
                    }
                }
                () = cancel.cancelled(), if !has_ended && !self.is_stopped => self.stop(Ending::Cancelled),
            }
        }
    }

    /// Returns how the run ended. To be called after [`ProcessRun::next`] has returned `None`.
    pub fn finish(self) -> Finished {
        Finished {
            exit: self.exit.unwrap_or(Exit::Lost),
            ending: self.ending,
            stdout: self.stdout.kept.into(),
            is_stdout_cut: self.stdout.is_cut,
            stderr: self.stderr.kept.into(),
        }
    }
}
