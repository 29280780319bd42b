//! The gateway's side of the guardian: starts it, sends it requests, and receives its reports.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Stdio,
    sync::{
        Arc, Mutex,
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
    exit::{Exit, Limits},
    guardian_connection::{GuardianConnection, Outgoing, RunWaiters},
    process::{OurPipes, Process, StopHandle},
    protocol::{Channel, ProcessTimeLimit, Report, Request},
    run::ProcessRun,
    tree,
};
use crate::{
    descriptors,
    error::{Error, Reason, Result},
    files::started_umask,
    sync::lock,
    task::Group,
};

/// The capacity of the queue of requests to the guardian; a start waits while it is full.
const MAX_WAITING_REQUESTS: usize = 256;
/// How often the processes of a lost guardian are looked for, and for how long at most.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const ADOPTION_DEADLINE: Duration = Duration::from_secs(5);
/// The environment variable that passes the limit of open files for engines to the guardian.
pub(super) const OPEN_FILES_VARIABLE: &str = "CONDUCTOR_OPEN_FILES";
/// The environment variable that passes the umask for engines to the guardian.
pub(super) const UMASK_VARIABLE: &str = "CONDUCTOR_UMASK";
/// A guardian that takes longer than this to start a process is considered lost.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long after a run's time limit the guardian stops the run by itself if nobody has asked for it.
const OVERTIME: Duration = Duration::from_millis(250);

/// A process to start.
#[derive(Clone, Debug)]
pub struct ProcessCommand {
    /// Program and arguments; no shell is involved.
    pub program: Vec<String>,
    /// The complete environment of the process.
    pub environment: BTreeMap<String, String>,
    /// Its working directory, absolute.
    pub directory: std::path::PathBuf,
    /// Whether its standard input is a pipe; otherwise it is `/dev/null`.
    pub has_input: bool,
}

/// Opens the pipes of a process. Returns the gateway's ends, and the process's ends in the order in which they are sent.
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

/// Starts engines through the guardian. Clones share it.
#[derive(Clone, Debug)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    guardian_program: Vec<String>,
    link: tokio::sync::Mutex<Option<Arc<GuardianConnection>>>,
    next_run: Mutex<u64>,
    tasks: Group,
}

impl Supervisor {
    /// Starts the guardian: `guardian_program` is the command line that runs [`super::guardian::main`].
    ///
    /// # Errors
    /// [`Reason::EngineNotStarted`] when it cannot be started.
    pub async fn start_guardian(guardian_program: Vec<String>, tasks: Group) -> Result<Self> {
        // Should the guardian die, its engines become children of this process, which ends and reaps them.
        set_child_subreaper(Some(getpid())).map_err(Error::internal)?;
        let inner =
            Inner { guardian_program, link: tokio::sync::Mutex::default(), next_run: Mutex::new(1), tasks };
        let supervisor = Self { inner: Arc::new(inner) };
        supervisor.link().await?;
        Ok(supervisor)
    }

    /// Starts a run. Returns once the process exists.
    ///
    /// # Errors
    /// [`Reason::EngineNotStarted`] with the system's error; [`Reason::SupervisorLost`].
    pub async fn run(&self, command: ProcessCommand, limits: Limits) -> Result<ProcessRun> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let limit = ProcessTimeLimit {
            timeout_ms: milliseconds(limits.timeout.saturating_add(OVERTIME)),
            grace_ms: milliseconds(limits.kill_grace),
        };
        let mut process = self.begin(command, Some(limit)).await?;
        let pipes = process.take_pipes().ok_or_else(lost)?;
        Ok(ProcessRun::new(process, pipes, limits))
    }

    /// Starts a process whose pipes the caller handles itself. Dropping it kills its whole tree.
    ///
    /// # Errors
    /// The same as for [`Supervisor::run`].
    pub async fn start(&self, command: ProcessCommand) -> Result<Process> {
        self.begin(command, None).await
    }

    async fn begin(&self, command: ProcessCommand, limit: Option<ProcessTimeLimit>) -> Result<Process> {
        let link = self.link().await?;
        let (pipes, theirs) = open_pipes(command.has_input).map_err(|error| {
            let message = format!("no pipes for the process: {error}; try again");
            Error::new(Reason::EngineNotStarted, message)
        })?;
        let run = {
            let mut next_run = lock(&self.inner.next_run);
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
        link.runs().insert(run, RunWaiters { started: Some(started_sender), ended: Some(ended_sender) });
        // From here on, the run is stopped whatever happens to this future.
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

    async fn link(&self) -> Result<Arc<GuardianConnection>> {
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
    fn connect(&self) -> io::Result<Arc<GuardianConnection>> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let earlier_children = tree::children(getpid().as_raw_nonzero().get());
        let (program, arguments) =
            self.inner.guardian_program.split_first().ok_or_else(|| io::Error::other("no guardian"))?;
        std::process::Command::new(program)
            .args(arguments)
            // The guardian needs nothing else of this environment, least of all the keys of models.
            .env_clear()
            .envs(descriptors::started_with().map(|limit| (OPEN_FILES_VARIABLE, limit.to_string())))
            .envs(started_umask().map(|umask| (UMASK_VARIABLE, umask.to_string())))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // A process group of its own, because Ctrl-C in a terminal is meant for the gateway.
            .process_group(0)
            .spawn()?;
        let socket = ours.try_clone()?;
        let channel = Channel::new(ours.try_clone()?)?;
        let sender = Channel::new(ours)?;
        let (requests, mut outgoing) = mpsc::channel::<Outgoing>(MAX_WAITING_REQUESTS);
        let link = Arc::new(GuardianConnection {
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
                        // The run of a request that is dropped here is reported as lost.
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

    /// Closes the connection: the guardian kills what is left and exits, and every run is lost.
    pub async fn close(&self) {
        let Some(link) = self.inner.link.lock().await.take() else { return };
        link.is_closing.store(true, Ordering::Relaxed);
        if let Err(error) = shutdown(&link.socket, Shutdown::Write) {
            tracing::warn!(%error, "the guardian could not be told to end");
        }
    }
}

async fn read_reports(mut channel: Channel, link: Arc<GuardianConnection>) {
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
    // Nothing of this guardian may be left when a new one can be started and the runs are notified.
    if !link.is_closing.load(Ordering::Relaxed) {
        tracing::error!("the guardian was lost; its engines are ended");
    }
    end_adopted_children(&link.earlier_children).await;
    link.is_lost.cancel();
    // Dropping the senders notifies every run that it is lost.
    link.runs().clear();
}

/// Sends a result. A run that was given up has dropped its receiver, which is no error.
fn answer<T>(sender: Option<oneshot::Sender<T>>, value: T) {
    if let Some(sender) = sender {
        let _given_up = sender.send(value);
    }
}

fn lost() -> Error {
    Error::new(Reason::SupervisorLost, "the engines' supervisor was lost and is started again; try again")
}

/// Kills and reaps what a lost guardian had started, which became children of this process when the guardian ended
/// or a little later. Children that were here before the guardian are spared.
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
