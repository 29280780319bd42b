//! The service: what every door calls.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Condition, Config, admission::Admission, live::Live, readiness::Readiness, worker::Worker};
use crate::{
    agent,
    error::{Error, Reason, Result},
    journal::{Filter, Follower, JobId, Journal, summary},
    pb::{Job, JobState},
    principal::Principal,
    task::Group,
};

/// Jobs for every door. Clones share the service.
#[derive(Clone)]
pub struct JobService {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    journal: Journal,
    worker: Arc<dyn Worker>,
    admission: Arc<Admission>,
    live: Mutex<BTreeMap<JobId, Arc<Live>>>,
    tasks: Group,
    closing: CancellationToken,
    /// Ended jobs are more, or larger, than retention allows.
    retention_due: Notify,
    readiness: Readiness,
}

/// Who ended a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelledBy {
    /// A caller, by name.
    Caller(String),
    /// The client that had submitted it left, and had asked for this.
    Disconnect,
    /// The gateway's shutdown.
    Shutdown,
}

/// A page of jobs.
#[derive(Clone, Debug, Default)]
pub struct JobPage {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// Where the next page begins; empty on the last one.
    pub next_page_token: String,
}

/// Tasks that only wait have ended after this time.
const STOP_TIME: Duration = Duration::from_millis(200);

/// The cancel of a waiting job is answered when it is stored, at the latest after this time.
const QUEUED_CANCEL_TIME: Duration = Duration::from_secs(5);

/// An answer is written among the events within this time, or it is not known whether it was.
const INPUT_TIME: Duration = Duration::from_secs(10);
/// How often it is looked whether the store takes anything, and how long that may take.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
const STORE_CHECK_TIME: Duration = Duration::from_secs(5);
/// A page of whole jobs holds no more than this, as protobuf; JSON takes up to twice as much. Below what gRPC clients take by
/// default.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// How long a deletion waits for the store.
const DELETE_TIME: Duration = Duration::from_secs(10);

impl JobService {
    /// Makes the service and takes in what the process before this one left unfinished.
    pub async fn start(config: Config, journal: Journal, worker: Arc<dyn Worker>) -> Self {
        let admission = Arc::new(Admission::new(config.bounds()));
        let inner = Inner {
            config,
            journal,
            worker,
            admission,
            live: Mutex::default(),
            tasks: Group::new("jobs"),
            closing: CancellationToken::new(),
            retention_due: Notify::new(),
            readiness: Readiness::default(),
        };
        let service = Self { inner: Arc::new(inner) };
        service.recover().await;
        let expirer = service.clone();
        service.inner.tasks.spawn("retention", async move { expirer.expire_until_stopped().await });
        let checker = service.clone();
        service.inner.tasks.spawn("store_check", async move { checker.check_store_until_stopped().await });
        service
    }

    /// The journal behind it.
    pub fn journal(&self) -> &Journal {
        &self.inner.journal
    }

    pub(super) fn worker(&self) -> &dyn Worker {
        &*self.inner.worker
    }

    pub(super) fn admission(&self) -> &Arc<Admission> {
        &self.inner.admission
    }

    pub(super) fn tasks(&self) -> &Group {
        &self.inner.tasks
    }

