//! Checks a submission and accepts it as a job.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    CancelledBy, DisconnectGuard, JobService,
    admission::Admitted,
    live_job::LiveJob,
    normalization::{NormalizedTask, normal},
    title::title_of,
};
use crate::{
    agent,
    error::{Error, Reason, Result},
    journal::{self, JobId},
    pb::{Door, Job, JobState, Task, TaskOptions, Timestamp, storage::JobRecord},
    principal::Principal,
    telemetry::TraceContext,
};

/// How long a submission waits for the store.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// A task as a door hands it in, with unchecked text.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The caller, who will own the job.
    pub caller: Principal,
    /// The door through which it came.
    pub door: Door,
    /// The task.
    pub task: Option<Task>,
    /// The options of the task.
    pub options: TaskOptions,
    /// Whether to cancel the job when this client leaves before its end, unless other clients hold it too or want it to go
    /// on.
    pub is_held: bool,
    /// The trace that the request belongs to, if it named one.
    pub trace: Option<TraceContext>,
}

/// The result of a submission.
#[derive(Debug)]
pub struct Submitted {
    /// The new job, or the existing one with the same idempotency key.
    pub job_id: JobId,
    /// Whether the job is new.
    pub is_new: bool,
    /// The disconnect guard, if one was requested and the job has not ended.
    pub held: Option<DisconnectGuard>,
}

impl JobService {
    /// Accepts a task. Once this returns, the job is stored and will end with exactly one outcome.
    ///
    /// # Errors
    /// What is wrong with the task or its options; [`Reason::IdempotencyConflict`]; [`Reason::QueueFull`] and
    /// [`Reason::ShuttingDown`], after which nothing is stored; [`Reason::StoreUnavailable`], which may leave it unknown
    /// whether the job was accepted.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted> {
        let NormalizedTask { task, options, read, digest, earlier_digests } =
            normal(submission.task, submission.options)?;
        self.journal().policy().may_submit(&submission.caller, &task)?;
        // Looked up before admission, so that a repeated submission succeeds even if the queue is full. A job of an earlier
        // build may be stored under that build's digest.
        let key = options.idempotency_key.as_str();
        let digests: [&[u8]; 3] = [&digest, &earlier_digests[0], &earlier_digests[1]];
        while let Some(job_id) = self.journal().by_key(&submission.caller, key, &digests).await? {
            if self.is_given_up(&submission.caller, &job_id).await {
                continue;
            }
            self.wait_until_launched(&job_id).await;
            let held = self.join(&submission.caller, &job_id, submission.is_held);
            return Ok(Submitted { job_id, is_new: false, held });
        }
        let job_id = JobId::generate()?;
        let job = Job {
            job_id: job_id.to_string(),
            title: title_of(&task),
            state: JobState::Queued as i32,
            task: Some(task),
            options: Some(options),
            caller: submission.caller.name().to_owned(),
            door: submission.door as i32,
            create_time: Some(Timestamp::now()),
            trace_parent: submission.trace.map(|trace| trace.to_string()),
            ..Job::default()
        };
        // Runs in its own task: a client that disconnects now must not leave a stored job that nobody runs. The result
        // carries the disconnect guard, so if nobody receives it, the job is cancelled.
        let (service, is_held, caller) = (self.clone(), submission.is_held, submission.caller);
        let (answer, accepted) = oneshot::channel();
        self.tasks().spawn("submit", async move {
            let record =
                JobRecord { job: Some(job), request_digest: digest, principal: Some(caller.to_stored()) };
            let accepted = service.accept(job_id, &caller, record, read).await;
            if let Ok((job_id, false)) = &accepted {
                service.wait_until_launched(job_id).await;
            }
            let submitted = accepted.map(|(job_id, is_new)| {
                let held = service.join(&caller, &job_id, is_held);
                Submitted { held, job_id, is_new }
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

    /// Returns whether a job is being cancelled because its clients left, which frees its idempotency key; waits for its end,
    /// up to [`STORE_DEADLINE`].
    async fn is_given_up(&self, caller: &Principal, job_id: &JobId) -> bool {
        let Some(live) = self.find_live(caller, job_id) else { return false };
        live.cancelled_by() == Some(CancelledBy::Disconnect)
            && tokio::time::timeout(STORE_DEADLINE, live.ended.cancelled()).await.is_ok()
    }

    /// Waits until a job that was found by its key is live, up to [`STORE_DEADLINE`]: who joins it has to be counted.
    async fn wait_until_launched(&self, job_id: &JobId) {
        let launched = self.launching().get(job_id).cloned();
        if let Some(launched) = launched {
            // After the deadline the client is answered without being counted.
            let _late = tokio::time::timeout(STORE_DEADLINE, launched.cancelled()).await;
        }
    }

    /// Reserves admission, stores the job and launches it. Returns the job and whether it is new.
    async fn accept(
        &self,
        job_id: JobId,
        caller: &Principal,
        record: JobRecord,
        task: agent::Task,
    ) -> Result<(JobId, bool)> {
        let promise = self.admission().reserve(caller)?;
        let job = record.job.clone().unwrap_or_default();
        let _launching = Launching::begin(self, &job_id);
        match self.journal().submit(record).await? {
            journal::SubmitOutcome::Existing(job_id) => Ok((job_id, false)),
            journal::SubmitOutcome::New(appender) => {
                let turn = promise.redeem(&job_id, self.worker().needs(caller, &job, &task));
                self.launch(LiveJob::new(job, appender.stored()), task, appender, turn);
                Ok((job_id, true))
            }
        }
    }

    /// Launches a stored job that was still queued when the previous process ended.
    pub(super) fn resubmit(&self, job: Job, task: agent::Task, appender: journal::Appender) {
        let job_id = appender.job_id().clone();
        let owner = appender.stored().owner().clone();
        let needs = self.worker().needs(&owner, &job, &task);
        let turn: Admitted = self.admission().admit(&owner, &job_id, needs);
        self.launch(LiveJob::new(job, appender.stored()), task, appender, turn);
    }
}

/// Marks a job as being stored and not live yet, until this is dropped.
struct Launching<'a> {
    service: &'a JobService,
    job_id: JobId,
}

impl<'a> Launching<'a> {
    fn begin(service: &'a JobService, job_id: &JobId) -> Self {
        service.launching().insert(job_id.clone(), CancellationToken::new());
        Self { service, job_id: job_id.clone() }
    }
}

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        let launched = self.service.launching().remove(&self.job_id);
        if let Some(launched) = launched {
            launched.cancel();
        }
    }
}
