//! Checking a submission and taking it in.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{
    HeldJob, JobService,
    admission::Turn,
    live::Live,
    normal::{Normal, normal},
};
use crate::{
    agent,
    caller::Caller,
    error::{Error, Reason, Result},
    journal::{self, JobId},
    pb::{Door, Job, JobState, Task, TaskOptions, Timestamp, storage::JobRecord},
};

/// How long a submit waits for the store.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// A task as a door hands it in: nobody has looked at its texts.
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

impl JobService {
    /// Takes a task in. When this answers, the job is stored and will end with exactly one outcome.
    ///
    /// # Errors
    /// What is wrong with the task or its options; [`Reason::IdempotencyConflict`]; [`Reason::QueueFull`],
    /// [`Reason::ShuttingDown`] and [`Reason::StoreUnavailable`], which mean that nothing was accepted.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted> {
        let Normal { task, options, read, digest, raw_digest } = normal(submission.task, submission.options)?;
        // A repeated submit is answered although the queue may be full by now. The job of an earlier build may be known by the
        // digest of what was handed in.
        let key = options.idempotency_key.as_str();
        let known = self.journal().by_key(&submission.caller, key, &digest);
        let known = known
            .or_else(|error| self.journal().by_key(&submission.caller, key, &raw_digest).map_err(|_| error));
        if let Some(job_id) = known? {
            return Ok(Submitted { job_id, is_new: false, held: None });
        }
        let job_id = JobId::generate()?;
        let job = Job {
            job_id: job_id.to_string(),
            state: JobState::Queued as i32,
            task: Some(task),
            options: Some(options),
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
            let accepted = service.accept(job_id, job, digest, read).await;
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