    pub(super) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// A job has ended: the disk is bounded by retention at once, not only when retention looks.
    pub(super) fn check_retention(&self) {
        self.inner.retention_due.notify_one();
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Live>>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert_live(&self, live: Arc<Live>) {
        self.live().insert(live.job_id.clone(), live);
    }

    pub(super) fn remove_live(&self, job_id: &JobId) {
        self.live().remove(job_id);
    }

    pub(super) fn find_live(&self, caller: &Principal, job_id: &JobId) -> Option<Arc<Live>> {
        let live = self.live().get(job_id).cloned()?;
        self.inner.journal.policy().may_access(caller, &live.caller).then_some(live)
    }

    /// Follows a job's events behind `after_sequence`, live or late.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::CursorBeyondLog`].
    pub async fn follow(&self, caller: &Principal, job_id: &JobId, after_sequence: u32) -> Result<Follower> {
        self.inner.journal.follow(caller, job_id, after_sequence).await
    }

    /// Is cancelled when streams have to end because the gateway does.
    pub fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// Reads a job as it is now.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::DataLoss`], [`Reason::StoreUnavailable`].
    pub async fn get(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        let mut job = self.read(caller, job_id).await?;
        job.task = job.task.take().map(agent::masked);
        Ok(job)
    }

    async fn read(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        if let Some(live) = self.find_live(caller, job_id) {
            let mut job = live.told();
            if job.state() == JobState::Queued {
                job.queue_position = self.inner.admission.position(job_id);
            }
            return Ok(job);
        }
        let stored = self.inner.journal.job(caller, job_id).await?;
        Ok(stored.ended.or(stored.record.job).unwrap_or_default())
    }

    /// Waits until the job has ended and reads it.
    ///
    /// # Errors
    /// As [`JobService::get`]; [`Reason::Shutdown`] when the gateway ends first.
    pub async fn wait(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        // The log tells the end of every job, also of one that is being launched in this moment.
        let mut follower = self.follow(caller, job_id, 0).await?;
        tokio::select! {
            // Both branches only wait.
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
        // Not SHUTTING_DOWN, which would say that nothing was accepted.
        let message = "the gateway is shutting down; the job stays queued and runs after its restart: read it by its id then";
        Err(Error::new(Reason::Shutdown, message).for_job(job_id.as_str()))
    }

    /// Waits until the job has ended, or asks something, and reads it.
    ///
    /// # Errors
    /// As [`JobService::wait`].
    pub async fn wait_or_question(&self, caller: &Principal, job_id: &JobId) -> Result<Job> {
        let live = self.find_live(caller, job_id);
        loop {
            let asks = async {
                match &live {
                    Some(live) => live.asks().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The end first. Both branches only wait.
                biased;
                job = self.wait(caller, job_id) => return job,
                () = asks => {}
            }
            // A question that was answered meanwhile is none.
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

    /// The caller's jobs, newest first: summaries, or whole jobs as many as [`MAX_PAGE_BYTES`] hold.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] for a page token that is none.
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
                false => self.find_live(caller, &job_id).map_or(listed, |live| summary(&live.told())),
                true => match self.get(caller, &job_id).await {
                    Ok(job) => job,
                    // Removed since the page was made.
                    Err(error) if error.reason() == Reason::JobNotFound => continue,
                    // The summary is what is left of it, or all that can be read now.
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

    /// Asks a job to end and waits up to `wait` for it. Cancelling an ended job changes nothing.
    ///
    /// # Errors
    /// As [`JobService::get`].
    pub async fn cancel(
        &self,
        caller: &Principal,
        job_id: &JobId,
        by: CancelledBy,
        wait: Duration,
    ) -> Result<Job> {
        if let Some(live) = self.find_live(caller, job_id) {
            // One that waits is ended in a moment, and whoever was told of the cancel must not find it run after a crash.
            let wait =
                if live.told().state() == JobState::Queued { wait.max(QUEUED_CANCEL_TIME) } else { wait };
            live.request_cancel(by);
            // An end that does not come in time is seen in the job's state.
            let _is_late = tokio::time::timeout(wait, live.ended.cancelled()).await;
        }
        self.get(caller, job_id).await
    }

    /// Asks a job to end, without waiting or asking back. For a client that has left.
    pub fn cancel_now(&self, caller: &Principal, job_id: &JobId, by: CancelledBy) {
        if let Some(live) = self.find_live(caller, job_id) {
            live.request_cancel(by);
        }
    }

    /// Removes an ended job and its events.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::JobNotEnded`], [`Reason::StoreUnavailable`].
    pub async fn delete(&self, caller: &Principal, job_id: &JobId) -> Result<()> {
        // In a task of its own: a client that leaves now must not leave a job behind that is listed and not there.
        let (service, caller, job_id) = (self.clone(), caller.clone(), job_id.clone());
        let deleted = self
            .inner
            .tasks
            .spawn("delete", async move { service.inner.journal.delete(&caller, &job_id).await });
        match tokio::time::timeout(DELETE_TIME, deleted).await {
            Ok(deleted) => deleted.map_err(Error::internal)?,
            Err(_) => Err(Error::new(
                Reason::StoreUnavailable,
                "the store does not answer; it is not known whether the job was deleted, so ask again",
            )),
        }
    }

    /// Answers the open question of a job. When this answers, the answer is among the job's events.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`]; [`Reason::NoOpenQuestion`]; [`Reason::InvalidArgument`] when the answer does not fit the
    /// question's schema, which then stays open.
    pub async fn send_input(
        &self,
        caller: &Principal,
        job_id: &JobId,
        input_id: &str,
        value: serde_json::Value,
    ) -> Result<Job> {
        let Some(live) = self.find_live(caller, job_id) else {
            let job = self.get(caller, job_id).await?;
            let state = job.state().short_name();
            let message = format!("the job is {state} and asks nothing any more");
            return Err(Error::new(Reason::NoOpenQuestion, message).for_job(job_id.as_str()));
        };
        let taken = live
            .inputs
            .answer(input_id, value, caller.name())
            .map_err(|error| error.for_job(job_id.as_str()))?;
        let taken_and_stored = async {
            let taken = taken.await;
            live.stored().await;
            taken
        };
        match tokio::time::timeout(INPUT_TIME, taken_and_stored).await {
            Ok(Ok(())) => self.get(caller, job_id).await,
            Ok(Err(_)) => {
                let message = "the job ended before it took the answer; read its events";
                Err(Error::new(Reason::NoOpenQuestion, message).for_job(job_id.as_str()))
            }
            Err(_) => {
                let message = "the answer was handed over, and it is not known yet whether it was taken; read the job's events";
                Err(Error::new(Reason::StoreUnavailable, message).for_job(job_id.as_str()))
            }
        }
    }

    /// How many jobs run, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        self.inner.admission.counts()
    }

    /// Why new jobs should go elsewhere, now and whenever that changes; `None`: they are welcome.
    pub fn readiness(&self) -> watch::Receiver<Option<String>> {
        self.inner.readiness.watch()
    }

    /// Notes what is against new jobs, or that nothing is. They are still taken where they can be.
    pub fn set_condition(&self, condition: Condition, why: Option<String>) {
        self.inner.readiness.set(condition, why);
    }

    async fn check_store_until_stopped(&self) {
        let mut interval = tokio::time::interval(STORE_CHECK_INTERVAL);
        loop {
            tokio::select! {
                // Both branches only wait.
                biased;
                () = self.inner.tasks.stopping().cancelled() => return,
                _ = interval.tick() => {}
            }
            let checked = tokio::time::timeout(STORE_CHECK_TIME, self.inner.journal.check()).await;
            let why = match checked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.message().to_owned()),
                Err(_) => Some("the store does not answer".to_owned()),
            };
            self.set_condition(Condition::Store, why);
        }
    }

    /// The tasks that run now, by name.
    pub fn running_tasks(&self) -> BTreeMap<&'static str, usize> {
        self.inner.tasks.running()
    }

    async fn expire_until_stopped(&self) {
        let mut interval = tokio::time::interval(self.inner.config.retention_interval());
        loop {
            tokio::select! {
                // Both branches only wait.
                biased;
                () = self.inner.retention_due.notified() => {}
                _ = interval.tick() => {}
                () = self.inner.tasks.stopping().cancelled() => return,
            }
            let removed =
                self.inner.journal.expire(&self.inner.config.retention(), self.inner.tasks.stopping()).await;
            if removed > 0 {
                tracing::debug!(removed, "retention removed jobs");
            }
        }
    }

    /// Says that new jobs should go elsewhere; they are still taken.
    pub fn set_not_ready(&self) {
        self.set_condition(Condition::Leaving, Some("shutting down".to_owned()));
    }

    /// Takes no new jobs, and waits up to `grace` for the running ones. Queued ones stay queued: the next start
    /// runs them. Answers whether all have ended.
    pub async fn finish_running(&self, grace: Duration) -> bool {
        self.set_not_ready();
        self.inner.admission.close();
        self.inner.tasks.stop();
        // What only has to see that it is to stop does so in a moment, whatever the grace is.
        self.inner.tasks.drain(grace.max(STOP_TIME)).await
    }

    /// Cancels what still runs and waits up to `grace` for it. Answers whether all have ended.
    pub async fn interrupt_running(&self, grace: Duration) -> bool {
        let left: Vec<_> = self.live().values().cloned().collect();
        if !left.is_empty() {
            tracing::warn!(jobs = left.len(), "running jobs are interrupted by the shutdown");
        }
        for live in left {
            live.request_cancel(CancelledBy::Shutdown);
        }
        self.inner.tasks.drain(grace).await
    }

    /// Ends every stream.
    pub fn close_streams(&self) {
        self.inner.closing.cancel();
    }
}
