//! The guardian: the process that starts the engines, none of which outlives it.
//!
//! It is started first, by the gateway, with one end of a socket pair as its standard input. Every engine is its child, and
//! it is a subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`): processes that escape by `setsid` or a double fork become its
//! children too. When the socket closes for any reason, it kills everything below it and exits. It is single-threaded, so
//! that no parent-death signal or lost thread can surprise it.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Signal, WaitOptions, getpid, set_child_subreaper, wait};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::{
    protocol::{Channel, Pipes, Report, Request},
    supervisor::{OPEN_FILES_VARIABLE, UMASK_VARIABLE},
    tree,
};

use crate::sync::sleep_until;

/// The environment variable with the run of a process, so that an orphan can be attributed to its run.
pub(super) const RUN_VARIABLE: &str = "CONDUCTOR_RUN_ID";
/// The time between TERM and KILL for processes that a finished engine left behind.
const STRAY_GRACE: Duration = Duration::from_millis(500);
/// How often it is checked whether killed processes have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often the list of children is read again at most when one of them has ended meanwhile.
const MAX_LOOKS: u32 = 64;
/// A process that KILL does not end within this time hangs in the kernel; its run is reported as ended.
const UNKILLABLE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct RunState {
    leader: i32,
    exit: Option<(Option<i32>, Option<i32>)>,
    /// TERM was sent; KILL is sent at this time.
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
    strays: BTreeSet<i32>,
    /// Whether the run belongs to a job; other runs live as long as the gateway.
    is_job: bool,
    /// When the run is stopped, and with which grace period.
    limit: Option<(Instant, Duration)>,
}

/// Which run an orphan belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Run(u64),
    /// Nothing shows where it came from.
    Nobody,
    /// It is being started, so its origin cannot be read yet.
    NotYetKnown,
}

struct Guardian {
    pid: i32,
    runs: HashMap<u64, RunState>,
    /// Orphans of unknown origin.
    suspects: HashMap<i32, Suspect>,
}

/// An orphan of unknown origin.
#[derive(Clone, Debug)]
struct Suspect {
    session: i32,
    /// The runs that may have started it.
    runs: BTreeSet<u64>,
}

/// Runs the guardian until the gateway is gone and no process is left.
///
/// # Errors
/// When standard input is not a socket, or the kernel refuses to make this process a subreaper.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    let open_files = std::env::var(OPEN_FILES_VARIABLE).ok().and_then(|limit| limit.parse().ok());
    open_files.into_iter().for_each(crate::descriptors::set_limit);
    // Engines create their own files with the umask that the gateway was started with.
    let umask = std::env::var(UMASK_VARIABLE).ok().and_then(|umask| umask.parse().ok());
    umask.into_iter().for_each(crate::files::set_umask);
    // Only the closed socket ends the guardian; a service manager that signals the whole group must not.
    let mut signals = Vec::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        signals.push(signal(kind)?);
    }
    let mut child_ended = signal(SignalKind::child())?;
    let mut channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut guardian =
        Guardian { pid: getpid().as_raw_nonzero().get(), runs: HashMap::new(), suspects: HashMap::new() };
    loop {
        let wake_at = guardian.wake_at();
        tokio::select! {
            // Every branch is cancel safe: a message stays in the channel, a signal is kept until received.
            request = channel.receive::<Request>() => match request {
                Ok(Some(request)) => {
                    if let Some(report) = guardian.handle_request(request, &mut channel)
                        && channel.send(&report, &[]).await.is_err()
                    {
                        break;
                    }
                }
                Ok(None) | Err(_) => break,
            },
            _ = child_ended.recv() => {}
            () = sleep_until(wake_at) => {}
        }
        guardian.reap();
        let mut is_gone = false;
        for report in guardian.advance() {
            is_gone |= channel.send(&report, &[]).await.is_err();
        }
        if is_gone {
            break;
        }
    }
    guardian.end_everything().await;
    Ok(())
}

