//! The one suite that every store answers, and what the embedded one does with damage.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    caller::Caller,
    error::Reason,
    pb::{self, Job, JobState, TaskOptions, Timestamp, job_event::Payload, storage::JobRecord},
};

fn record(job_id: &JobId, key: &str, digest: u8) -> JobRecord {
    let options = TaskOptions { idempotency_key: key.into(), ..TaskOptions::default() };
    let job = Job {
        job_id: job_id.to_string(),
        state: JobState::Queued as i32,
        caller: "local".into(),
        options: Some(options),
        create_time: Some(Timestamp::now()),
        ..Job::default()
    };
    JobRecord { job: Some(job), request_digest: vec![digest; 32].into() }
}

fn token(text: &str) -> Payload {
    Payload::OnLlmNewToken(pb::LlmNewToken { step: 1, text: text.into(), is_reasoning: false })
}

fn end() -> Payload {
    Payload::EndOfStream(pb::EndOfStream { state: JobState::Succeeded as i32, message: String::new() })
}

fn ended(job_id: &JobId, last_sequence: u32) -> Job {
    let mut job = record(job_id, "", 0).job.unwrap();
    job.state = JobState::Succeeded as i32;
    job.last_sequence = last_sequence;
    job.end_time = Some(Timestamp::now());
    job
}

async fn submit(journal: &Journal, key: &str, digest: u8) -> Appender {
    let job_id = JobId::generate().unwrap();
    match journal.submit(record(&job_id, key, digest)).await.unwrap() {
        Submitted::New(appender) => appender,
        Submitted::Existing(job_id) => panic!("{job_id} is not new"),
    }
}

async fn texts(mut follower: Follower) -> Vec<(u32, String)> {
    let mut seen = Vec::new();
    while let Some(slice) = follower.next().await.unwrap() {
        for (sequence, payload) in slice.batch.payloads(slice.from) {
            let text = match payload {
                Payload::OnLlmNewToken(token) => token.text,
                other => pb::event_name(&other).to_owned(),
            };
            seen.push((sequence, text));
        }
    }
    seen
}

/// Everything that the journal promises over any store.
async fn suite(store: Arc<dyn Store>) {
    let (journal, unfinished, damage) = Journal::open(store, 4096).await.unwrap();
    assert!(unfinished.is_empty() && damage.is_empty());
    let caller = Caller::local();

    // Live and late readers see the same events, a resumed one the rest, in spite of a small tail.
    let appender = submit(&journal, "", 0).await;
    let job_id = appender.job_id().clone();
    let live = texts(journal.follow(&caller, &job_id, 0).unwrap());
    let write = async {
        for number in 0..5000 {
            appender.append(&token(&format!("{number} {}", "x".repeat(number % 50))), |_| {}).await.unwrap();
            if number % 1000 == 0 {
                appender.flushed(Duration::from_secs(5)).await.unwrap();
            }
        }
        appender.append(&end(), |_| {}).await.unwrap();
        assert!(appender.append(&end(), |_| {}).await.is_err(), "nothing follows the last event");
        journal.finish(appender, &ended(&job_id, 5001)).await;
    };
    let (live, ()) = tokio::join!(live, write);
    assert_eq!(live.len(), 5001);
    assert!(live.iter().zip(1..).all(|((sequence, _), expected)| *sequence == expected));
    assert_eq!(texts(journal.follow(&caller, &job_id, 0).unwrap()).await, live);
    assert_eq!(texts(journal.follow(&caller, &job_id, 4321).unwrap()).await, live[4321..]);
    assert_eq!(texts(journal.follow(&caller, &job_id, 5001).unwrap()).await, []);
    let beyond = journal.follow(&caller, &job_id, 5002).err().unwrap();
    assert_eq!((beyond.reason(), beyond.sequence()), (Reason::CursorBeyondLog, Some(5001)));

    // Nobody else sees it; a job that is not there is not found.
    let other = Caller::named("other");
    assert_eq!(journal.follow(&other, &job_id, 0).err().unwrap().reason(), Reason::JobNotFound);
    assert_eq!(journal.delete(&other, &job_id).await.unwrap_err().reason(), Reason::JobNotFound);
    assert_eq!(journal.job(&caller, &job_id).await.unwrap().ended.unwrap().last_sequence, 5001);

    // One idempotency key is one job; with another body it is refused.
    let keyed = submit(&journal, "key", 1).await;
    let again = record(&JobId::generate().unwrap(), "key", 1);
    assert!(matches!(journal.submit(again).await.unwrap(), Submitted::Existing(id) if id == *keyed.job_id()));
    let conflict = journal.submit(record(&JobId::generate().unwrap(), "key", 2)).await.err().unwrap();
    assert_eq!(conflict.reason(), Reason::IdempotencyConflict);

    // Deleting wants an ended job, and frees its key; a reader that is at it still finishes.
    let keyed_id = keyed.job_id().clone();
    assert_eq!(journal.delete(&caller, &keyed_id).await.unwrap_err().reason(), Reason::JobNotEnded);
    keyed.append(&end(), |_| {}).await.unwrap();
    journal.finish(keyed, &ended(&keyed_id, 1)).await;
    let mut reader = journal.follow(&caller, &job_id, 0).unwrap();
    let first = reader.next().await.unwrap().unwrap();
    journal.delete(&caller, &keyed_id).await.unwrap();
    journal.delete(&caller, &job_id).await.unwrap();
    assert_eq!(texts(reader).await.len(), 5001 - first.last_sequence() as usize);
    assert_eq!(journal.follow(&caller, &job_id, 0).err().unwrap().reason(), Reason::JobNotFound);
    drop(submit(&journal, "key", 3).await);

    // Retention removes the oldest ended jobs, never a running one.
    for _ in 0..5 {
        let appender = submit(&journal, "", 0).await;
        let job_id = appender.job_id().clone();
        appender.append(&end(), |_| {}).await.unwrap();
        journal.finish(appender, &ended(&job_id, 1)).await;
    }
    let keep = Retention { max_age: Duration::from_secs(3600), max_bytes: u64::MAX, max_jobs: 2 };
    let never = CancellationToken::new();
    assert_eq!(journal.expire(&keep, &never).await, 3);
    let none = Retention { max_age: Duration::ZERO, max_bytes: u64::MAX, max_jobs: 9 };
    assert_eq!(journal.expire(&none, &never).await, 2);
    assert_eq!(journal.list(&caller, &Filter::default(), None, 10).0.len(), 1);
}

