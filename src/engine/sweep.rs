//! The sweep at startup: ends processes of a gateway that died together with its guardian.

use std::{path::Path, time::Duration};

use rustix::process::Signal;

use super::{guardian::RUN_VARIABLE, tree};

/// The environment variable with the gateway's store, so that a start ends only strays of its own store.
pub(crate) const HOME_VARIABLE: &str = "CONDUCTOR_GATEWAY_HOME";

/// How long the previous guardian may take to end its processes before the sweep does.
const GUARDIAN_TIME: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(10);

/// Ends every process that an earlier gateway on the same store has left behind, for at most 10 seconds. Returns
/// the number of KILL signals that it sent.
pub(crate) async fn sweep(home: &Path) -> usize {
    let home = home.to_string_lossy();
    // The processes that started this gateway may carry the variable too; only what a guardian started is swept.
    let own_line = tree::ancestors();
    let strays = || -> Vec<i32> {
        tree::all()
            .into_iter()
            .filter(|pid| !own_line.contains(pid) && tree::variable(*pid, RUN_VARIABLE).is_some())
            .filter(|pid| tree::variable(*pid, HOME_VARIABLE).as_deref() == Some(&home))
            .filter(|pid| tree::status(*pid).is_some_and(|status| !status.is_zombie))
            .collect()
    };
    let started = tokio::time::Instant::now();
    let mut killed = 0;
    loop {
        let left = strays();
        if left.is_empty() || started.elapsed() > DEADLINE {
            return killed;
        }
        if started.elapsed() > GUARDIAN_TIME {
            for pid in left {
                tree::send(pid, Signal::KILL);
                killed += 1;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
