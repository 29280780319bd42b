//! Checking a submission and taking it in.

use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::{HeldJob, JobService, admission::Turn, live::Live};
use crate::{
    agent,
    caller::Caller,
    engine::is_id,
    error::{Error, Reason, Result},
    journal::{self, JobId},
    pb::{Door, Job, JobState, OnDisconnect, Task, TaskOptions, Timestamp, storage::JobRecord},
};

/// How long a submit waits for the store.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// A task as a door hands it in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Who.
    pub caller: Caller,
    /// Through which door.
    pub door: Door,
    /// What.
    pub task: Option<Task>,
    /// How.
    pub options: TaskOptions,
    /// Whether a new job is cancelled when the client leaves before its end.
    pub is_held: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct Submitted {
    /// The job, new or that of the same idempotency key.
    pub job_id: JobId,
    /// Whether it is new.
    pub is_new: bool,
    /// The hold on a new job, where one was asked for.
    pub held: Option<HeldJob>,
}

fn check_options(options: &TaskOptions) -> Result<()> {
    let key = &options.idempotency_key;
    if key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid("options.idempotency_key", "must be 1 to 255 visible ASCII characters"));
    }
    if !options.conversation_id.is_empty() && !is_id(&options.conversation_id) {
        let message = "must begin with a letter or digit and hold only letters, digits, `_` and `-`, at most 128 of them";
        return Err(Error::invalid("options.conversation_id", message));
    }
    if OnDisconnect::try_from(options.on_disconnect).is_err() {
        return Err(Error::invalid("options.on_disconnect", "must be CONTINUE or CANCEL"));
    }
    if options.labels.len() > 32 {
        return Err(Error::invalid("options.labels", "must be at most 32"));
    }
    for (key, value) in &options.labels {
        if !is_id(key) || value.len() > 256 {
            let shown: String = key.chars().take(40).collect();
            let message = "a label's key must be letters, digits, `_` and `-`, its value at most 256 bytes";
            return Err(Error::invalid(format!("options.labels.{shown}"), message));
        }
    }
    if !options.working_directory.is_empty() {
        return Err(Error::new(
            Reason::Unsupported,
            "this engine runs in its own root and cannot work in another directory; leave working_directory out",
        )
        .at("options.working_directory"));
    }
    Ok(())
}

/// Tells a repeated submit from another one: SHA-256 over the encoded task and options.
fn digest(task: &Task, options: &TaskOptions) -> bytes::Bytes {
    let mut hash = Sha256::new();
    hash.update(task.encode_to_vec());
    hash.update(options.encode_to_vec());
    hash.finalize().to_vec().into()
}

impl JobService {
    /// Takes a task in. When this answers, the job is stored and will end with exactly one outcome.
    ///
    /// # Errors
    /// What is wrong with the task or its options; [`Reason::IdempotencyConflict`]; [`Reason::QueueFull`],
    /// [`Reason::ShuttingDown`] and [`Reason::StoreUnavailable`], which mean that nothing was accepted.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted> {
        let task = agent::Task::read(submission.task.as_ref(), &submission.options.conversation_id)?;
        check_options(&submission.options)?;
        let wire_task = submission.task.unwrap_or_default();
        let request_digest = digest(&wire_task, &submission.options);
        let key = submission.options.idempotency_key.clone();
        // A repeated submit is answered although the queue may be full by now.
        if let Some(job_id) = self.journal().by_key(&submission.caller, &key, &request_digest)? {
            return Ok(Submitted { job_id, is_new: false, held: None });
        }
        let job_id = JobId::generate()?;
        let job = Job {
            job_id: job_id.to_string(),
            state: JobState::Queued as i32,
            task: Some(wire_task),
            options: Some(submission.options),
            caller: submission.caller.name().to_owned(),
            door: submission.door as i32,
            create_time: Some(Timestamp::now()),
            ..Job::default()
        };
        // In a task of its own: a client that leaves now must not leave a stored job behind that nobody runs.
        // The answer carries the hold: nobody takes it, and the job is cancelled.
        let (service, is_held, caller) = (self.clone(), submission.is_held, submission.caller);
        let (answer, accepted) = oneshot::channel();
        self.tasks().spawn("submit", async move {
            let accepted = service.accept(job_id, job, request_digest, task).await;
            let submitted = accepted.map(|(job_id, is_new)| {
                let hold = || HeldJob::new(service.clone(), caller, job_id.clone());
                Submitted { held: (is_held && is_new).then(hold), job_id, is_new }
            });
            let _left = answer.send(submitted);
        });
        match tokio::time::timeout(STORE_DEADLINE, accepted).await {
            Ok(accepted) => accepted.map_err(Error::internal)?,
            Err(_) => {
                let message = "the store does not answer; it is not known whether the job was accepted, so ask again with an idempotency key";
                Err(Error::new(Reason::StoreUnavailable, message))
            }
        }
    }

    /// Promises a place, stores the job, launches it. Answers with the job and whether it is new.
    async fn accept(
        &self,
        job_id: JobId,
        job: Job,
        request_digest: bytes::Bytes,
        task: agent::Task,
    ) -> Result<(JobId, bool)> {
        let promise = self.admission().promise(&Caller::named(&job.caller))?;
        let record = JobRecord { job: Some(job.clone()), request_digest };
        match self.journal().submit(record).await? {
            journal::Submitted::Existing(job_id) => Ok((job_id, false)),
            journal::Submitted::New(appender) => {
                let turn = promise.keep(&job_id);
                self.launch(Live::new(job, appender.stored()), task, appender, turn);
                Ok((job_id, true))
            }
        }
    }

    /// Takes a stored job in again that was queued when the process before this one ended.
    pub(super) fn resubmit(&self, job: Job, task: agent::Task, appender: journal::Appender) {
        let job_id = appender.job_id().clone();
        let turn: Turn = self.admission().admit(&Caller::named(&job.caller), &job_id);
        self.launch(Live::new(job, appender.stored()), task, appender, turn);
    }
}
