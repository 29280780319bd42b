//! Reading jobs, their events and results, and lists of them.

use super::super::{
    EventFollower, Filter, JobId, MAX_SEQUENCE, Query, StoredJob, Unfinished, catalogue::unreadable,
    follower::Source,
};
use super::{Journal, Page};
use crate::{
    error::{Error, Reason, Result},
    principal::Principal,
};
use bytes::Bytes;
use std::collections::VecDeque;

impl Journal {
    /// Follows the events of a job after `after_sequence`.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`]; [`Reason::CursorBeyondLog`] with the last sequence of the log; [`Reason::DataLoss`] if nothing is
    /// left of the job; [`Reason::StoreUnavailable`] if it cannot be read now.
    pub async fn follow(
        &self,
        principal: &Principal,
        job_id: &JobId,
        after_sequence: u32,
    ) -> Result<EventFollower> {
        let log = self.live().get(job_id).cloned();
        let (source, last_sequence) = match log {
            Some(log) if !self.inner.policy.may_access(principal, &log.owner) => {
                return Err(JobId::not_found(job_id.as_str()));
            }
            Some(log) => {
                let mut last_sequence = log.mark.now().last_sequence;
                if after_sequence > last_sequence {
                    // The event may have been stored and read through another gateway before this one has seen the append
                    // confirmed.
                    last_sequence = self.known(principal, job_id).await?.last_sequence.max(last_sequence);
                }
                (Source::Live(log), last_sequence)
            }
            None => {
                let known = self.known(principal, job_id).await?;
                if let Some(fault) = known.fault {
                    return Err(unreadable(job_id, fault));
                }
                let last_sequence = known.last_sequence.min(MAX_SEQUENCE);
                match known.is_ended {
                    true => (Source::Ended { last_sequence }, last_sequence),
                    false => (Source::Elsewhere { last_sequence }, last_sequence),
                }
            }
        };
        if after_sequence > last_sequence.min(MAX_SEQUENCE) {
            let message = format!(
                "the cursor {after_sequence} lies beyond the log, whose last sequence is {last_sequence}; read on from there"
            );
            return Err(Error::new(Reason::CursorBeyondLog, message)
                .with_sequence(last_sequence)
                .for_job(job_id.as_str()));
        }
        Ok(self.follower(job_id, source, after_sequence))
    }

    fn follower(&self, job_id: &JobId, source: Source, after_sequence: u32) -> EventFollower {
        EventFollower {
            job_id: job_id.clone(),
            events: self.inner.events.clone(),
            cache: self.inner.cache.clone(),
            source,
            next_sequence: after_sequence + 1,
            reader: None,
            read_ahead: VecDeque::new(),
        }
    }

    /// Follows the stored events of a claimed job before its log is reopened; ends after the last of them.
    pub fn replay(&self, unfinished: &Unfinished) -> EventFollower {
        let source = Source::Ended { last_sequence: unfinished.last_sequence };
        self.follower(&unfinished.claim.job_id, source, 0)
    }

    /// Checks that the store accepts writes now.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn check(&self) -> Result<()> {
        self.inner.catalogue.check().await
    }

    /// Returns at most `max_bytes` of a stored result from byte `from` on. The caller must have checked who owns the job.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`], [`Reason::DataLoss`].
    pub async fn result(&self, job_id: &JobId, from: u64, max_bytes: usize) -> Result<Bytes> {
        self.inner.events.result(job_id, from, max_bytes).await
    }

    /// Returns a job as it is stored.
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], [`Reason::StoreUnavailable`], [`Reason::DataLoss`].
    pub async fn job(&self, principal: &Principal, job_id: &JobId) -> Result<StoredJob> {
        let mut known = self.known(principal, job_id).await?;
        loop {
            if let Some(fault) = known.fault {
                return Err(unreadable(job_id, fault));
            }
            let mut stored = self.inner.catalogue.read(job_id).await?;
            // Read again afterwards, so that a caller who has meanwhile seen an event is not shown an older state of the job.
            known = self.known(principal, job_id).await?;
            match (&stored.ended, &mut stored.record.job) {
                (Some(_), _) | (None, None) => return Ok(stored),
                // The job has ended since it was read, so it is read again.
                (None, Some(_)) if known.is_ended => {}
                (None, Some(job)) => {
                    job.set_state(known.state);
                    job.last_sequence = known.last_sequence;
                    return Ok(stored);
                }
            }
        }
    }

    /// Returns a page of at most `limit` summaries of the jobs of the principal before `before`, newest first.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`].
    pub async fn list(
        &self,
        principal: &Principal,
        filter: &Filter,
        before: Option<&JobId>,
        limit: usize,
    ) -> Result<Page> {
        let query = Query {
            owner: principal.clone(),
            filter: filter.clone(),
            before: before.cloned(),
            limit: limit.saturating_add(1),
        };
        let mut jobs = self.inner.catalogue.list(&query).await?;
        let has_more = jobs.len() > limit;
        jobs.truncate(limit);
        Ok(Page { jobs, has_more })
    }
}
