//! A job's complete answer, read by the job's id: events and listings carry at most 96 KiB of it.

use bytes::Bytes;

use super::{JobId, JobService};
use crate::{
    error::{Error, Reason, Result},
    pb::job::Outcome,
    principal::Principal,
};

/// The most bytes that are read at a time.
pub(crate) const RESULT_PIECE_BYTES: usize = 256 * 1024;

/// A complete answer that can be read in pieces.
#[derive(Clone, Debug)]
pub struct WholeResult {
    /// The job that gave the answer.
    pub job_id: JobId,
    /// Its length in bytes.
    pub bytes: u64,
    /// The whole answer, if it fits an event.
    inline: Option<Bytes>,
}

impl JobService {
    /// Returns the complete answer of a job that succeeded, to be read with [`JobService::result_piece`].
    ///
    /// # Errors
    /// [`Reason::JobNotFound`], also after retention removed the job; [`Reason::JobNotEnded`]; [`Reason::NoResult`] if the
    /// job did not succeed.
    pub async fn result(&self, caller: &Principal, job_id: &JobId) -> Result<WholeResult> {
        let job = self.get(caller, job_id).await?;
        match job.outcome {
            Some(Outcome::Result(result)) => {
                let is_inline = result.result_bytes as usize <= result.text.len();
                let bytes = if is_inline { result.text.len() as u64 } else { result.result_bytes.into() };
                let inline = is_inline.then(|| Bytes::from(result.text));
                Ok(WholeResult { job_id: job_id.clone(), bytes, inline })
            }
            Some(Outcome::Error(error)) => {
                let message = format!("the job has no result: it ended with {}; read the job", error.reason);
                Err(Error::new(Reason::NoResult, message).for_job(job_id.as_str()))
            }
            None => {
                let message = "the job has not ended; follow it, then read its result";
                Err(Error::new(Reason::JobNotEnded, message).for_job(job_id.as_str()))
            }
        }
    }

    /// Returns the piece of the answer that starts at byte `from`, at most [`RESULT_PIECE_BYTES`] long; empty beyond the end.
    ///
    /// # Errors
    /// [`Reason::StoreUnavailable`]; [`Reason::DataLoss`] if the answer could not be stored, or was damaged;
    /// [`Reason::JobNotFound`] if the job was removed in the meantime.
    pub async fn result_piece(&self, result: &WholeResult, from: u64) -> Result<Bytes> {
        match &result.inline {
            Some(text) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
                Ok(text.slice(from..text.len().min(from.saturating_add(RESULT_PIECE_BYTES))))
            }
            None => self.journal().result(&result.job_id, from, RESULT_PIECE_BYTES).await,
        }
    }

    /// Returns the complete answer as text.
    ///
    /// # Errors
    /// As [`JobService::result`] and [`JobService::result_piece`].
    pub async fn result_text(&self, caller: &Principal, job_id: &JobId) -> Result<String> {
        let result = self.result(caller, job_id).await?;
        let mut text = Vec::new();
        while (text.len() as u64) < result.bytes {
            let piece = self.result_piece(&result, text.len() as u64).await?;
            if piece.is_empty() {
                return Err(
                    Error::new(Reason::DataLoss, "the end of the answer is lost").for_job(job_id.as_str())
                );
            }
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).map_err(Error::internal)
    }
}
