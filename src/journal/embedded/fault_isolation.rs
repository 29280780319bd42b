//! Tests that one unreadable file or a torn catalogue affects nothing else.

use std::{fs, sync::Arc, time::Duration};

use super::{
    super::{
        BatchAppend, Catalogue, Claim, CreateOutcome, EventBatch, EventLog, Holder, Lease, Query,
        WriteRefusal,
    },
    *,
};
use crate::pb::{EndOfStream, JobState, TaskOptions, Timestamp, job_event::Payload};

fn record(job_id: &JobId) -> JobRecord {
    let job = Job {
        job_id: job_id.to_string(),
        caller: "local".into(),
        options: Some(TaskOptions::default()),
        create_time: Some(Timestamp::now()),
        ..Job::default()
    };
    JobRecord { job: Some(job), ..JobRecord::default() }
}

fn lease() -> Lease {
    Lease { holder: Holder::generate().unwrap(), time: Duration::from_secs(30) }
}

async fn create(store: &EmbeddedStore) -> Claim {
    let job_id = JobId::generate().unwrap();
    match store.create(&record(&job_id), &lease()).await.unwrap() {
        CreateOutcome::New(claim) => claim,
        CreateOutcome::Existing(job_id) => panic!("{job_id} is new"),
    }
}

async fn write(
    store: &EmbeddedStore,
    claim: &Claim,
    first: u32,
    payload: Payload,
) -> Result<(), WriteRefusal> {
    let batches = vec![Arc::new(EventBatch::encoded(&claim.job_id, first, &[payload]))];
    store.append(vec![BatchAppend { claim: claim.clone(), batches }]).await.remove(0)
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, Durability::Process).unwrap()
}

/// The file of one unfinished job is replaced by a directory: that job is reported as unreadable, everything else works, and the
/// job returns once its file can be read.
#[tokio::test(start_paused = true)]
async fn one_file_that_cannot_be_read_is_one_jobs_trouble() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert!(Catalogue::open(&store).await.unwrap().is_empty());
    let (bad, good) = (create(&store).await, create(&store).await);
    store.close().await;
    let file = directory.path().join("jobs").join(bad.job_id.as_str());
    let kept = directory.path().join("kept");
    fs::rename(&file, &kept).unwrap();
    fs::create_dir(&file).unwrap();

    let store = open(directory.path());
    assert!(Catalogue::open(&store).await.unwrap().is_empty(), "nothing is damaged");
    let lease = lease();
    let claimed = store.claim(&lease, 10).await.unwrap();
    let ids: Vec<_> = claimed.jobs.iter().map(|left| &left.claim.job_id).collect();
    assert_eq!(ids, [&good.job_id]);
    let known = store.get(&bad.job_id).await.unwrap();
    assert_eq!((known.fault, known.is_ended), (Some(super::super::StorageFault::Unreadable), false));
    let query =
        Query { owner: Principal::local(), filter: super::super::Filter::default(), before: None, limit: 10 };
    assert_eq!(store.list(&query).await.unwrap().len(), 2, "a listing reads no job's file");
    assert!(store.claim(&lease, 10).await.unwrap().jobs.is_empty(), "it is left alone for a while");
    fs::remove_dir(&file).unwrap();
    fs::rename(&kept, &file).unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    store.renew(&lease).await.unwrap();
    let claimed = store.claim(&lease, 10).await.unwrap();
    assert_eq!(claimed.jobs.len(), 1);
    assert_eq!(claimed.jobs[0].claim.job_id, bad.job_id);
    assert_eq!(store.get(&bad.job_id).await.unwrap().fault, None);
}

/// A job whose own file fails is given up as lost; another job in the same write continues, and after a restart the job is still
/// lost.
#[tokio::test]
async fn a_file_that_fails_for_good_is_one_jobs_loss() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    Catalogue::open(&store).await.unwrap();
    let (bad, good) = (create(&store).await, create(&store).await);
    let file = directory.path().join("jobs").join(bad.job_id.as_str());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let end = || Payload::EndOfStream(EndOfStream::default());
    let batch = |claim: &Claim| vec![Arc::new(EventBatch::encoded(&claim.job_id, 1, &[end()]))];
    let appends =
        [&bad, &good].map(|claim| BatchAppend { claim: claim.clone(), batches: batch(claim) }).to_vec();
    let answers = store.append(appends).await;
    assert!(matches!(&answers[..], [Err(WriteRefusal::Unavailable(_)), Ok(())]), "{answers:?}");
    assert!(Catalogue::check(&store).await.is_ok(), "the store takes other things");
    let mut ended = record(&bad.job_id).job.unwrap();
    ended.set_state(JobState::Interrupted);
    ended.end_time = Some(Timestamp::now());
    store.give_up(&bad, &ended).await.unwrap();
    assert!(matches!(write(&store, &bad, 1, end()).await, Err(WriteRefusal::Gone)));
    let lost = (Some(super::super::StorageFault::Lost), JobState::Interrupted, true);
    let known = store.get(&bad.job_id).await.unwrap();
    assert_eq!((known.fault, known.state, known.is_ended), lost);
    store.close().await;
    let store = open(directory.path());
    Catalogue::open(&store).await.unwrap();
    let known = store.get(&bad.job_id).await.unwrap();
    assert_eq!((known.fault, known.state, known.is_ended), lost);
}

/// A catalogue that ends within an entry is cut off there: no job file has to be read for that, and what the entry said is found
/// in its job file.
#[tokio::test]
async fn a_torn_end_of_the_catalogue_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    Catalogue::open(&store).await.unwrap();
    let (first, second) = (create(&store).await, create(&store).await);
    let mut ended = record(&first.job_id).job.unwrap();
    ended.set_state(JobState::Succeeded);
    ended.end_time = Some(Timestamp::now());
    store.end(&first, &ended).await.unwrap();
    store.close().await;
    let path = directory.path().join("catalogue");
    let bytes = fs::read(&path).unwrap();
    let cut = |cut: usize| bytes[..bytes.len() - cut].to_vec();
    // Parts of the last entry that were never written, its head among them, while what is behind them was.
    let start = catalogue::read(&mut &cut(1)[..], |_, _| Ok(())).unwrap().length as usize;
    let holes = (start..bytes.len()).step_by(7).flat_map(|from| {
        let ends = [from + 4, from + 40, bytes.len()].map(|end| end.min(bytes.len()));
        ends.map(|end| [&bytes[..from], &vec![0; end - from], &bytes[end..]].concat())
    });
    for torn in (1..20).map(cut).chain(holes) {
        if torn == bytes {
            continue;
        }
        fs::write(&path, &torn).unwrap();
        let store = open(directory.path());
        let damage = Catalogue::open(&store).await.unwrap();
        assert!(damage.len() == 1 && damage[0].what.contains("cut off"), "{damage:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), start as u64, "it was cut");
        // The end of the first job is in its file and is found when the job is claimed.
        let claimed = store.claim(&lease(), 10).await.unwrap();
        assert!(claimed.damage.is_empty() && claimed.jobs.len() == 1, "{claimed:?}");
        assert_eq!(claimed.jobs[0].claim.job_id, second.job_id);
        assert!(store.get(&first.job_id).await.unwrap().is_ended);
        store.close().await;
        let store = open(directory.path());
        assert!(Catalogue::open(&store).await.unwrap().is_empty(), "the catalogue is whole again");
        assert!(store.get(&first.job_id).await.unwrap().is_ended);
        store.close().await;
    }
}
