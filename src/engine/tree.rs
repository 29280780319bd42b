//! The process tree below a process, read from `/proc` (proc(5)).

use std::{collections::HashMap, fs};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// What a process that accepts input is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinState {
    /// It sleeps in a read of its standard input: it asks something, or waits for input.
    Reads,
    /// It sleeps until an event occurs, has no child, and nothing shows what it waits for.
    Idles,
    /// It is busy, or waits for something else.
    Elsewhere,
}

/// Returns the parent of every process.
fn all_parents() -> HashMap<i32, i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, status(pid)?.parent)))
        .collect()
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) is_zombie: bool,
}

/// Reads `/proc/<pid>/stat`. Returns `None` when the process is gone.
pub(super) fn status(pid: i32) -> Option<Status> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain spaces and parentheses; the fields begin after the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    // If the first thread has ended before the others, the process looks like a zombie and is alive.
    let is_zombie = matches!(fields.next()?, "Z" | "X") && threads(pid).len() <= 1;
    let mut number = || fields.next()?.parse().ok();
    Some(Status { parent: number()?, group: number()?, session: number()?, is_zombie })
}

/// Returns the ids of a process's threads.
fn threads(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the direct children of a process.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => {
                children.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()))
            }
            // The kernel lacks CONFIG_PROC_CHILDREN; a task that is gone would have no directory either.
            Err(_) if task.path().exists() => {
                return all_parents()
                    .into_iter()
                    .filter(|(_, parent)| *parent == pid)
                    .map(|(pid, _)| pid)
                    .collect();
            }
            Err(_) => {}
        }
    }
    children
}

/// Returns a process and everything below it, the root first.
pub(super) fn descendants(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Returns this process and all of its ancestors.
pub(super) fn ancestors() -> Vec<i32> {
    let mut line = vec![i32::try_from(std::process::id()).unwrap_or(1)];
    while let Some(status) = line.last().and_then(|pid| status(*pid)).filter(|status| status.parent > 0) {
        line.push(status.parent);
    }
    line
}

/// Returns the value of a variable in a process's initial environment.
pub(super) fn variable(pid: i32, name: &str) -> Option<String> {
    let of = |thread: i32| fs::read(format!("/proc/{pid}/task/{thread}/environ")).unwrap_or_default();
    let mut environment = of(pid);
    if environment.is_empty() {
        // A first thread that has ended has no environment any more; the other threads still have it.
        let others = threads(pid).into_iter().filter(|thread| *thread != pid);
        environment = others.map(of).find(|environment| !environment.is_empty())?;
    }
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// Returns whether a process is in the middle of execve(2): its old environment is gone, its new one not there yet
/// (proc(5), `/proc/pid/stat`: `env_end`, the 51st field, is 0). `false` if that cannot be read.
pub(super) fn has_no_environment_yet(pid: i32) -> bool {
    // For a process that may not be read, stat shows 0 too.
    let is_empty = fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| environment.is_empty());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_ascii_whitespace();
    let is_alive = fields.next().is_some_and(|state| !matches!(state, "Z" | "X"));
    is_empty && is_alive && fields.nth(47) == Some("0")
}

/// Returns every process.
pub(super) fn all() -> Vec<i32> {
    all_parents().into_keys().collect()
}

/// Returns what the process tree below `root` is doing about its standard input, judged by the system call in
/// which each process sleeps (proc(5), `/proc/pid/syscall`; "running" while it does not sleep).
pub(super) fn attention(root: i32) -> StdinState {
    let below = descendants(root);
    let calls: Vec<Option<SleepsIn>> = below.iter().map(|pid| sleeps_in(*pid)).collect();
    if calls.contains(&Some(SleepsIn::ReadOfInput)) {
        return StdinState::Reads;
    }
    match (below.len(), calls.first()) {
        (1, Some(Some(SleepsIn::Wait))) => StdinState::Idles,
        _ => StdinState::Elsewhere,
    }
}

/// Returns whether a process has a TCP connection (proc(5), `/proc/pid/net/tcp`: state 01 is established, 02 is
/// being established).
pub(super) fn is_connected(pid: i32) -> bool {
    let sockets: Vec<String> = ["tcp", "tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|table| {
            let inode = |line: &str| {
                let fields: Vec<&str> = line.split_ascii_whitespace().collect();
                matches!(fields.get(3), Some(&"01" | &"02"))
                    .then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
            };
            table.lines().skip(1).filter_map(inode).collect::<Vec<_>>()
        })
        .collect();
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SleepsIn {
    ReadOfInput,
    Wait,
    Other,
}

fn sleeps_in(pid: i32) -> Option<SleepsIn> {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let call: u64 = fields.next()?.parse().ok()?;
    let first = fields.next()?;
    Some(match call {
        READ if first == "0x0" => SleepsIn::ReadOfInput,
        call if WAITS.contains(&call) => SleepsIn::Wait,
        _ => SleepsIn::Other,
    })
}

// The system call numbers of read(2), and of the variants of poll, select and epoll_wait.
#[cfg(target_arch = "x86_64")]
const READ: u64 = 0;
#[cfg(target_arch = "x86_64")]
const WAITS: &[u64] = &[7, 23, 232, 270, 271, 281];
#[cfg(not(target_arch = "x86_64"))]
const READ: u64 = 63;
#[cfg(not(target_arch = "x86_64"))]
const WAITS: &[u64] = &[22, 72, 73];

/// Sends a signal to a process; one that is gone is no error. Never sends to 0, 1 or a negative number.
pub(super) fn send(pid: i32, signal: Signal) {
    if pid > 1
        && let Some(pid) = Pid::from_raw(pid)
    {
        let _gone = kill_process(pid, signal);
    }
}

/// Sends a signal to a process group.
pub(super) fn send_group(group: i32, signal: Signal) {
    if group > 1
        && let Some(group) = Pid::from_raw(group)
    {
        let _gone = kill_process_group(group, signal);
    }
}
