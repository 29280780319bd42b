//! Following the events of a job, over cuts and restarts of its gateway.

use prost::Message;
use tokio::time::Instant;
use tonic::{Streaming, transport::Channel};

use super::connection::{FIRST_WAIT, LONGEST_WAIT, PATIENCE, is_cut, refused};
use crate::{
    error::{Error, Reason, Result},
    pb::{EventFrame, JobEvent, WatchJobRequest, gateway_service_client::GatewayServiceClient},
    sync::back_off,
};

/// What following a job brings.
#[derive(Debug)]
pub enum Followed {
    /// The next event; each comes once, in order.
    Event(Box<JobEvent>),
    /// The stream was cut, or the gateway does not answer; the next call tries again. Said once for each silence.
    Cut,
}

/// Reads a job's events to the last one. It goes on behind the last event that it has seen, whatever happens to the connection or the
/// gateway.
#[derive(Debug)]
pub struct Follower {
    calls: GatewayServiceClient<Channel>,
    job_id: String,
    last_sequence: u32,
    frames: Option<Streaming<EventFrame>>,
    attempts: u32,
    /// When the last sign of life came. A stream that opens and brings nothing is none.
    alive: Instant,
    /// When the next attempt to open the stream is due.
    next_attempt: Option<Instant>,
    has_ended: bool,
}

impl Follower {
    pub(super) fn new(calls: GatewayServiceClient<Channel>, job_id: String, last_sequence: u32) -> Self {
        Self {
            calls,
            job_id,
            last_sequence,
            frames: None,
            attempts: 0,
            alive: Instant::now(),
            next_attempt: None,
            has_ended: false,
        }
    }

    /// Returns the sequence of the last event that was returned.
    pub fn last_sequence(&self) -> u32 {
        self.last_sequence
    }

    /// Returns the next event; `None` behind the job's last one. Cancel safe.
    ///
    /// # Errors
    /// The gateway's refusal; [`Reason::Unreachable`] if there was no sign of life for five minutes.
    pub async fn next(&mut self) -> Result<Option<Followed>> {
        loop {
            if self.has_ended {
                return Ok(None);
            }
            let Some(frames) = &mut self.frames else {
                if let Some(followed) = self.open().await? {
                    return Ok(Some(followed));
                }
                continue;
            };
            match frames.message().await {
                Ok(Some(frame)) => {
                    (self.attempts, self.alive) = (0, Instant::now());
                    let Some(event) = frame.event else { continue };
                    let event = JobEvent::decode(event).map_err(Error::internal)?;
                    self.last_sequence = event.sequence;
                    return Ok(Some(Followed::Event(Box::new(event))));
                }
                // The gateway ends a stream without an error behind the job's last event only.
                Ok(None) => self.has_ended = true,
                Err(status) if is_cut(&status) => {
                    self.frames = None;
                    if let Some(followed) = self.cut()? {
                        return Ok(Some(followed));
                    }
                }
                Err(status) => return Err(refused(&status)),
            }
        }
    }

    /// Opens the stream when its next attempt is due.
    async fn open(&mut self) -> Result<Option<Followed>> {
        if let Some(due) = self.next_attempt {
            tokio::time::sleep_until(due).await;
        }
        let request = WatchJobRequest { job_id: self.job_id.clone(), after_sequence: self.last_sequence };
        match self.calls.watch_job(request).await {
            Ok(frames) => {
                (self.frames, self.next_attempt) = (Some(frames.into_inner()), None);
                Ok(None)
            }
            Err(status) if is_cut(&status) => self.cut(),
            Err(status) => Err(refused(&status)),
        }
    }

    fn cut(&mut self) -> Result<Option<Followed>> {
        if self.alive.elapsed() > PATIENCE {
            let message = format!("the events of {} are cut again and again; the job may go on", self.job_id);
            return Err(Error::new(Reason::Unreachable, message));
        }
        self.attempts += 1;
        self.next_attempt = Some(Instant::now() + back_off(self.attempts, FIRST_WAIT, LONGEST_WAIT));
        Ok((self.attempts == 1).then_some(Followed::Cut))
    }
}
