//! Simulated clients: they submit, follow, disconnect, come back, cancel and query, and remember what they were told.

use std::{future::Future, sync::Arc, time::Duration};

use super::{gateway::SimulatedGateway, world::World};
use crate::{
    error::{Error, Reason, Result},
    job::{CancelledBy, Submission, Submitted},
    journal::{Filter, JobId},
    pb::{self, Door, JobState, TaskOptions},
    principal::Principal,
};

fn caller(number: u64) -> Principal {
    Principal::from_proxy(&format!("caller{}", number % 3))
}

fn submission(world: &World, client: u64) -> Submission {
    let has_key = world.percent(40);
    let key = world.below(6);
    // An idempotency key always comes with the same body and the same caller.
    let number = if has_key { 1_000 + key } else { world.below(1_000) };
    let by = if has_key { key } else { client };
    Submission {
        caller: caller(by),
        door: Door::Grpc,
        task: Some(pb::Task { task: Some(pb::task::Task::Command(format!("do {number}"))) }),
        options: TaskOptions {
            idempotency_key: if has_key { format!("key{key}") } else { String::new() },
            queue_timeout_seconds: if !has_key && world.percent(10) { 1 } else { 0 },
            ..TaskOptions::default()
        },
        is_held: world.percent(15),
        trace: None,
    }
}

/// Returns whether an error may occur although nothing is wrong.
fn is_expected(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::QueueFull | Reason::ShuttingDown | Reason::Shutdown | Reason::StoreUnavailable
    )
}

/// Checks an error that was returned for a job that was accepted.
fn check_failure(world: &World, job_id: &JobId, error: &Error) {
    match error.reason() {
        Reason::JobNotFound => world.told_gone(job_id),
        _ => assert!(is_expected(error), "{job_id}: {error:?}"),
    }
}

/// Whether a client waited for the response.
enum AnswerReceipt {
    Whole,
    Left,
}

/// Awaits a response. Some clients disconnect before it arrives, which yields `None`.
async fn or_leave<T>(world: &World, asked: impl Future<Output = T>) -> Option<T> {
    if world.percent(80) {
        return Some(asked.await);
    }
    let patience = Duration::from_millis(world.below(30));
    tokio::time::timeout(patience, asked).await.ok()
}

async fn pause(world: &World, longest: u64) {
    tokio::time::sleep(Duration::from_millis(world.below(longest))).await;
}

/// Runs one client.
pub(super) async fn live(world: Arc<World>, service: SimulatedGateway, client: u64) {
    for _ in 0..world.below(5) {
        pause(&world, 800).await;
        let submission = submission(&world, client);
        let (by, key) = (submission.caller.clone(), submission.options.idempotency_key.clone());
        let submitted = match or_leave(&world, service.submit(submission)).await {
            Some(Ok(submitted)) => submitted,
            None => continue,
            Some(Err(error)) => {
                assert!(is_expected(&error), "{error:?}");
                world.note(format_args!("client {client}: refused {}", error.reason().name()));
                continue;
            }
        };
        let Submitted { job_id, mut held, .. } = submitted;
        world.note(format_args!("client {client}: {job_id} new {}", submitted.is_new));
        world.accepted(&job_id, &key, by.name());
        for _ in 0..1 + world.below(3) {
            let is_gone = world.told(&job_id).is_gone;
            let done = match world.below(6) {
                0 => cancel(&world, &service, &by, &job_id).await,
                1 => ask(&world, &service, &by, &job_id).await,
                2 => delete(&world, &service, &by, &job_id).await,
                _ => follow(&world, &service, &by, &job_id).await,
            };
            match done {
                Err(error) => check_failure(&world, &job_id, &error),
                Ok(AnswerReceipt::Whole) => {
                    // A gateway that was cut off may still show a job that it held and that others have since ended and deleted.
                    let was_cut_off = world.reaches(service.gateway).is_some();
                    assert!(!is_gone || was_cut_off, "{job_id} came back");
                }
                Ok(AnswerReceipt::Left) => {}
            }
            // The disconnect guard is otherwise dropped later, which cancels the job.
            if let Some(held) = held.take_if(|_| world.percent(30)) {
                held.release();
            }
        }
    }
}

async fn ask(
    world: &World,
    service: &SimulatedGateway,
    by: &Principal,
    job_id: &JobId,
) -> Result<AnswerReceipt> {
    let Some(job) = or_leave(world, service.get(by, job_id)).await else { return Ok(AnswerReceipt::Left) };
    let job = job?;
    if job.state() == JobState::Queued
        && let Some(position) = job.queue_position
    {
        let (_, queued) = service.counts();
        assert!(position >= 1 && position as usize <= queued.max(1), "{position} of {queued}");
    }
    world.told_state(service.gateway, &job);
    Ok(AnswerReceipt::Whole)
}

async fn cancel(
    world: &World,
    service: &SimulatedGateway,
    by: &Principal,
    job_id: &JobId,
) -> Result<AnswerReceipt> {
    pause(world, 300).await;
    let wait = Duration::from_secs(world.below(3));
    let asked = service.cancel(by, job_id, CancelledBy::Caller(by.name().to_owned()), wait);
    let Some(job) = or_leave(world, asked).await else { return Ok(AnswerReceipt::Left) };
    let job = job?;
    world.note(format_args!("{job_id} cancelled: {:?}", job.state()));
    world.told_state(service.gateway, &job);
    if job.state() == JobState::Cancelled && job.start_time.is_none() {
        world.cancelled_before_start(job_id);
    }
    Ok(AnswerReceipt::Whole)
}