impl Guardian {
    fn handle_request(&mut self, request: Request, channel: &mut Channel) -> Option<Report> {
        match request {
            Request::Start { run, program, environment, directory, has_input, limit } => {
                let started = channel
                    .take_fds(has_input)
                    .and_then(|pipes| self.start(run, &program, environment, &directory, pipes));
                if let (Ok(_), Some(limit), Some(state)) = (&started, limit, self.runs.get_mut(&run)) {
                    let ends = Instant::now().checked_add(Duration::from_millis(limit.timeout_ms));
                    state.limit = ends.map(|ends| (ends, Duration::from_millis(limit.grace_ms)));
                }
                Some(match started {
                    Ok(pid) => Report::Started { run, pid },
                    Err(error) => Report::NotStarted { run, error: error.to_string() },
                })
            }
            Request::Stop { run, grace_ms } => {
                self.stop(run, Duration::from_millis(grace_ms));
                None
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts engines")]
    fn start(
        &mut self,
        run: u64,
        program: &[String],
        environment: std::collections::BTreeMap<String, String>,
        directory: &str,
        Pipes { stdout, stderr, stdin }: Pipes,
    ) -> io::Result<i32> {
        let is_job = environment.contains_key(super::JOB_VARIABLE);
        let (program, arguments) = program.split_first().ok_or_else(|| io::Error::other("no program"))?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment)
            .env(RUN_VARIABLE, self.run_name(run))
            .current_dir(directory)
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()?;
        let leader = i32::try_from(child.id()).map_err(io::Error::other)?;
        let strays = BTreeSet::new();
        let state =
            RunState { leader, exit: None, kill_at: None, give_up_at: None, strays, is_job, limit: None };
        self.runs.insert(run, state);
        Ok(leader)
    }

    fn run_name(&self, run: u64) -> String {
        format!("{}-{run}", self.pid)
    }

    fn stop(&mut self, run: u64, grace: Duration) {
        let Some(state) = self.runs.get_mut(&run) else { return };
        let kill_at = Instant::now() + grace;
        // A later stop may only shorten the grace period of the first one.
        if state.kill_at.is_some_and(|earlier| earlier <= kill_at) {
            return;
        }
        state.kill_at = Some(kill_at);
        state.give_up_at = Some(kill_at + UNKILLABLE);
        self.signal_run(run, Signal::TERM);
        // Processes that have left the tree receive TERM too, and not only KILL in the end.
        let orphans = self.orphans();
        let mine: Vec<i32> =
            orphans.into_iter().filter(|(_, owner)| *owner == Owner::Run(run)).map(|(pid, _)| pid).collect();
        self.signal_all(&mine, Signal::TERM);
    }

    /// Reaps every child that has ended, so that no zombie remains.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some(state) = self.runs.values_mut().find(|state| state.leader == pid) {
                state.exit = Some((status.exit_status(), status.terminating_signal()));
            }
        }
    }

    /// Stops runs that exceed their limit, ends what finished runs left behind, sends the KILLs that are due, and returns
    /// reports of the runs that have ended.
    fn advance(&mut self) -> Vec<Report> {
        if self.runs.is_empty() && self.suspects.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let due = |(run, state): (&u64, &RunState)| {
            let (ends, grace) = state.limit.filter(|_| state.exit.is_none() && state.kill_at.is_none())?;
            (ends <= now).then_some((*run, grace))
        };
        let over: Vec<(u64, Duration)> = self.runs.iter().filter_map(due).collect();
        for (run, grace) in over {
            self.stop(run, grace);
        }
        let orphans = self.orphans();
        self.settle_suspects(&orphans);
        let mut reports = Vec::new();
        let runs: Vec<u64> = self.runs.keys().copied().collect();
        for run in runs {
            let mut mine: Vec<i32> =
                orphans.iter().filter(|(_, owner)| **owner == Owner::Run(run)).map(|(pid, _)| *pid).collect();
            // An orphan that only this run can have started belongs to it.
            let is_only_suspect = |suspect: &Suspect| suspect.runs.len() == 1 && suspect.runs.contains(&run);
            mine.extend(
                self.suspects.iter().filter(|(_, suspect)| is_only_suspect(suspect)).map(|(pid, _)| *pid),
            );
            let is_nothing_left =
                mine.is_empty() && !orphans.values().any(|owner| *owner == Owner::NotYetKnown);
            let Some(state) = self.runs.get_mut(&run) else { continue };
            state.strays.extend(mine.iter().filter(|_| state.exit.is_some()));
            let is_over = state.exit.is_some() && is_nothing_left;
            if is_over || state.give_up_at.is_some_and(|at| at <= now) {
                let (code, signal) = state.exit.unwrap_or((None, Some(Signal::KILL.as_raw())));
                let strays = u32::try_from(state.strays.len()).unwrap_or(u32::MAX);
                reports.push(Report::Ended { run, code, signal, strays });
                self.runs.remove(&run);
                continue;
            }
            if state.exit.is_some() && state.kill_at.is_none() {
                state.kill_at = Some(now + STRAY_GRACE);
                state.give_up_at = Some(now + STRAY_GRACE + UNKILLABLE);
                self.signal_all(&mine, Signal::TERM);
            } else if state.kill_at.is_some_and(|at| at <= now) {
                self.signal_run(run, Signal::KILL);
                self.signal_all(&mine, Signal::KILL);
            }
        }
        reports
    }

    /// Returns the children that are not leaders, which were orphaned below this process, each with its owner.
    ///
    /// A child that ends while the list is read hands its own children to this process behind the end of the list, so a list
    /// with an ended child is read again. Only reaping by this process removes a child from the list; the number of attempts
    /// is bounded, because a child that has ended cannot be reaped while somebody else traces it.
    fn orphans(&mut self) -> HashMap<i32, Owner> {
        let mut looks = 0;
        loop {
            looks += 1;
            self.reap();
            let leaders: BTreeSet<i32> =
                self.runs.values().filter(|state| state.exit.is_none()).map(|state| state.leader).collect();
            let children = tree::children(self.pid);
            let orphans: HashMap<i32, Owner> = children
                .iter()
                .filter(|pid| !leaders.contains(pid))
                .filter_map(|pid| Some((*pid, self.owner(*pid)?)))
                .collect();
            let leaders = children.iter().filter(|pid| leaders.contains(pid)).count();
            if orphans.len() + leaders == children.len() || looks == MAX_LOOKS {
                return orphans;
            }
        }
    }

    /// Returns the owner of a child, or `None` if the child has ended.
    fn owner(&self, pid: i32) -> Option<Owner> {
        let mut by_name = tree::variable(pid, RUN_VARIABLE);
        let is_starting = by_name.is_none() && tree::has_no_environment_yet(pid);
        if by_name.is_none() && !is_starting {
            // It may have finished starting between the two reads.
            by_name = tree::variable(pid, RUN_VARIABLE);
        }
        // If a process may not be inspected, all that is known is that it exists.
        let Some(status) = tree::status(pid) else { return Some(Owner::Nobody) };
        if status.is_zombie {
            return None;
        }
        let owner = self.runs.iter().find(|(run, state)| {
            status.group == state.leader
                || status.session == state.leader
                || by_name.as_deref() == Some(&self.run_name(**run))
        });
        Some(match owner {
            Some((run, _)) => Owner::Run(*run),
            None if is_starting => Owner::NotYetKnown,
            None => Owner::Nobody,
        })
    }

    /// Keeps an orphan of no known run only as long as a run that may have started it: any run that is active when the
    /// orphan is first seen or, if it shares the session of an earlier such orphan or appeared when one disappeared, those
    /// that may have started that one.
    fn settle_suspects(&mut self, orphans: &HashMap<i32, Owner>) {
        let running: BTreeSet<u64> = self.runs.keys().copied().collect();
        let jobs = self.runs.iter().filter(|(_, state)| state.is_job);
        let jobs: BTreeSet<u64> = jobs.map(|(run, _)| *run).collect();
        // Runs that last as long as the gateway are suspected only if no other run is active.
        let anybody = if jobs.is_empty() { &running } else { &jobs };
        let (here, gone): (HashMap<i32, Suspect>, HashMap<i32, Suspect>) =
            std::mem::take(&mut self.suspects).into_iter().partition(|(pid, _)| orphans.contains_key(pid));
        for (pid, _) in orphans.iter().filter(|(_, owner)| !matches!(owner, Owner::Run(_))) {
            let session = tree::status(*pid).map_or(0, |status| status.session);
            let mut suspect = match here.get(pid) {
                Some(known) => known.clone(),
                None => {
                    let is_related = |other: &&Suspect| other.session == session;
                    let mut related: Vec<&Suspect> =
                        here.values().chain(gone.values()).filter(is_related).collect();
                    if related.is_empty() {
                        related = gone.values().collect();
                    }
                    let inherited = related.iter().flat_map(|other| &other.runs).copied().collect();
                    Suspect { session, runs: if related.is_empty() { anybody.clone() } else { inherited } }
                }
            };
            suspect.runs.retain(|run| running.contains(run));
            if suspect.runs.is_empty() && orphans.get(pid) == Some(&Owner::Nobody) {
                for pid in tree::descendants(*pid) {
                    tree::send(pid, Signal::KILL);
                }
            }
            self.suspects.insert(*pid, suspect);
        }
    }

    fn signal_run(&self, run: u64, signal: Signal) {
        let Some(state) = self.runs.get(&run).filter(|state| state.exit.is_none()) else { return };
        let below = tree::descendants(state.leader);
        tree::send_group(state.leader, signal);
        for pid in below {
            if tree::status(pid).is_some_and(|status| status.group != state.leader) {
                tree::send(pid, signal);
            }
        }
    }

    fn signal_all(&self, roots: &[i32], signal: Signal) {
        for pid in roots.iter().flat_map(|root| tree::descendants(*root)) {
            tree::send(pid, signal);
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let kills = self.runs.values().filter_map(|state| {
            state.kill_at.map(|at| if at <= now || state.exit.is_some() { now + LOOK_AGAIN } else { at })
        });
        let limits = self.runs.values().filter(|state| state.exit.is_none() && state.kill_at.is_none());
        let limits = limits.filter_map(|state| state.limit.map(|(ends, _)| ends));
        let suspects = (!self.suspects.is_empty()).then(|| now + LOOK_AGAIN * 10);
        kills.chain(limits).chain(suspects).min()
    }

    /// Kills everything below at once, because the gateway is gone and nothing can be reported any more.
    async fn end_everything(&mut self) {
        loop {
            let below = tree::descendants(self.pid);
            if below.len() <= 1 {
                return;
            }
            for pid in &below[1..] {
                tree::send(*pid, Signal::KILL);
            }
            tokio::time::sleep(LOOK_AGAIN / 2).await;
            self.reap();
        }
    }
}