#[tokio::test]
async fn memory_store() {
    suite(Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn embedded_store() {
    for durability in [Durability::Process, Durability::Fsync] {
        let directory = tempfile::tempdir().unwrap();
        suite(Arc::new(EmbeddedStore::open(directory.path(), durability).unwrap())).await;
    }
}

#[tokio::test]
async fn a_store_has_one_user() {
    let directory = tempfile::tempdir().unwrap();
    let _first = EmbeddedStore::open(directory.path(), Durability::Process).unwrap();
    let second = EmbeddedStore::open(directory.path(), Durability::Process).unwrap_err();
    assert!(second.message().contains("another gateway"), "{second}");
}

/// A store with one ended and one unfinished job of ten batches each. Answers with their ids.
async fn written(path: &Path) -> (JobId, JobId) {
    let store = EmbeddedStore::open(path, Durability::Process).unwrap();
    let (journal, ..) = Journal::open(Arc::new(store), 4096).await.unwrap();
    let mut ids = Vec::new();
    for is_ended in [true, false] {
        let appender = submit(&journal, "", 0).await;
        let job_id = appender.job_id().clone();
        for number in 0..100 {
            appender.append(&token(&format!("event {number}")), |_| {}).await.unwrap();
            if number % 10 == 9 {
                appender.flushed(Duration::from_secs(5)).await.unwrap();
            }
        }
        if is_ended {
            appender.append(&end(), |_| {}).await.unwrap();
            journal.finish(appender, &ended(&job_id, 101)).await;
        }
        ids.push(job_id);
    }
    journal.close(Duration::from_millis(1)).await;
    (ids[0].clone(), ids[1].clone())
}

/// What a reader gets of a job, and the sequences it was told are lost.
async fn read_all(mut follower: Follower) -> (Vec<u32>, Vec<u32>) {
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

/// Opens a damaged store and reads everything. Answers with whether the damage was noticed.
async fn noticed(path: &Path, (ended, unfinished): &(JobId, JobId), max_lost: usize) -> bool {
    let store = EmbeddedStore::open(path, Durability::Process).unwrap();
    let (journal, left, damage) = Journal::open(Arc::new(store), 4096).await.unwrap();
    let mut is_noticed = !damage.is_empty();
    match journal.follow(&Caller::local(), ended, 0) {
        Err(_) => {}
        Ok(follower) => {
            let (seen, lost) = read_all(follower).await;
            is_noticed |= !lost.is_empty() || journal.job(&Caller::local(), ended).await.is_err();
            let mut all: Vec<_> = seen.iter().chain(&lost).copied().collect();
            all.sort_unstable();
            assert_eq!(all, (1..=101).collect::<Vec<_>>(), "each event is read or named as lost");
            assert!(lost.len() <= max_lost, "the rest is readable: {lost:?}");
        }
    }
    match left.iter().find(|left| left.job_id == *unfinished) {
        None => assert!(is_noticed, "an unfinished job vanished"),
        Some(left) => {
            let (seen, lost) = read_all(journal.replay(left)).await;
            assert_eq!(seen.len() + lost.len(), left.last_sequence as usize);
            is_noticed |= !lost.is_empty();
            assert!(is_noticed || left.last_sequence == 100, "events vanished: {}", left.last_sequence);
            // It goes on behind everything that was ever seen.
            let appender = journal.reopen(left);
            let next = appender.append(&token("more"), |_| {}).await.unwrap();
            assert_eq!(next, left.last_sequence + 1);
            appender.flushed(Duration::from_secs(5)).await.unwrap();
            assert_eq!(read_next(&journal, unfinished, next - 1).await, next);
        }
    }
    journal.close(Duration::from_millis(1)).await;
    is_noticed
}

async fn read_next(journal: &Journal, job_id: &JobId, after: u32) -> u32 {
    let mut follower = journal.follow(&Caller::local(), job_id, after).unwrap();
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
        // A flipped bit anywhere that means something; the header's spare bytes mean nothing.
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
            // A catalogue cut between two entries is made whole from the job files: nothing is lost.
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
