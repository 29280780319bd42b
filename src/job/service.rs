//! The job service, which every door calls.

mod reads;

pub(crate) use reads::ChangedJob;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    CancelledBy, JobsConfig, NotReadyCause,
    admission::Admission,
    live_job::LiveJob,
    readiness::Readiness,
    watchers::{JobChanges, Watchers},
    worker::Worker,
};
use crate::{
    error::{Error, Reason, Result},
    journal::{JobId, Journal},
    pb::{Job, JobState},
    principal::Principal,
    sync::lock,
    task::Group,
};

/// The job service of every door. Clones share its state.
#[derive(Clone)]
pub struct JobService {
    inner: Arc<JobServiceInner>,
}

struct JobServiceInner {
    config: Mutex<Arc<JobsConfig>>,
    journal: Journal,
    worker: Arc<dyn Worker>,
    admission: Arc<Admission>,
    live: Mutex<BTreeMap<JobId, Arc<LiveJob>>>,
    /// The jobs that are being stored and are not live yet. Their idempotency keys may be found meanwhile.
    launching: Mutex<BTreeMap<JobId, CancellationToken>>,
    tasks: Group,
    closing: CancellationToken,
    /// Notified when a job ends, so that retention runs at once.
    retention_due: Notify,
    readiness: Readiness,
    watchers: Arc<Watchers>,
}

/// A page of a job listing.
#[derive(Clone, Debug, Default)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// The token of the next page; empty on the last one.
    pub next_page_token: String,
}

/// The least time that shutdown grants to tasks which only have to notice the stop signal.
const STOP_TIME: Duration = Duration::from_millis(200);

/// The least time that cancelling a queued job waits for its end to be stored.
const QUEUED_CANCEL_TIME: Duration = Duration::from_secs(5);

/// How long an answer may take to be written among the job's events; after that it is unknown whether it was.
const INPUT_TIME: Duration = Duration::from_secs(10);
/// The interval of the store's health check, and the time after which one counts as failed.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
const STORE_CHECK_TIME: Duration = Duration::from_secs(5);
/// The most bytes of jobs on a page, as protobuf; JSON takes up to twice as much. It is below the default message limit of
/// gRPC clients.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// How long a deletion waits for the store.
const DELETE_TIME: Duration = Duration::from_secs(10);

impl JobService {
    /// Creates the service, starts its background tasks and claims the unfinished jobs that no process holds: a queued job
    /// is queued again, and a running job ends as interrupted without being run again. Waits at most 10 seconds for the
    /// store; what it cannot do by then is logged and retried in the background.
    pub async fn start(config: JobsConfig, journal: Journal, worker: Arc<dyn Worker>) -> Self {
        let admission = Arc::new(Admission::new(config.bounds()));
        let inner = JobServiceInner {
            config: Mutex::new(Arc::new(config)),
            journal,
            worker,
            admission,
            live: Mutex::default(),
            launching: Mutex::default(),
            tasks: Group::new("jobs"),
            closing: CancellationToken::new(),
            retention_due: Notify::new(),
            readiness: Readiness::default(),
            watchers: Arc::default(),
        };
        let service = Self { inner: Arc::new(inner) };
        service.recover().await;
        let expirer = service.clone();
        service.inner.tasks.spawn("retention", async move { expirer.expire_until_stopped().await });
        let checker = service.clone();
        service.inner.tasks.spawn("store_check", async move { checker.check_store_until_stopped().await });
        service
    }

    /// Returns the journal that stores the jobs.
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

    pub(super) fn config(&self) -> Arc<JobsConfig> {
        lock(&self.inner.config).clone()
    }

    /// Replaces the limits and the retention. Running jobs keep the limits that they started with; the bounds on logs and their
    /// latest events stay as they were.
    pub fn reconfigure(&self, config: JobsConfig) {
        self.inner.admission.set_bounds(config.bounds());
        *lock(&self.inner.config) = Arc::new(config);
        self.check_retention();
    }

    /// Makes retention run at once, so that the disk's bound holds as soon as a job has ended.
    pub(super) fn check_retention(&self) {
        self.inner.retention_due.notify_one();
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<LiveJob>>> {
        lock(&self.inner.live)
    }

    pub(super) fn insert_live(&self, live: Arc<LiveJob>) {
        self.live().insert(live.job_id.clone(), live.clone());
        self.tell_watchers(&live);
    }

    /// Removes a job that has ended from the live jobs.
    pub(super) fn remove_live(&self, job_id: &JobId) {
        let removed = self.live().remove(job_id);
        if let Some(live) = removed {
            self.tell_watchers(&live);
        }
    }

    /// Tells whoever watches this job's owner's jobs that its state has changed.
    pub(super) fn tell_watchers(&self, live: &LiveJob) {
        let policy = self.inner.journal.policy();
        self.inner.watchers.changed(&live.job_id, |caller| policy.may_access(caller, &live.caller));
    }

    /// Subscribes to the states of all jobs of a caller.
    pub(crate) fn changes(&self, caller: &Principal) -> JobChanges {
        self.inner.watchers.subscribe(caller)
    }

    pub(super) fn launching(&self) -> MutexGuard<'_, BTreeMap<JobId, CancellationToken>> {
        lock(&self.inner.launching)
    }

