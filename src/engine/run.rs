//! One run: its output as it comes, its limits, its end.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::oneshot,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    output::{Chunk, Decoder, Stream},
    supervisor::{OurPipes, Process, StopHandle},
    tree,
};

/// The size of one read, which is the largest chunk.
const READ_BYTES: usize = 32 * 1024;
/// Output that is still in the pipes when the whole tree has ended is read within this time.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A process that reads takes what it is told within this time; one that does not is told nothing more.
const SAY_TIME: Duration = Duration::from_secs(5);

/// What a run may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest time it may take.
    pub timeout: Duration,
    /// The time between TERM and KILL.
    pub kill_grace: Duration,
    /// Output beyond this many bytes a stream is read and dropped.
    pub max_output_bytes: u32,
    /// How much of the end of standard output is kept for its reader, in bytes, beyond the limit too.
    pub max_kept_bytes: usize,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Unknown: the supervisor was lost, and the process with it.
    Lost,
}

impl Exit {
    pub(super) fn of(code: Option<i32>, signal: Option<i32>) -> Self {
        match (code, signal) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Lost,
        }
    }
}

/// What a process that is spoken to does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// It sleeps in a read of its standard input: it asks something, or waits to be told something.
    Reads,
    /// It sleeps until something happens, has no child, and nothing says what it waits for.
    Idles,
    /// It is busy, or waits for something else.
    Elsewhere,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process ended.
    Natural,
    /// It was stopped at its time limit.
    TimedOut,
    /// It was stopped because somebody asked for it.
    Cancelled,
    /// It had said its outcome and did not end; it was ended.
    Concluded,
}

/// A run that is over; nothing of its tree is left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How the process ended.
    pub exit: Exit,
    /// Why.
    pub ending: Ending,
    /// The end of its standard output, at most `max_kept_bytes`.
    pub stdout: Vec<u8>,
    /// Whether standard output was longer than what is kept.
    pub is_stdout_cut: bool,
    /// The end of its standard error, at most 16 KiB.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Whether it had said its outcome and had to be ended.
    pub fn is_concluded(&self) -> bool {
        self.ending == Ending::Concluded
    }
}

/// A process that was started. Dropping it kills its whole tree.
#[derive(Debug)]
pub struct Run {
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

    /// One read. Pending for ever once the output has ended. Cancel safe.
    async fn read(&mut self) -> Option<Chunk> {
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

impl Run {
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

    /// What the process does about its input in this moment. `/proc` is read off the runtime: it answers for a process that may
    /// hang in the kernel.
    pub async fn attention(&self) -> Attention {
        match &self.input {
            // What it was told and has not read yet: it is woken, and asks nothing.
            Some(input) if rustix::io::ioctl_fionread(input).is_ok_and(|unread| unread > 0) => {
                Attention::Elsewhere
            }
            Some(_) => {
                let pid = self.pid;
                tokio::task::spawn_blocking(move || tree::attention(pid))
                    .await
                    .unwrap_or(Attention::Elsewhere)
            }
            None => Attention::Elsewhere,
        }
    }

    /// Whether the process has a TCP connection: what it waits for is most likely an answer on that.
    pub async fn is_connected(&self) -> bool {
        let pid = self.pid;
        tokio::task::spawn_blocking(move || tree::is_connected(pid)).await.unwrap_or(false)
    }

    /// What is kept of its standard output by now.
    pub fn stdout_so_far(&mut self) -> &[u8] {
        self.stdout.kept.make_contiguous()
    }

    /// Ends the process, which has said all that it had to say.
    pub fn conclude(&mut self) {
        self.stop(Ending::Concluded);
    }

    /// Tells the process something. One that does not read is no error: its end says what became of it.
    pub async fn say(&mut self, text: &str) {
        if let Some(input) = &mut self.input
            && !matches!(tokio::time::timeout(SAY_TIME, input.write_all(text.as_bytes())).await, Ok(Ok(())))
        {
            self.input = None;
        }
    }

    /// Nothing more will be said: the process reads the end of its input.
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

    /// The next piece of output; `None` when the run is over and all its output was read. Stops the run at its
    /// time limit and when `cancel` is cancelled. Cancel safe.
    pub async fn next(&mut self, cancel: &CancellationToken) -> Option<Chunk> {
        loop {
            let is_open = self.stdout.pipe.is_some() || self.stderr.pipe.is_some();
            if self.exit.is_some() && !is_open {
                return None;
            }
            let has_ended = self.exit.is_some();
            tokio::select! {
                // Losing a branch loses nothing: reads keep what they read, the rest only waits.
                chunk = self.stdout.read() => if chunk.is_some() { return chunk },
                chunk = self.stderr.read() => if chunk.is_some() { return chunk },
                exit = &mut self.ended, if !has_ended => {
                    self.exit = Some(exit.unwrap_or(Exit::Lost));
                    let is_done = matches!(self.exit, Some(Exit::Code(0) | Exit::Lost));
                    if !self.is_stopped && !is_done && Instant::now() >= self.deadline {
                        // The guardian was first: nobody asked it to. One that is done was done before, and is only heard of late.
                        self.ending = Ending::TimedOut;
                    }
                    self.deadline = Instant::now() + DRAIN_TIME;
                }
                () = tokio::time::sleep_until(self.deadline), if has_ended || !self.is_stopped => {
                    if has_ended {
                        // The tree has ended and yet a pipe is held: by a process that we do not own.
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

    /// How it ended. To be called after [`Run::next`] answered `None`.
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
