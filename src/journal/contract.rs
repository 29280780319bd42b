//! The contract suite that every store must pass, and tests of how the embedded store handles damage.

mod damage;
mod fixtures;

use self::fixtures::{end, ended, lost, open, principal, record, submit, texts, token};
use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    error::Reason,
    pb::JobState,
    principal::{OwnersOnly, Principal},
};

/// Checks everything that the journal guarantees over any store.
async fn suite(store: impl Catalogue + EventLog) {
    let (journal, damage) = open(store).await;
    let unfinished = journal.claim(10).await.unwrap();
    assert!(unfinished.jobs.is_empty() && unfinished.damage.is_empty() && damage.is_empty());
    let caller = Principal::local();

    // Live and late readers see the same events and a resumed reader sees the rest, although the tail is small.
    let appender = submit(&journal, "", 0).await;
    let job_id = appender.job_id().clone();
    let live = texts(journal.follow(&caller, &job_id, 0).await.unwrap());
    let write = async {
        for number in 0..5000 {
            let text = format!("{number} {}", "x".repeat(number % 50));
            appender.append(&token(&text), |_| None).await.unwrap();
            if number % 1000 == 0 {
                appender.flushed(Duration::from_secs(5)).await.unwrap();
            }
        }
        appender.append(&end(), |_| None).await.unwrap();
        assert!(appender.append(&end(), |_| None).await.is_err(), "nothing follows the last event");
        assert!(journal.finish(appender, &ended(&job_id, 5001), lost).await);
    };
    let (live, ()) = tokio::join!(live, write);
    assert_eq!(live.len(), 5001);
    assert!(live.iter().zip(1..).all(|((sequence, _), expected)| *sequence == expected));
    assert_eq!(texts(journal.follow(&caller, &job_id, 0).await.unwrap()).await, live);
    assert_eq!(texts(journal.follow(&caller, &job_id, 4321).await.unwrap()).await, live[4321..]);
    assert_eq!(texts(journal.follow(&caller, &job_id, 5001).await.unwrap()).await, []);
    let beyond = journal.follow(&caller, &job_id, 5002).await.err().unwrap();
    assert_eq!((beyond.reason(), beyond.sequence()), (Reason::CursorBeyondLog, Some(5001)));

    // No other principal can access the job; a job that does not exist is not found.
    let other = principal("other");
    assert_eq!(journal.follow(&other, &job_id, 0).await.err().unwrap().reason(), Reason::JobNotFound);
    assert_eq!(journal.delete(&other, &job_id).await.unwrap_err().reason(), Reason::JobNotFound);
    assert_eq!(journal.job(&caller, &job_id).await.unwrap().ended.unwrap().last_sequence, 5001);

    // An idempotency key stands for one job; with a different request it is rejected.
    let keyed = submit(&journal, "key", 1).await;
    let again = record(&JobId::generate().unwrap(), "key", 1);
    assert!(
        matches!(journal.submit(again).await.unwrap(), SubmitOutcome::Existing(id) if id == *keyed.job_id())
    );
    let conflict = journal.submit(record(&JobId::generate().unwrap(), "key", 2)).await.err().unwrap();
    assert_eq!(conflict.reason(), Reason::IdempotencyConflict);

    // Only an ended job can be deleted, which frees its key; a reader that is already open still reads to the end.
    let keyed_id = keyed.job_id().clone();
    assert_eq!(journal.delete(&caller, &keyed_id).await.unwrap_err().reason(), Reason::JobNotEnded);
    keyed.append(&end(), |_| None).await.unwrap();
    journal.finish(keyed, &ended(&keyed_id, 1), lost).await;
    let mut reader = journal.follow(&caller, &job_id, 0).await.unwrap();
    let first = reader.next().await.unwrap().unwrap();
    journal.delete(&caller, &keyed_id).await.unwrap();
    journal.delete(&caller, &job_id).await.unwrap();
    assert_eq!(texts(reader).await.len(), 5001 - first.last_sequence() as usize);
    assert_eq!(journal.follow(&caller, &job_id, 0).await.err().unwrap().reason(), Reason::JobNotFound);
    drop(submit(&journal, "key", 3).await);

    // Retention removes the oldest ended jobs and never a running one.
    for _ in 0..5 {
        let appender = submit(&journal, "", 0).await;
        let job_id = appender.job_id().clone();
        appender.append(&end(), |_| None).await.unwrap();
        journal.finish(appender, &ended(&job_id, 1), lost).await;
    }
    let keep = |max_age, max_jobs| Retention {
        max_age,
        max_bytes: u64::MAX,
        max_jobs,
        max_bytes_per_owner: None,
        max_jobs_per_owner: None,
    };
    let never = CancellationToken::new();
    assert_eq!(journal.expire(&keep(Duration::from_secs(3600), 2), &never).await, 3);
    assert_eq!(journal.expire(&keep(Duration::ZERO, 9), &never).await, 2);
    let page = journal.list(&caller, &Filter::default(), None, 10).await.unwrap();
    assert!(page.jobs.len() == 1 && !page.has_more && page.jobs[0].is_summary);
}

