//! Damage of a store's files: it is noticed, named, and what is whole stays readable.

use super::super::*;
use super::fixtures::{end, ended, lost, open, submit, token};
use crate::{error::Reason, pb::job_event::Payload, principal::Principal};
use std::{fs, path::Path, time::Duration};

/// Writes a store with one ended and one unfinished job of ten batches each, and returns their ids.
async fn written(path: &Path) -> (JobId, JobId) {
    let store = EmbeddedStore::open(path, Durability::Process).unwrap();
    let (journal, _) = open(store).await;
    let mut ids = Vec::new();
    for is_ended in [true, false] {
        let appender = submit(&journal, "", 0).await;
        let job_id = appender.job_id().clone();
        for number in 0..100 {
            appender.append(&token(&format!("event {number}")), |_| None).await.unwrap();
            if number % 10 == 9 {
                appender.flushed(Duration::from_secs(5)).await.unwrap();
            }
        }
        if is_ended {
            appender.append(&end(), |_| None).await.unwrap();
            journal.finish(appender, &ended(&job_id, 101), lost).await;
        }
        ids.push(job_id);
    }
    journal.close(Duration::from_millis(1)).await;
    (ids[0].clone(), ids[1].clone())
}

/// Returns the sequences that a reader gets of a job, and those reported to it as lost.
async fn read_all(mut follower: EventFollower) -> (Vec<u32>, Vec<u32>) {
    let (mut seen, mut lost) = (Vec::new(), Vec::new());
    loop {
        let before = follower.last_seen();
        match follower.next().await {
            Ok(None) => return (seen, lost),
            Ok(Some(slice)) => {
                for (sequence, payload) in slice.batch.payloads(slice.from) {
                    if let Payload::OnLlmNewToken(token) = payload {
                        assert_eq!(
                            token.text,
                            format!("event {}", sequence - 1),
                            "a wrong byte was let through"
                        );
                    }
                    seen.push(sequence);
                }
            }
            Err(error) => {
                assert_eq!(error.reason(), Reason::DataLoss, "{error}");
                lost.extend(before + 1..=follower.last_seen());
            }
        }
    }
}

/// Opens a damaged store, reads everything, and returns whether the damage was noticed.
async fn noticed(path: &Path, (ended, unfinished): &(JobId, JobId), max_lost: usize) -> bool {
    let store = EmbeddedStore::open(path, Durability::Process).unwrap();
    let (journal, damage) = open(store).await;
    let ClaimedJobs { jobs: left, damage: of_jobs } = journal.claim(10).await.unwrap();
    let mut is_noticed = !damage.is_empty() || !of_jobs.is_empty();
    match journal.follow(&Principal::local(), ended, 0).await {
        Err(_) => {}
        Ok(follower) => {
            let (seen, lost) = read_all(follower).await;
            is_noticed |= !lost.is_empty() || journal.job(&Principal::local(), ended).await.is_err();
            let mut all: Vec<_> = seen.iter().chain(&lost).copied().collect();
            all.sort_unstable();
            assert_eq!(all, (1..=101).collect::<Vec<_>>(), "each event is read or named as lost");
            assert!(lost.len() <= max_lost, "the rest is readable: {lost:?}");
        }
    }
    match left.iter().find(|left| left.claim.job_id == *unfinished) {
        None => assert!(is_noticed, "an unfinished job vanished"),
        Some(left) => {
            let (seen, lost) = read_all(journal.replay(left)).await;
            assert_eq!(seen.len() + lost.len(), left.last_sequence as usize);
            is_noticed |= !lost.is_empty();
            assert!(is_noticed || left.last_sequence == 100, "events vanished: {}", left.last_sequence);
            // The job continues after everything that was ever seen.
            let appender = journal.reopen(left);
            let next = appender.append(&token("more"), |_| None).await.unwrap();
            assert_eq!(next, left.last_sequence + 1);
            appender.flushed(Duration::from_secs(5)).await.unwrap();
            assert_eq!(read_next(&journal, unfinished, next - 1).await, next);
        }
    }
    journal.close(Duration::from_millis(1)).await;
    is_noticed
}

async fn read_next(journal: &Journal, job_id: &JobId, after: u32) -> u32 {
    let mut follower = journal.follow(&Principal::local(), job_id, after).await.unwrap();
    follower.next().await.unwrap().unwrap().first_sequence()
}

#[tokio::test]
async fn damage_is_noticed_and_the_rest_is_readable() {
    let whole = tempfile::tempdir().unwrap();
    let ids = written(whole.path()).await;
    assert!(!noticed(copy_of(whole.path()).path(), &ids, 0).await, "a whole store is whole");
    let files =
        ["catalogue".to_owned(), format!("jobs/{}", ids.0.as_str()), format!("jobs/{}", ids.1.as_str())];
    for file in &files {
        let bytes = fs::read(whole.path().join(file)).unwrap();
        // Flip a bit anywhere except in the unused bytes of a job file's header, where it has no effect.
        for at in (0..bytes.len()).step_by(37).filter(|at| file == "catalogue" || !(32..64).contains(at)) {
            let copy = copy_of(whole.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(copy.path().join(file), &flipped).unwrap();
            assert!(noticed(copy.path(), &ids, 10).await, "{file}: flipped bit at {at} of {}", bytes.len());
        }
        for length in (0..bytes.len()).step_by(211) {
            let copy = copy_of(whole.path());
            fs::write(copy.path().join(file), &bytes[..length]).unwrap();
            let is_noticed = noticed(copy.path(), &ids, 101).await;
            // A catalogue that is cut between two entries is restored from the job files, so that nothing is lost.
            assert!(is_noticed || file == "catalogue", "{file}: cut at {length} of {}", bytes.len());
        }
        let copy = copy_of(whole.path());
        fs::remove_file(copy.path().join(file)).unwrap();
        assert!(noticed(copy.path(), &ids, 0).await, "{file}: missing");
    }
}

fn copy_of(path: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("jobs")).unwrap();
    for directory in ["", "jobs"] {
        for entry in fs::read_dir(path.join(directory)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.path().join(directory).join(entry.file_name())).unwrap();
            }
        }
    }
    copy
}
