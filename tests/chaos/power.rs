//! The power goes at random moments, again and again, with `storage.durability: fsync`: what a client has seen is there, every
//! accepted job ends once, and nobody is told of damage.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    checker::{check_job, check_nothing_lives, check_starts, run},
    crash::{AllSeen, check_ledger, client},
    disk::Disk,
    scenario::{Scenario, size},
    support::{Options, send},
};

const JOBS: usize = 30;
/// Every accepted job has ended this long after the restart.
const RECOVERY: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn power_loss() {
    let mut scenario = Scenario::begin("power_loss").await;
    let disk = Disk::new();
    let options = Options::default()
        .set("storage.durability", "fsync")
        .set("jobs.max_running", 2 * JOBS)
        .set("conductor.timeout", 3)
        .set("conductor.kill_grace_seconds", 1)
        .set("telemetry.log", "error,conductor_gateway::cli=info");
    let mut gateway = disk.start(options.clone());
    let cycles = size(5, 100);
    let (mut jobs, mut events_seen, mut lost, mut slowest) = (0, 0, 0, Duration::ZERO);
    let (mut checked, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for cycle in 0..cycles {
        let all = AllSeen::default();
        let mut clients = tokio::task::JoinSet::new();
        for job in 0..JOBS {
            let input = match scenario.random.below(6) {
                0 => "hang".to_owned(),
                1 => "escaped-grandchild".to_owned(),
                2 => "json-error".to_owned(),
                3 => "ok".to_owned(),
                _ => format!("sleep {}", scenario.random.below(300)),
            };
            let body = run(&input, &format!("c{cycle}-{job}"));
            clients.spawn(client(gateway.address.clone(), body, job % 2 == 1, all.clone()));
        }
        // Some of the earlier ones are deleted meanwhile.
        let going: Vec<String> = checked.iter().take(3).cloned().collect();
        for job_id in going {
            let path = format!("/api/v1/jobs/{job_id}");
            let answer = send(&gateway.address, "DELETE", &path, &[], None).await;
            assert!((200..300).contains(&answer.status), "{}", answer.text());
            checked.remove(&job_id);
            deleted.insert(job_id);
        }
        tokio::time::sleep(scenario.random.millis_below(700)).await;
        gateway.crash();
        let crashed = Instant::now();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        lost += disk.loses_power(&mut scenario.random);
        gateway = disk.start(options.clone());
        let all = std::mem::take(&mut *all.lock().unwrap());
        for job_id in all.keys() {
            assert_eq!(gateway.events(job_id).await.last().unwrap()["event"], "end_of_stream", "{job_id}");
        }
        slowest = slowest.max(crashed.elapsed());
        assert!(crashed.elapsed() < RECOVERY, "every job has ended after {:?}", crashed.elapsed());
        for (job_id, seen) in &all {
            check_job(&gateway, job_id, &seen.sse).await;
            if !seen.grpc.is_empty() {
                assert_eq!(gateway.watch(job_id, 0).await[..seen.grpc.len()], seen.grpc, "{job_id}");
            }
            events_seen += seen.sse.len() + seen.grpc.len();
        }
        let listed = gateway.listed("").await;
        assert!(listed.iter().all(|job_id| !deleted.contains(job_id)), "what was deleted stays so");
        for job_id in listed {
            if !all.contains_key(&job_id) && checked.insert(job_id.clone()) {
                check_job(&gateway, &job_id, &[]).await;
            }
        }
        check_ledger(&gateway, all.keys()).await;
        jobs += all.len();
        checked.extend(all.into_keys());
        check_nothing_lives(&gateway).await;
        let log = gateway.log.lock().unwrap().clone();
        // The catalogue's last entry may be torn: nobody was told that it was written, and the job's own file says the same.
        let is_fault = |line: &&str| {
            (line.contains("damaged") && !line.contains("cut off")) || line.contains("panicked")
        };
        assert_eq!(log.lines().find(is_fault), None);
    }
    // The oldest have been through every one of them.
    for job_id in &checked {
        check_job(&gateway, job_id, &[]).await;
    }
    let starts = check_starts(gateway.directory.path());
    scenario.report(format_args!(
        "the power went {cycles} times and took {lost} files, names and parts of files: {jobs} accepted, {events_seen} events seen: 0 lost, 0 \
         gaps, 0 repeats; {} deleted and gone, {starts} engines started, none twice; slowest recovery {slowest:.1?}",
        deleted.len()
    ));
}
