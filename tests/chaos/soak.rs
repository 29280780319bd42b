//! Mixed work for as long as it takes: afterwards the gateway holds no more descriptors, tasks, processes or memory than
//! before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    checker::{check_events, check_nothing_lives, run},
    raw::{DOORS, Stream},
    scenario::{Random, Scenario, resident_bytes, size},
    support::{Gateway, Options, children, eventually},
};

/// What a gateway holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    tasks: u64,
    processes: usize,
    /// Processes that have ended and that nobody has asked how.
    zombies: usize,
    memory: u64,
    guardian_memory: u64,
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold anything (proc(5)).
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

async fn held(gateway: &Gateway) -> Held {
    let guardians = gateway.guardians();
    let parents = guardians.iter().chain([&gateway.pid()]).copied().collect::<Vec<_>>();
    Held {
        zombies: parents.into_iter().flat_map(children).filter(|pid| is_zombie(*pid)).count(),
        guardian_memory: guardians.into_iter().map(resident_bytes).sum(),
        descriptors: std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count(),
        tasks: gateway.get("/api/v1/info").await.json()["live_tasks"].as_u64().unwrap(),
        processes: crate::support::alive_in(gateway.directory.path()).len(),
        memory: resident_bytes(gateway.pid()),
    }
}

/// Memory is looked at so often.
const PARTS: u32 = 6;

/// A client that does something of everything.
async fn client(gateway: Arc<Gateway>, mut random: Random, number: usize, until: Instant) -> usize {
    let mut done = 0;
    while Instant::now() < until {
        done += 1;
        let conversation = format!("s{number}");
        let job = match random.below(10) {
            0..3 => run("ok", &conversation),
            3 => run("json-error", &conversation),
            4 => run("drip 50 2", &conversation),
            5 => run("flood 2", &conversation),
            6 => run("daemon", &conversation),
            7 => run("escaped-grandchild", &conversation),
            8 => json!({"command": "list the agents"}),
            _ => json!({"tool": "get_system_config", "arguments": {}}),
        };
        let job_id = gateway.submit(&job).await;
        // Somebody looks in, and leaves.
        let door = *random.one_of(&DOORS);
        let stream = Stream::open(&gateway.address, door, &job_id, 0).await;
        let cut = usize::try_from(random.below(20_000)).unwrap();
        drop(tokio::time::timeout(Duration::from_millis(300), stream.cut_at(cut)).await);
        if random.below(3) == 0 || job["arguments"]["input_text"] == "escaped-grandchild" {
            gateway.post(&format!("/api/v1/jobs/{job_id}/cancel"), &json!({"wait_seconds": 10})).await;
        }
        check_events(&job_id, &gateway.events(&job_id).await);
        // Nonsense too.
        match random.below(4) {
            0 => drop(gateway.get("/api/v1/jobs/none").await),
            1 => drop(gateway.post("/execute", &json!({"command": ""})).await),
            _ => {}
        }
    }
    done
}

async fn round(gateway: &Arc<Gateway>, random: &mut Random, duration: Duration) -> usize {
    let until = Instant::now() + duration;
    let mut clients = JoinSet::new();
    for number in 0..12 {
        clients.spawn(client(gateway.clone(), random.fork(), number, until));
    }
    clients.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn soak() {
    let mut scenario = Scenario::begin("soak").await;
    let mut options = Options::default()
        .set("jobs.retention_max_jobs", 100)
        .set("jobs.retention_seconds", 4)
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    // glibc keeps what was freed in arenas of which threads take turns; with one, memory tells what is held.
    options.environment.push(("MALLOC_ARENA_MAX", "1".to_owned()));
    let gateway = Arc::new(Gateway::mean(options));
    // Fills caches, pools and the allocator's arenas.
    round(&gateway, &mut scenario.random, Duration::from_secs(size(5, 60))).await;
    let rest = async || {
        let mut last = held(&gateway).await;
        eventually(Duration::from_secs(20), "only the guardian is left", async || {
            last = held(&gateway).await;
            last.processes <= 2
        })
        .await;
        last
    };
    let before = rest().await;
    let duration = Duration::from_secs(size(8, 30 * 60));
    let (mut done, mut memory) = (0, Vec::new());
    for _ in 0..PARTS {
        done += round(&gateway, &mut scenario.random, duration / PARTS).await;
        let held = rest().await;
        memory.push(held.memory);
        assert!(held.guardian_memory < before.guardian_memory + (4 << 20), "the guardian grows: {held:?}");
    }
    let mut after = rest().await;
    eventually(
        Duration::from_secs(30),
        "descriptors and tasks are back, and no process is left unasked",
        async || {
            after = held(&gateway).await;
            let is_back = after.descriptors <= before.descriptors + 4 && after.tasks <= before.tasks + 4;
            is_back && after.zombies == 0
        },
    )
    .await;
    check_nothing_lives(&gateway).await;
    // The allocator keeps some of what a first part needed; what grows with the work would grow in the later ones too.
    let (half, last) = (memory[memory.len() / 2 - 1], memory[memory.len() - 1]);
    let grown = last.saturating_sub(half);
    println!("memory after each part: {:?} MiB", memory.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>());
    assert!(grown < 16 << 20, "{grown} bytes more in the second half: {memory:?}");
    scenario.report(format_args!(
        "{done} rounds of mixed work in {duration:?}: descriptors {} -> {}, tasks {} -> {}, processes {} -> {}, {} zombies, memory {:+} KiB in \
         the second half, the guardian's {:+} KiB in all",
        before.descriptors,
        after.descriptors,
        before.tasks,
        after.tasks,
        before.processes,
        after.processes,
        after.zombies,
        (last as i64 - half as i64) / 1024,
        (after.guardian_memory as i64 - before.guardian_memory as i64) / 1024
    ));
}
