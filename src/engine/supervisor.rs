//! The gateway's side of the guardian: starts it, asks it for runs, hears how they end.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{
    net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitOptions, getpid, set_child_subreaper, wait},
};
use tokio::{
    net::unix::pipe::{Receiver, Sender},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{
    protocol::{Channel, Report, Request, TimeLimit},
    run::{Exit, Limits, Run},
    tree,
};
use crate::{
    descriptors,
    error::{Error, Reason, Result},
    files::started_umask,
    task::Group,
};

/// Requests that wait for the guardian; a start waits for a place, so that they stay few.
const MAX_WAITING_REQUESTS: usize = 256;
/// How often the death of a lost guardian's processes is looked for, and for how long at most.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const ADOPTION_DEADLINE: Duration = Duration::from_secs(5);
/// Tells the guardian the limit of open files that engines are to have.
pub(super) const OPEN_FILES_VARIABLE: &str = "CONDUCTOR_OPEN_FILES";
/// Tells the guardian the umask that engines are to have.
pub(super) const UMASK_VARIABLE: &str = "CONDUCTOR_UMASK";
/// A guardian that takes longer than this to start a process is taken for lost.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// The guardian ends a run by itself when nobody has asked it to for so long after the run's time was over.
const OVERTIME: Duration = Duration::from_millis(250);

/// What to run.
#[derive(Clone, Debug)]
pub struct Command {
    /// Program and arguments; no shell is involved.
    pub program: Vec<String>,
    /// All of the process' environment.
    pub environment: BTreeMap<String, String>,
    /// Its working directory, absolute.
    pub directory: std::path::PathBuf,
    /// Whether it is spoken to; otherwise its standard input is `/dev/null`.
    pub has_input: bool,
}

/// A process that was started, with our ends of its pipes. Dropping it kills its whole tree.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Our ends of its pipes, until they are taken.
    pub(super) pipes: Option<OurPipes>,
    pub(super) stop: StopHandle,
    pub(super) ended: oneshot::Receiver<Exit>,
}

impl Process {
    /// Our ends of its pipes; once.
    pub fn take_pipes(&mut self) -> Option<OurPipes> {
        self.pipes.take()
    }
}

/// Our ends of a process' pipes.
#[derive(Debug)]
pub struct OurPipes {
    /// What it prints.
    pub stdout: Receiver,
    /// What it prints beside that.
    pub stderr: Receiver,
    /// What it is told; `None` where it is not spoken to.
    pub stdin: Option<Sender>,
}