    pub(super) fn find_live(&self, caller: &Principal, job_id: &JobId) -> Option<Arc<LiveJob>> {
        let live = self.live().get(job_id).cloned()?;
        self.inner.journal.policy().may_access(caller, &live.caller).then_some(live)
    }

    /// Returns the token that is cancelled when all streams have to end because the gateway shuts down.
    pub fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// Asks a job to end, waits for its end up to `wait` (for a queued job up to 5 seconds if `wait` is shorter), and returns
    /// the job. Cancelling an ended job changes nothing.
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
            // A queued job ends quickly, and once its cancellation was reported it must not run after a crash.
            let wait = if live.stored_snapshot().state() == JobState::Queued {
                wait.max(QUEUED_CANCEL_TIME)
            } else {
                wait
            };
            live.request_cancel(by);
            // If the end is late, the returned job's state shows it.
            let _is_late = tokio::time::timeout(wait, live.ended.cancelled()).await;
        }
        self.get(caller, job_id).await
    }

    /// Asks a job to end and returns at once, also if there is no such job. For a client that has left.
    pub fn cancel_now(&self, caller: &Principal, job_id: &JobId, by: CancelledBy) {
        if let Some(live) = self.find_live(caller, job_id) {
            live.request_cancel(by);
        }
    }

    /// Deletes an ended job and its events.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::JobNotEnded`], [`Reason::StoreUnavailable`].
    pub async fn delete(&self, caller: &Principal, job_id: &JobId) -> Result<()> {
        // Runs in its own task: a client that disconnects must not interrupt a deletion and leave a job that is listed but
        // gone.
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

    /// Answers the open question of a job. Returns once the answer is stored among the job's events.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`]; [`Reason::NoOpenQuestion`]; [`Reason::InvalidArgument`] or [`Reason::TooLarge`], after which
    /// the question stays open; [`Reason::StoreUnavailable`] when it is unknown whether the answer was taken.
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

    /// Returns how many jobs have started and not ended, and how many are queued.
    pub fn counts(&self) -> (usize, usize) {
        self.inner.admission.counts()
    }

    /// Returns the reason why new jobs should go elsewhere, and its changes; `None` while the gateway is ready.
    pub fn readiness(&self) -> watch::Receiver<Option<String>> {
        self.inner.readiness.watch()
    }

    /// Sets or clears the reason of one condition for which new jobs should go elsewhere. Jobs are still accepted where
    /// possible.
    pub fn set_condition(&self, condition: NotReadyCause, why: Option<String>) {
        self.inner.readiness.set(condition, why);
    }

    async fn check_store_until_stopped(&self) {
        let mut interval = tokio::time::interval(STORE_CHECK_INTERVAL);
        loop {
            tokio::select! {
                // Cancel safe: both branches only wait.
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
            self.set_condition(NotReadyCause::Store, why);
        }
    }

    /// Returns the number of running tasks by name.
    pub fn running_tasks(&self) -> BTreeMap<&'static str, usize> {
        self.inner.tasks.running()
    }

    async fn expire_until_stopped(&self) {
        let mut interval = Duration::ZERO;
        loop {
            tokio::select! {
                // Cancel safe: every branch only waits.
                biased;
                () = self.inner.retention_due.notified() => {}
                () = tokio::time::sleep(interval) => {}
                () = self.inner.tasks.stopping().cancelled() => return,
            }
            let config = self.config();
            interval = config.retention_interval();
            let removed = self.inner.journal.expire(&config.retention(), self.inner.tasks.stopping()).await;
            if removed > 0 {
                tracing::debug!(removed, "retention removed jobs");
            }
        }
    }

    /// Reports that new jobs should go elsewhere; they are still accepted.
    pub fn set_not_ready(&self) {
        self.set_condition(NotReadyCause::Leaving, Some("shutting down".to_owned()));
    }

    /// Accepts no new jobs and waits for the running ones, for up to `grace` or 200 ms, whichever is longer. Queued jobs stay
    /// queued for the next start. Returns whether all of the service's tasks have ended.
    pub async fn finish_running(&self, grace: Duration) -> bool {
        self.set_not_ready();
        self.inner.admission.close();
        self.inner.tasks.stop();
        // Tasks that only have to notice the stop signal need a moment even if the grace period is zero.
        self.inner.tasks.drain(grace.max(STOP_TIME)).await
    }

    /// Cancels the jobs that still run and waits up to `grace` for them. Returns whether all of the service's tasks have
    /// ended.
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

    /// Ends every stream of events.
    pub fn close_streams(&self) {
        self.inner.closing.cancel();
    }
}