async fn delete(
    world: &World,
    service: &SimulatedGateway,
    by: &Principal,
    job_id: &JobId,
) -> Result<AnswerReceipt> {
    pause(world, 3_000).await;
    world.may_go(job_id);
    let Some(deleted) = or_leave(world, service.delete(by, job_id)).await else {
        return Ok(AnswerReceipt::Left);
    };
    match deleted {
        Ok(()) => world.told_gone(job_id),
        Err(error) if error.reason() == Reason::JobNotEnded => {}
        Err(error) => return Err(error),
    }
    world.note(format_args!("{job_id} deleted"));
    Ok(AnswerReceipt::Whole)
}

/// Follows a job from a random event on, for a while or to its end.
async fn follow(
    world: &World,
    service: &SimulatedGateway,
    by: &Principal,
    job_id: &JobId,
) -> Result<AnswerReceipt> {
    let known = u64::from(world.told(job_id).events.keys().next_back().copied().unwrap_or(0));
    let after = u32::try_from(world.below(known + 1)).unwrap();
    let mut follower = service.follow(by, job_id, after).await?;
    let mut next = after + 1;
    let leaves_after = world.below(40);
    loop {
        if u64::from(next - after) > leaves_after {
            return Ok(AnswerReceipt::Whole);
        }
        let slice = tokio::select! {
            biased;
            slice = follower.next() => slice,
            () = service.closing().cancelled() => return Ok(AnswerReceipt::Whole),
        };
        let Some(slice) = slice? else {
            assert!(follower.is_ended());
            return Ok(AnswerReceipt::Whole);
        };
        for index in slice.from..slice.batch.len() {
            let event = slice.batch.decode(index).unwrap();
            assert_eq!(event.sequence, next, "{job_id}: without gaps");
            world.seen(service.gateway, job_id, event.sequence, &slice.batch.event(index));
            next += 1;
        }
        if world.percent(20) {
            pause(world, 500).await;
        }
    }
}

/// Reads, in this life, the jobs that were accepted in earlier ones.
pub(super) async fn reread(world: Arc<World>, service: SimulatedGateway) {
    for job_id in world.accepted_jobs() {
        for by in (0..3).map(caller) {
            let told = world.told(&job_id);
            match follow(&world, &service, &by, &job_id).await {
                Ok(_) => {
                    assert!(told.caller == by.name() && !told.is_gone, "{job_id} is not there for {by:?}")
                }
                Err(error) if told.caller == by.name() => check_failure(&world, &job_id, &error),
                Err(error) => assert_eq!(error.reason(), Reason::JobNotFound, "{job_id} is somebody else's"),
            }
        }
    }
}

/// Checks that every accepted job ended exactly once, as clients were told, or was deleted.
pub(super) async fn check_all(world: &World, service: &SimulatedGateway) {
    for job_id in world.accepted_jobs() {
        for by in (0..3).map(caller) {
            let told = world.told(&job_id);
            match check_one(world, service, &by, &job_id).await {
                Ok(()) => {
                    assert!(told.caller == by.name() && !told.is_gone, "{job_id} is not there for {by:?}")
                }
                Err(error) => {
                    assert_eq!(error.reason(), Reason::JobNotFound, "{job_id}: {error:?}");
                    if told.caller == by.name() {
                        world.told_gone(&job_id);
                    }
                }
            }
        }
    }
    // Jobs that no client was told of must end too, and once retention is through, the listings must match the store.
    let until = tokio::time::Instant::now() + Duration::from_secs(1800);
    while world.contents().values().any(|known| !known.is_ended) {
        assert!(tokio::time::Instant::now() < until, "a job was stored, and nobody ran it");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let kept = world.contents();
    let mut listed = Vec::new();
    for by in (0..3).map(caller) {
        let page = service.journal().list(&by, &Filter::default(), None, 500).await.unwrap();
        listed.extend(page.jobs.into_iter().map(|job| JobId::parse(&job.job_id).unwrap()));
    }
    listed.sort();
    let kept: Vec<_> = kept.into_keys().collect();
    assert_eq!(listed, kept);
}

async fn check_one(world: &World, service: &SimulatedGateway, by: &Principal, job_id: &JobId) -> Result<()> {
    let job = service.wait(by, job_id).await?;
    assert!(job.state().is_terminal());
    world.told_state(service.gateway, &job);
    let mut follower = service.follow(by, job_id, 0).await?;
    let (mut next, mut ends, mut outcomes) = (1, 0, 0);
    while let Some(slice) = follower.next().await? {
        for (sequence, payload) in slice.batch.payloads(slice.from) {
            assert_eq!(sequence, next, "{job_id}: without gaps");
            assert_eq!(ends, 0, "{job_id}: nothing follows the end");
            next += 1;
            match payload {
                pb::job_event::Payload::EndOfStream(end) => {
                    ends += 1;
                    assert_eq!(end.state(), job.state(), "{job_id}");
                }
                pb::job_event::Payload::Result(_) | pb::job_event::Payload::Error(_) => outcomes += 1,
                _ => {}
            }
        }
        for index in slice.from..slice.batch.len() {
            let sequence = slice.batch.first_sequence() + u32::try_from(index).unwrap();
            world.seen(service.gateway, job_id, sequence, &slice.batch.event(index));
        }
    }
    assert_eq!((ends, outcomes), (1, 1), "{job_id}");
    assert_eq!(job.last_sequence, next - 1, "{job_id}");
    let told = world.told(job_id);
    assert!(told.events.keys().next_back().is_none_or(|last| *last < next), "{job_id}: seen events are gone");
    assert!(!told.is_cancelled_before_start || world.begun(job_id) == 0, "{job_id}: cancelled, and begun");
    world.note(format_args!("{job_id} {:?} {}", job.state(), job.last_sequence));
    Ok(())
}