/// Pipes for a process: our ends, and its ends in the order in which they travel.
fn open_pipes(has_input: bool) -> io::Result<(OurPipes, Vec<OwnedFd>)> {
    let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut theirs = vec![their_stdout, their_stderr];
    let mut stdin = None;
    if has_input {
        let (their_stdin, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        theirs.push(their_stdin);
        stdin = Some(Sender::from_owned_fd(ours)?);
    }
    let ours = OurPipes {
        stdout: Receiver::from_owned_fd(stdout)?,
        stderr: Receiver::from_owned_fd(stderr)?,
        stdin,
    };
    Ok((ours, theirs))
}

struct Outgoing {
    request: Request,
    fds: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Waiting {
    started: Option<oneshot::Sender<Result<i32, String>>>,
    ended: Option<oneshot::Sender<Exit>>,
}

/// One connection to one guardian. When it breaks, its runs are lost and the next start makes a new one.
#[derive(Debug)]
struct Link {
    requests: mpsc::Sender<Outgoing>,
    socket: OwnedFd,
    /// Children that this process had before the guardian: none of its.
    earlier_children: Vec<i32>,
    /// The guardian was asked to end.
    is_closing: AtomicBool,
    /// The guardian is gone, and nothing of it is left.
    is_lost: CancellationToken,
    runs: Mutex<HashMap<u64, Waiting>>,
}

impl Link {
    fn runs(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts engines through the guardian. Clones share it.
#[derive(Clone, Debug)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    guardian_program: Vec<String>,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    next_run: Mutex<u64>,
    tasks: Group,
}

impl Supervisor {
    /// Starts the guardian: `guardian_program` is the command line that runs [`super::guardian::main`].
    ///
    /// # Errors
    /// [`Reason::EngineNotStarted`] when it cannot be started.
    pub async fn start_guardian(guardian_program: Vec<String>, tasks: Group) -> Result<Self> {
        // Should the guardian die, its engines become our children, to be ended and reaped here.
        set_child_subreaper(Some(getpid())).map_err(Error::internal)?;
        let inner =
            Inner { guardian_program, link: tokio::sync::Mutex::default(), next_run: Mutex::new(1), tasks };
        let supervisor = Self { inner: Arc::new(inner) };
        supervisor.link().await?;
        Ok(supervisor)
    }

    /// Starts a run. Answers once the process exists.
    ///
    /// # Errors
    /// [`Reason::EngineNotStarted`] with what the system said; [`Reason::SupervisorLost`].
    pub async fn run(&self, command: Command, limits: Limits) -> Result<Run> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let limit = TimeLimit {
            timeout_ms: milliseconds(limits.timeout.saturating_add(OVERTIME)),
            grace_ms: milliseconds(limits.kill_grace),
        };
        let mut process = self.begin(command, Some(limit)).await?;
        let pipes = process.take_pipes().ok_or_else(lost)?;
        Ok(Run::new(process, pipes, limits))
    }

    /// Starts a process whose pipes the caller serves by itself. Dropping it kills its whole tree.
    ///
    /// # Errors
    /// As [`Supervisor::run`].
    pub async fn start(&self, command: Command) -> Result<Process> {
        self.begin(command, None).await
    }

    async fn begin(&self, command: Command, limit: Option<TimeLimit>) -> Result<Process> {
        let link = self.link().await?;
        let (pipes, theirs) = open_pipes(command.has_input).map_err(|error| {
            let message = format!("no pipes for the process: {error}; try again");
            Error::new(Reason::EngineNotStarted, message)
        })?;
        let run = {
            let mut next_run = self.inner.next_run.lock().unwrap_or_else(PoisonError::into_inner);
            *next_run += 1;
            *next_run
        };
        let program_name = command.program.first().cloned().unwrap_or_default();
        let request = Request::Start {
            run,
            program: command.program,
            environment: command.environment,
            directory: command.directory.to_string_lossy().into_owned(),
            has_input: command.has_input,
            limit,
        };
        let (started_sender, started) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        link.runs().insert(run, Waiting { started: Some(started_sender), ended: Some(ended_sender) });
        // From here on the run is stopped whatever happens to this future.
        let stop = StopHandle { run, link: link.clone() };
        if link.requests.send(Outgoing { request, fds: theirs }).await.is_err() {
            return Err(lost());
        }
        match tokio::time::timeout(START_DEADLINE, started).await {
            Ok(Ok(Ok(pid))) => {
                tracing::debug!(pid, run, "process started");
                Ok(Process { pid, pipes: Some(pipes), stop, ended })
            }
            Ok(Ok(Err(error))) => Err(Error::new(
                Reason::EngineNotStarted,
                format!("`{program_name}` could not be started: {error}"),
            )),
            Ok(Err(_)) | Err(_) => Err(lost()),
        }
    }

    async fn link(&self) -> Result<Arc<Link>> {
        let mut current = self.inner.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_lost.is_cancelled()) {
            return Ok(link.clone());
        }
        if current.take().is_some() {
            tracing::error!("the guardian was lost; a new one is started");
        }
        let link = self.connect().map_err(|error| {
            Error::new(Reason::EngineNotStarted, "the engines' supervisor could not be started; try again")
                .because(error)
        })?;
        *current = Some(link.clone());
        Ok(link)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts the guardian")]
    fn connect(&self) -> io::Result<Arc<Link>> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let earlier_children = tree::children(getpid().as_raw_nonzero().get());
        let (program, arguments) =
            self.inner.guardian_program.split_first().ok_or_else(|| io::Error::other("no guardian"))?;
        std::process::Command::new(program)
            .args(arguments)
            // It needs nothing else of ours, and the keys of models least of all.
            .env_clear()
            .envs(descriptors::started_with().map(|limit| (OPEN_FILES_VARIABLE, limit.to_string())))
            .envs(started_umask().map(|umask| (UMASK_VARIABLE, umask.to_string())))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // A group of its own: Ctrl-C in a terminal is for the gateway.
            .process_group(0)
            .spawn()?;
        let socket = ours.try_clone()?;
        let channel = Channel::new(ours.try_clone()?)?;
        let sender = Channel::new(ours)?;
        let (requests, mut outgoing) = mpsc::channel::<Outgoing>(MAX_WAITING_REQUESTS);
        let link = Arc::new(Link {
            requests,
            socket,
            earlier_children,
            is_closing: AtomicBool::new(false),
            is_lost: CancellationToken::new(),
            runs: Mutex::default(),
        });
        self.inner.tasks.spawn("guardian_requests", {
            let is_lost = link.is_lost.clone();
            async move {
                loop {
                    let outgoing = tokio::select! {
                        // A request that is lost here is answered by the loss of its run.
                        outgoing = outgoing.recv() => outgoing,
                        () = is_lost.cancelled() => return,
                    };
                    let Some(Outgoing { request, fds }) = outgoing else { return };
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    if sender.send(&request, &fds).await.is_err() {
                        return;
                    }
                }
            }
        });
        self.inner.tasks.spawn("guardian_reports", read_reports(channel, link.clone()));
        Ok(link)
    }

    /// Ends the connection: the guardian kills what is left and ends; every run is lost.
    pub async fn close(&self) {
        let Some(link) = self.inner.link.lock().await.take() else { return };
        link.is_closing.store(true, Ordering::Relaxed);
        if let Err(error) = shutdown(&link.socket, Shutdown::Write) {
            tracing::warn!(%error, "the guardian could not be told to end");
        }
    }
}

async fn read_reports(mut channel: Channel, link: Arc<Link>) {
    while let Ok(Some(report)) = channel.receive::<Report>().await {
        match report {
            Report::Started { run, pid } => {
                let started = link.runs().get_mut(&run).and_then(|waiting| waiting.started.take());
                answer(started, Ok(pid));
            }
            Report::NotStarted { run, error } => {
                let started = link.runs().remove(&run).and_then(|mut waiting| waiting.started.take());
                answer(started, Err(error));
            }
            Report::Ended { run, code, signal, strays } => {
                if strays > 0 {
                    tracing::warn!(run, strays, "processes outlived their engine and were ended");
                }
                let ended = link.runs().remove(&run).and_then(|mut waiting| waiting.ended.take());
                answer(ended, Exit::of(code, signal));
            }
        }
    }
    // Before a new guardian can be started, and before the runs are told: nothing of this one may be left.
    if !link.is_closing.load(Ordering::Relaxed) {
        tracing::error!("the guardian was lost; its engines are ended");
    }
    end_adopted_children(&link.earlier_children).await;
    link.is_lost.cancel();
    // Dropping the senders tells every run that it is lost.
    link.runs().clear();
}

/// Nobody waits any more when a run was given up: that is fine.
fn answer<T>(sender: Option<oneshot::Sender<T>>, value: T) {
    if let Some(sender) = sender {
        let _given_up = sender.send(value);
    }
}

fn lost() -> Error {
    Error::new(Reason::SupervisorLost, "the engines' supervisor was lost and is started again; try again")
}

/// The guardian is gone: what it had started became our children, in the moment of its end or a little later.
/// Ends them all, but for the children that were here before it, and reaps them.
async fn end_adopted_children(earlier_children: &[i32]) {
    let own_pid = getpid().as_raw_nonzero().get();
    let until = tokio::time::Instant::now() + ADOPTION_DEADLINE;
    let mut quiet_looks = 0;
    while quiet_looks < 3 && tokio::time::Instant::now() < until {
        let adopted: Vec<i32> =
            tree::children(own_pid).into_iter().filter(|pid| !earlier_children.contains(pid)).collect();
        quiet_looks = if adopted.is_empty() { quiet_looks + 1 } else { 0 };
        for pid in adopted.iter().flat_map(|pid| tree::descendants(*pid)) {
            tree::send(pid, Signal::KILL);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        while let Ok(Some((pid, _))) = wait(WaitOptions::NOHANG) {
            tracing::debug!(pid = pid.as_raw_nonzero().get(), "reaped");
        }
    }
}

/// Stops a run when asked to, and when dropped before the run has ended.
#[derive(Debug)]
pub(super) struct StopHandle {
    run: u64,
    link: Arc<Link>,
}

impl StopHandle {
    /// TERM to the whole tree, KILL after `grace`.
    pub(super) fn stop(&self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Stop { run: self.run, grace_ms };
        let outgoing = Outgoing { request, fds: Vec::new() };
        if let Err(mpsc::error::TrySendError::Full(outgoing)) = self.link.requests.try_send(outgoing) {
            // Full means that hundreds of starts wait; the stop must not be lost, so it waits its turn.
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