fn lease(holder: &Holder) -> Lease {
    Lease { holder: holder.clone(), time: Duration::from_secs(30) }
}

fn batch(job_id: &JobId, first: u32, texts: &[&str]) -> Arc<EventBatch> {
    let payloads: Vec<_> = texts.iter().map(|text| token(text)).collect();
    Arc::new(EventBatch::encoded(job_id, first, &payloads))
}

async fn append(
    store: &impl EventLog,
    claim: &Claim,
    batches: Vec<Arc<EventBatch>>,
) -> Result<(), WriteRefusal> {
    store.append(vec![BatchAppend { claim: claim.clone(), batches }]).await.remove(0)
}

/// Two gateways that share a store: a job belongs to one of them at a time, and writes of the other are refused.
async fn two_holders(store: impl Catalogue + EventLog) {
    store.open().await.unwrap();
    let (first, second) = (Holder::generate().unwrap(), Holder::generate().unwrap());
    let job_id = JobId::generate().unwrap();
    let created = store.create(&record(&job_id, "key", 1), &lease(&first)).await.unwrap();
    let CreateOutcome::New(claim) = created else { panic!("{created:?}") };
    // Of two concurrent submits with one key only one creates a job.
    let (one, other) = (
        record(&JobId::generate().unwrap(), "at once", 1),
        record(&JobId::generate().unwrap(), "at once", 1),
    );
    let (first_lease, second_lease) = (lease(&first), lease(&second));
    let (one, other) = tokio::join!(store.create(&one, &first_lease), store.create(&other, &second_lease));
    match (one.unwrap(), other.unwrap()) {
        (CreateOutcome::New(claim), CreateOutcome::Existing(id))
        | (CreateOutcome::Existing(id), CreateOutcome::New(claim)) => {
            assert_eq!(claim.job_id, id);
        }
        both => panic!("{both:?}"),
    }
    // An append is conditional on where the log ends, and repeating it stores the events once.
    append(&store, &claim, vec![batch(&job_id, 1, &["a", "b"])]).await.unwrap();
    let again = vec![batch(&job_id, 1, &["a", "b"]), batch(&job_id, 3, &["c"])];
    append(&store, &claim, again).await.unwrap();
    assert!(matches!(
        append(&store, &claim, vec![batch(&job_id, 5, &["e"])]).await,
        Err(WriteRefusal::Stale)
    ));
    store.set_state(&claim, JobState::Running).await.unwrap();
    let known = store.get(&job_id).await.unwrap();
    assert_eq!((known.last_sequence, known.state, known.is_ended), (3, JobState::Running, false));

    // A held job cannot be claimed, and renewal keeps the lease alive.
    let held_by_second = store.claim(&lease(&second), 10).await.unwrap();
    assert!(held_by_second.jobs.is_empty(), "{held_by_second:?}");
    tokio::time::advance(Duration::from_secs(20)).await;
    store.renew(&lease(&first)).await.unwrap();
    tokio::time::advance(Duration::from_secs(20)).await;
    let claimed = store.claim(&lease(&second), 10).await.unwrap();
    assert!(claimed.jobs.iter().all(|left| left.claim.job_id != job_id), "{claimed:?}");
    // Once the lease has expired, the other holder takes the job over with everything that is stored.
    tokio::time::advance(Duration::from_secs(20)).await;
    let claimed = store.claim(&lease(&second), 10).await.unwrap();
    let left = claimed.jobs.into_iter().find(|left| left.claim.job_id == job_id).unwrap();
    assert_eq!((left.claim.epoch, left.last_sequence), (claim.epoch + 1, 3));
    assert!(matches!(
        append(&store, &claim, vec![batch(&job_id, 4, &["stale"])]).await,
        Err(WriteRefusal::Stale)
    ));
    assert!(matches!(store.set_state(&claim, JobState::Failed).await, Err(WriteRefusal::Stale)));
    assert!(matches!(store.end(&claim, &ended(&job_id, 3)).await, Err(WriteRefusal::Stale)));
    // Within one write the stale append is refused and the other one succeeds.
    let appends = vec![
        BatchAppend { claim: claim.clone(), batches: vec![batch(&job_id, 4, &["stale"])] },
        BatchAppend { claim: left.claim.clone(), batches: vec![batch(&job_id, 4, &["d"])] },
    ];
    let waiting = store.changed(&job_id, 3);
    let (changed, answers) = tokio::join!(waiting, store.append(appends));
    assert!(matches!(&answers[..], [Err(WriteRefusal::Stale), Ok(())]), "{answers:?}");
    assert_eq!(changed.unwrap(), LogHead { last_sequence: 4, is_ended: false });
    let mut reader = store.reader(&job_id).await.unwrap();
    let read = reader.read(1, 4, 1 << 20).await.unwrap();
    let texts: Vec<_> =
        read.batches.iter().flat_map(|batch| batch.payloads(0)).map(|(sequence, _)| sequence).collect();
    assert_eq!(texts, [1, 2, 3, 4]);
    // Marking the end is idempotent.
    let end = ended(&job_id, 4);
    let (changed, bytes) = tokio::join!(store.changed(&job_id, 4), store.end(&left.claim, &end));
    assert!(changed.unwrap().is_ended);
    assert_eq!(store.end(&left.claim, &end).await.unwrap(), bytes.unwrap());
    assert!(matches!(
        append(&store, &left.claim, vec![batch(&job_id, 5, &["f"])]).await,
        Err(WriteRefusal::Gone)
    ));
    assert_eq!(store.read(&job_id).await.unwrap().ended.unwrap().last_sequence, 4);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_one_holders_at_a_time() {
    two_holders(MemoryStore::default()).await;
    for durability in [Durability::Process, Durability::Fsync] {
        let directory = tempfile::tempdir().unwrap();
        two_holders(EmbeddedStore::open(directory.path(), durability).unwrap()).await;
    }
}

/// A reader at a gateway that does not run the job reads what the running gateway writes, across a takeover too.
#[tokio::test(start_paused = true)]
async fn readers_follow_a_job_that_was_taken_over() {
    let store = Arc::new(MemoryStore::default());
    let parts = || JournalParts {
        catalogue: store.clone(),
        events: store.clone(),
        policy: Arc::new(OwnersOnly),
        max_tail_bytes: 4096,
        max_log_bytes: crate::quota::Bounds { most: 1 << 40, most_per_caller: None },
    };
    let (stuck, _) = Journal::open(parts()).await.unwrap();
    let (other, _) = Journal::open(parts()).await.unwrap();
    let appender = submit(&stuck, "", 0).await;
    let job_id = appender.job_id().clone();
    appender.append(&token("a"), |_| None).await.unwrap();
    appender.flushed(Duration::from_secs(5)).await.unwrap();
    let takes_over = async {
        // The first gateway stops renewing its lease, as if it had died.
        stuck.close(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let left = other.claim(10).await.unwrap().jobs.remove(0);
        let taken = other.reopen(&left);
        taken.append(&token("b"), |_| None).await.unwrap();
        taken.append(&end(), |_| None).await.unwrap();
        assert!(other.finish(taken, &ended(&job_id, 3), lost).await);
    };
    let elsewhere = texts(other.follow(&principal("local"), &job_id, 0).await.unwrap());
    let ((), elsewhere) = tokio::join!(takes_over, elsewhere);
    assert_eq!(elsewhere.len(), 3);
}

/// Retention removes jobs of whichever owner has the most, oldest first, and never those of an owner with fewer.
#[tokio::test]
async fn nobodys_jobs_make_room_for_anothers() {
    let store = MemoryStore::default();
    store.open().await.unwrap();
    let holder = Holder::generate().unwrap();
    let mut jobs = Vec::new();
    for number in 0..60 {
        let job_id = JobId::generate().unwrap();
        let name = if number < 3 { "modest" } else { "greedy" };
        let mut new = record(&job_id, &format!("key {number}"), 0);
        new.principal = Some(principal(name).to_stored());
        let CreateOutcome::New(claim) = store.create(&new, &lease(&holder)).await.unwrap() else { panic!() };
        store.end(&claim, &ended(&job_id, 0)).await.unwrap();
        jobs.push(job_id);
    }
    let keep = Retention {
        max_age: Duration::from_secs(3600),
        max_bytes: u64::MAX,
        max_jobs: 50,
        max_bytes_per_owner: None,
        max_jobs_per_owner: None,
    };
    assert_eq!(store.expired(&keep, 100).await.unwrap(), jobs[3..13]);
    assert_eq!(store.expired(&keep, 4).await.unwrap(), jobs[3..7]);
    let own = Retention { max_jobs: 100, max_jobs_per_owner: Some(2), ..keep };
    let expired = store.expired(&own, 100).await.unwrap();
    assert_eq!(expired.len(), 1 + 55);
    assert!(expired.contains(&jobs[0]) && !expired.contains(&jobs[1]));
    let all = Retention { max_jobs: 0, ..keep };
    assert_eq!(store.expired(&all, 100).await.unwrap().len(), 60);
}

#[tokio::test]
async fn memory_store() {
    suite(MemoryStore::default()).await;
}

#[tokio::test]
async fn embedded_store() {
    for durability in [Durability::Process, Durability::Fsync] {
        let directory = tempfile::tempdir().unwrap();
        suite(EmbeddedStore::open(directory.path(), durability).unwrap()).await;
    }
}

#[tokio::test]
async fn a_store_has_one_user() {
    let directory = tempfile::tempdir().unwrap();
    let _first = EmbeddedStore::open(directory.path(), Durability::Process).unwrap();
    let second = EmbeddedStore::open(directory.path(), Durability::Process).unwrap_err();
    assert!(second.message().contains("another gateway"), "{second}");
}
