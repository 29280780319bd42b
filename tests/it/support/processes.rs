//! A look at the machine's processes.

use std::{
    fs,
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

/// Waits until something holds, at most until `deadline` has passed.
pub async fn eventually(deadline: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !holds().await {
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
