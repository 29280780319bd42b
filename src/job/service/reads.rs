//! Reading jobs: their events, their state, lists of them.

use std::time::Duration;

use super::{JobPage, JobService, MAX_PAGE_BYTES};
use crate::{
    agent,
    error::{Error, Reason, Result},
    journal::{EventFollower, Filter, JobId, summary},
    pb::{Job, JobState},
    principal::Principal,
};
use prost::Message;

/// A job whose state has changed.
#[derive(Debug)]
pub(crate) struct ChangedJob {
    /// The job as it is stored, as a summary.
    pub(crate) job: Job,
    /// Whether everything is stored that was written of it when it was asked for. If not, a later state has to be asked for again.
    pub(crate) is_stored: bool,
}

/// How long a change of a job may take to be stored before the job is shown as it is.
const CHANGE_TIME: Duration = Duration::from_secs(5);

impl JobService {
    /// Subscribes to a job's events after `after_sequence`, whether it still runs or has ended.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::CursorBeyondLog`], [`Reason::DataLoss`], [`Reason::StoreUnavailable`].
    pub async fn follow(
        &self,
        caller: &Principal,
        job_id: &JobId,
        after_sequence: u32,
    ) -> Result<EventFollower> {
        self.inner.journal.follow(caller, job_id, after_sequence).await
    }

    /// Returns the current state of a job, with secrets in its task masked.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::DataLoss`], [`Reason::StoreUnavailable`].
    pub async fn get(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        let mut job = self.read(caller, job_id).await?;
        job.task = job.task.take().map(agent::masked);
        Ok(job)
    }

    /// Returns a job once the change that was announced of it is stored, or `None` if it was removed. Waits at most 5 seconds
    /// for the store, and returns the job as it is stored then. Cancel safe.
    ///
    /// # Errors
    /// As [`JobService::get`], apart from [`Reason::JobNotFound`].
    pub(crate) async fn changed_job(&self, caller: &Principal, job_id: &JobId) -> Result<Option<ChangedJob>> {
        let is_stored = match self.find_live(caller, job_id) {
            Some(live) => tokio::time::timeout(CHANGE_TIME, live.stored()).await.is_ok(),
            None => true,
        };
        match self.read(caller, job_id).await {
            Ok(job) => Ok(Some(ChangedJob { job: summary(&job), is_stored })),
            Err(error) if error.reason() == Reason::JobNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the summaries of the caller's jobs that have not ended and that this process holds, oldest first.
    pub(crate) fn unfinished(&self, caller: &Principal) -> Vec<Job> {
        let policy = self.inner.journal.policy();
        let live: Vec<_> =
            self.live().values().filter(|live| policy.may_access(caller, &live.caller)).cloned().collect();
        live.iter().map(|live| summary(&live.stored_snapshot())).collect()
    }

    async fn read(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        if let Some(live) = self.find_live(caller, job_id) {
            let mut job = live.stored_snapshot();
            if job.state() == JobState::Queued {
                job.queue_position = self.inner.admission.position(job_id);
            }
            return Ok(job);
        }
        let stored = self.inner.journal.job(caller, job_id).await?;
        Ok(stored.ended.or(stored.record.job).unwrap_or_default())
    }

    /// Waits until the job has ended and returns it.
    ///
    /// # Errors
    /// As [`JobService::get`]; [`Reason::Shutdown`] when the gateway shuts down first.
    pub async fn wait(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        // The log shows the end of every job, even of one that is just being launched and not in the live table yet.
        let mut follower = self.follow(caller, job_id, 0).await?;
        tokio::select! {
            // Cancel safe: both branches only wait.
            biased;
            ended = follower.wait_for_end() => ended?,
            () = self.inner.closing.cancelled() => {}
        }
        if let Some(live) = self.find_live(caller, job_id) {
            tokio::select! {
                biased;
                () = live.ended.cancelled() => {}
                () = self.inner.closing.cancelled() => {}
            }
        }
        let job = self.get(caller, job_id).await?;
        if job.state().is_terminal() {
            return Ok(job);
        }
        // Not SHUTTING_DOWN, which would tell the client that nothing was accepted.
        let message = "the gateway is shutting down; the job stays queued and runs after its restart: read it by its id then";
        Err(Error::new(Reason::Shutdown, message).for_job(job_id.as_str()))
    }

    /// Waits until the job has ended or has an open question, and returns it.
    ///
    /// # Errors
    /// As [`JobService::wait`].
    pub async fn wait_or_question(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        let live = self.find_live(caller, job_id);
        loop {
            let asks = async {
                match &live {
                    Some(live) => live.wait_for_question().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The end takes precedence over a question. Cancel safe: both branches only wait.
                biased;
                job = self.wait(caller, job_id) => return job,
                () = asks => {}
            }
            // The question may have been answered in the meantime.
            let job = self.get(caller, job_id).await?;
            if job.question.is_some() {
                return Ok(job);
            }
            if live.as_ref().is_some_and(|live| live.ended.is_cancelled()) {
                return self.wait(caller, job_id).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns a page of the caller's jobs, newest first, as summaries or whole jobs: up to `page_size` (0 means 50, at most
    /// 500), and fewer where they would exceed [`MAX_PAGE_BYTES`].
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] for an invalid page size or page token; [`Reason::StoreUnavailable`].
    pub async fn list(
        &self,
        caller: &Principal,
        filter: &Filter,
        page_size: u32,
        page_token: &str,
        is_whole: bool,
    ) -> Result<JobPage> {
        let limit = match page_size {
            0 => 50,
            1..=500 => page_size as usize,
            _ => return Err(Error::invalid("page_size", "must be 1 to 500")),
        };
        let before = match page_token {
            "" => None,
            token => Some(
                JobId::parse(token)
                    .map_err(|_| Error::invalid("page_token", "is not one that a page gave"))?,
            ),
        };
        let page = self.inner.journal.list(caller, filter, before.as_ref(), limit).await?;
        let mut jobs: Vec<Job> = Vec::with_capacity(page.jobs.len());
        let (mut bytes, mut has_more) = (0, page.has_more);
        let mut last = None;
        for listed in page.jobs {
            let job_id = JobId::parse(&listed.job_id)?;
            let job = match is_whole {
                false => {
                    self.find_live(caller, &job_id).map_or(listed, |live| summary(&live.stored_snapshot()))
                }
                true => match self.get(caller, &job_id).await {
                    Ok(job) => job,
                    // The job was removed after the page was read.
                    Err(error) if error.reason() == Reason::JobNotFound => continue,
                    // The summary is all that is left of the job, or all that can be read now.
                    Err(error) if matches!(error.reason(), Reason::DataLoss | Reason::StoreUnavailable) => {
                        listed
                    }
                    Err(error) => return Err(error),
                },
            };
            bytes += job.encoded_len();
            if bytes > MAX_PAGE_BYTES && !jobs.is_empty() {
                has_more = true;
                break;
            }
            jobs.push(job);
            last = Some(job_id);
        }
        let next_page_token = last.filter(|_| has_more).map(|last| last.to_string()).unwrap_or_default();
        Ok(JobPage { jobs, next_page_token })
    }
}
