//! A look at the machine's processes.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// The processes that live (zombies do not) and whose environment or arguments hold `text`.
pub fn alive_with(text: &str) -> Vec<i32> {
    let holds = |pid: i32, file: &str| {
        fs::read(format!("/proc/{pid}/{file}"))
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != i32::try_from(std::process::id()).unwrap())
        .filter(|pid| holds(*pid, "environ") || holds(*pid, "cmdline"))
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !matches!(
                stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next()),
                None | Some('Z' | 'X')
            )
        })
        .collect()
}

/// The processes that live and whose working directory lies below `directory`, or whose environment or arguments name it.
pub fn alive_in(directory: &Path) -> Vec<i32> {
    let is_there =
        |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path.starts_with(directory));
    let mut found = alive_with(&directory.display().to_string());
    found.extend(alive_with("").into_iter().filter(|pid| is_there(*pid)));
    found.sort_unstable();
    found.dedup();
    found
}

/// The direct children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// How often each job was started, by the mean engine's own ledgers below `directory`.
pub fn starts(directory: &Path) -> BTreeMap<String, usize> {
    let mut starts = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            for (job_id, count) in self::starts(&entry.path()) {
                *starts.entry(job_id).or_default() += count;
            }
        } else if entry.file_name() == "starts.log" && !entry.file_type().unwrap().is_symlink() {
            for job_id in fs::read_to_string(entry.path()).unwrap().lines() {
                *starts.entry(job_id.to_owned()).or_default() += 1;
            }
        }
    }
    starts
}

/// Waits until something holds, at most until `deadline` has passed.
pub async fn eventually(deadline: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !holds().await {
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
